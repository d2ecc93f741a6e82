"""What the options of a command name: a submission, and the cluster it goes to."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass
from typing import Any

from .. import storage
from ..config.load import check, settings_of
from ..errors import ConfigError
from ..runs.folder import RunFolder
from .chart import Object, read_values, rendered
from .options import named
from .submission import Submission


@dataclass(frozen=True)
class Target:
    """A submission and where it goes. ``objects``: on Kubernetes."""

    submission: Submission
    backend: Any
    name: str
    objects: list[Object] | None = None

    def submit(self) -> bool:
        return bool(self.backend.submit(self.submission if self.objects is None else self.objects))

    @property
    def place(self) -> str:
        if self.objects is None:
            return f"job {self.name} of {self.backend.address}"
        return f"RayJob {self.backend.namespace}/{self.name}"


def submission_of(options: argparse.Namespace) -> tuple[Submission, dict[str, Any]]:
    """The run to submit, from run.yaml or from the values' run, and the chart's values."""
    values = read_values(options.values)
    inner = values.get("run")
    if options.config is None and not inner:
        options.config = "run.yaml"
    if options.config is not None and inner:
        raise ConfigError(f"the run is given twice: by --config {options.config} and by 'run' of {options.values}")
    if options.config is not None:
        name = options.config
        with storage.impatiently():
            text = storage.read_text(name)
    else:
        name = f"'run' of {', '.join(options.values)}"
        text = inner if isinstance(inner, str) else json.dumps(inner)
    settings = settings_of(text, options.set, name)
    values = _with_image(values, options.image)
    job = _section(values, "job")
    command = options.stage or job.get("command", "run")
    given, attempt = job.get("arguments", []), options.attempt or job.get("attempt", 1)
    if not isinstance(given, list) or not isinstance(attempt, int) or attempt < 1:
        raise ConfigError(f"arguments of a job are a list and its attempt a number from 1, not {given!r}, {attempt!r}")
    arguments = (*map(str, given), *(["--replace"] if options.replace else []))
    return Submission(check(settings, name), settings, command, arguments, attempt), values


def _with_image(values: dict[str, Any], image: str | None) -> dict[str, Any]:
    return {**values, "image": {**_section(values, "image"), **_image(image)}} if image else values


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"'{name}' of the values must hold settings by name, not {found!r}")
    return found


def _image(name: str) -> dict[str, str]:
    repository, at, digest = name.partition("@")
    if at:
        return {"repository": repository, "digest": digest}
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        raise ConfigError(f"--image {name!r} has no tag; give repository:tag or repository@sha256:...")
    return {"repository": repository, "tag": tag, "digest": ""}


def _on_ray(options: argparse.Namespace, submission: Submission) -> Target:
    if not options.address.startswith(("http://", "https://")):
        raise ConfigError(f"--address {options.address!r} must be that of Ray's dashboard, as http://127.0.0.1:8265")
    if options.values or options.namespace or options.context or options.image:
        raise ConfigError(
            f"{options.address} is a Ray cluster; --values, --namespace, --context and --image belong to Kubernetes"
        )
    from .ray_jobs import RayJobs

    jobs = RayJobs(options.address)
    return Target(submission, jobs, jobs.identity(submission))


def target_of(options: argparse.Namespace) -> Target:
    """Where the options say: a Ray address, or else Kubernetes."""
    return _target(*submission_of(options), options)


def target_for(submission: Submission, options: argparse.Namespace) -> Target:
    """The same for a submission that is made already."""
    values = _with_image(read_values(options.values), options.image)
    if values.get("run"):
        raise ConfigError(f"the run is given twice: by --config and by 'run' of {options.values}")
    return _target(submission, values, options)


def _target(submission: Submission, values: dict[str, Any], options: argparse.Namespace) -> Target:
    if options.address:
        return _on_ray(options, submission)
    from .kube import Kubernetes

    cluster = Kubernetes(options.context, options.namespace or "")
    options.namespace = cluster.namespace  # what comes back to this run names it, whatever is current then
    objects = rendered(submission, values, cluster.namespace)
    (name,) = [each["metadata"]["name"] for each in objects if each["kind"] == "RayJob"]
    return Target(submission, cluster, name, objects)


def target_or_folder(options: argparse.Namespace) -> tuple[Target | None, RunFolder]:
    if options.folder is not None:
        if options.config or named(options):
            raise ConfigError("a run folder is looked at by itself; leave it out to name a configuration or a cluster")
        return None, RunFolder(options.folder.rstrip("/"))
    if named(options):
        target = target_of(options)
        storage.configure(target.submission.config.storage)
        return target, target.submission.folder
    submission, _ = submission_of(options)
    storage.configure(submission.config.storage)
    return None, submission.folder


def again(options: argparse.Namespace, command: str) -> str:
    """The command line that finds this run again."""
    words = ["sortase", command]
    for name in ("config", "address", "namespace", "context", "image", "stage", "attempt"):
        if getattr(options, name, None) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    words += [word for name in ("values", "set") for value in getattr(options, name) for word in (f"--{name}", value)]
    return shlex.join([*words, *(["--replace"] if options.replace else [])])
