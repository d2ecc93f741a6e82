"""What is submitted: a run's configuration and a command, under a name that tells one from another."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property

from .. import storage
from ..config.load import dump
from ..config.run import Config
from ..config.tokenize import TokenizeSpec
from ..errors import ConfigError, ExistingOutputError
from ..runs.folder import RunFolder

LONGEST = 29  # characters of a release's name: a RayJob's name adds "-sortase-" and a digest, and KubeRay its own


def short_name(name: str) -> str:
    """A name for Kubernetes, of lower-case letters, digits and '-': ``Cells_v2`` is ``cells-v2``. What is too long ends
    in a digest of the whole."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain or not plain[0].isalpha():
        plain = f"run-{plain}".rstrip("-")
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[: LONGEST - 7].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Submission:
    """One attempt of one configuration. The same again has the same ``identity``, whoever submits it."""

    config: Config
    settings: dict[str, object]  # run.yaml as the user wrote it, overrides applied
    command: str = "run"
    arguments: tuple[str, ...] = ()
    attempt: int = 1

    @cached_property
    def name(self) -> str:
        return short_name(self.config.run.name)

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder(storage.join(self.config.run.output, self.config.run.name))

    @property
    def run_yaml(self) -> str:
        return dump(self.settings)

    @cached_property
    def digest(self) -> str:
        """Eight characters that change with the configuration, the command or the attempt."""
        parts = [self.settings, self.command, self.arguments, self.attempt]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def require_reachable_paths(self) -> None:
        """ConfigError for a path that cannot mean the same there: one that is relative to this folder."""
        for where, value in self.paths:
            if not storage.is_remote(value) and not value.startswith("/"):
                raise ConfigError(
                    f"{where} is {value!r}: a relative path is another one on a cluster; give a URL such as "
                    f"s3://bucket/{value.lstrip('./')}, or an absolute path that all pods mount"
                )

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Settings that are paths or URLs, by name."""
        config = self.config
        genes = config.labels.gene_class_dict
        found = {
            "run.output": config.run.output,
            "data.dataset": config.data.dataset,
            **{f"tokenize.input{place}": url for place, url in _inputs(config.tokenize)},
            "tokenize.vocabulary": config.tokenize and config.tokenize.vocabulary,
            "tokenize.medians": config.tokenize and config.tokenize.medians,
            "tokenize.gene_names": config.tokenize and config.tokenize.gene_names,
            "labels.vocabulary": config.labels.vocabulary,
            "labels.gene_class_dict": genes if isinstance(genes, str) else None,
            "predict.dataset": config.predict and config.predict.dataset,
            "gate.dataset": config.gate and config.gate.dataset,
            "registry.url": config.registry.url,
            "model.checkpoint": _path(config.model.checkpoint),
            "model.tokenizer": _path(config.model.tokenizer),
            "compute.deepspeed": config.compute.deepspeed,
        }
        return [(where, value) for where, value in found.items() if isinstance(value, str)]


def _inputs(spec: TokenizeSpec | None) -> list[tuple[str, str]]:
    given = spec.input if spec is not None else []
    return [("", given)] if isinstance(given, str) else [(f"[{place}]", url) for place, url in enumerate(given)]


def busy(job: str) -> ExistingOutputError:
    """The refusal of another submission of a run that is being worked on."""
    return ExistingOutputError(
        f"{job} works on this run with another configuration, command or attempt; wait for its end, cancel it "
        "(sortase cancel), or take another run name"
    )


def _path(value: str | None) -> str | None:
    """None for a model's name at the Hugging Face hub, which may look like a relative path."""
    return value if value is not None and storage.is_located(value) else None
