"""What can be found out before a run starts: storage, inputs, columns, memory, and how long it may take.

Quick, and never stricter than the run: what later stages make, and what a hub holds, is left to them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from .. import storage
from ..config.run import Config
from ..config.tokenize import TokenizeSpec
from ..data.counts.open import input_urls
from ..data.source import FolderSource, Source, rows_of
from ..errors import MissingExtraError
from ..prepare.outputs import OutputPaths
from ..prepare.prepare import check_inputs
from ..runs import layout
from ..runs.folder import RunFolder
from ..train.tracking import check_tracking
from ..wording import duration
from .preflight_inputs import check_counts, check_tokenized, looked_at, predicted, readable


def preflight(
    config: Config,
    folder: RunFolder,
    *,
    only: str | None = None,
    replace: bool = False,
    device_memory: int | None = None,
    from_outside: bool = False,
) -> list[str]:
    """Lines to print; a typed error for what cannot succeed. A probe of the output comes last: nothing else is written.

    Stages that are not wanted (``only``), or finished and not to be replaced, are not looked at.
    ``device_memory``: bytes that a training process has, where it trains on another machine and they are known.
    ``from_outside``: the run will be elsewhere; this machine is not looked at, and nothing is written at all.
    """
    return list(_Preflight(config, folder, only, replace, device_memory, from_outside).lines())


@dataclass(frozen=True)
class Rows:
    """Rows of the training side: None where unknown, else exactly or at most so many."""

    count: int | None
    exact: bool = False

    def __str__(self) -> str:
        return "" if self.count is None else f"{'' if self.exact else 'at most '}{self.count:,} rows, "


@dataclass(frozen=True)
class _Preflight:
    config: Config
    folder: RunFolder
    only: str | None
    replace: bool
    device_memory: int | None
    from_outside: bool

    def wants(self, stage: str) -> bool:
        return self.only in (None, stage) and (self.replace or self.folder.mark(stage) is None)

    def lines(self) -> Iterator[str]:
        config = self.config
        spec = config.tokenize
        if spec is not None and self.wants("tokenize"):
            readable(*input_urls(spec), spec.vocabulary, spec.medians, spec.gene_names)
        rows = self._check_data() if self.wants("prepare") else self._prepared_rows()
        if config.predict is not None and self.wants("predict"):
            self._check_predicted()
        if self.wants(config.fitting):
            from .preflight_model import check_model

            check_tracking(config.tracking, self.folder, here=not (self.from_outside or config.compute.max_workers))
            yield check_model(config, self.device_memory, elsewhere=self.from_outside)
            if self.wants("prepare") and config.data.dataset is not None:
                self._check_rows()
            yield self._expected(rows)
        if self.from_outside:
            return
        storage.probe(self.folder.url)
        yield f"preflight: {self.folder.url} can be written, read and cleared"

    def _check_data(self) -> Rows:
        """Columns, filters, classes and their files; rows where they are counted without reading them."""
        config = self.config
        if config.data.dataset is None:
            check_tokenized(config, self._tokenized(config.tokenize))
            return Rows(None)
        source = self._data
        OutputPaths(self.folder.path("data"), config.run.prefix).check(source)
        with warnings.catch_warnings(action="ignore"):  # prepare gives them again
            check_inputs(source, config.data, config.labels, config.split, config.run.seed)
        if not source.files:
            return Rows(None)
        rows = min(rows_of(source), config.data.max_examples or rows_of(source))
        held_out = 0.0 if config.split.strategy in ("column", "token") else _held_out(config)
        return Rows(round(rows * (1 - held_out)))

    def _tokenized(self, spec: TokenizeSpec | None) -> Source | None:
        """Columns of what the tokenize stage makes, by its input."""
        made = self.folder.data(self.config.run.prefix).tokenized
        if not self.wants("tokenize"):
            return looked_at(made) if storage.exists(made) else None
        if spec is None or (self.from_outside and not all(map(storage.is_remote, input_urls(spec)))):
            return None
        try:
            return FolderSource(made, check_counts(spec), {}, (), "")
        except MissingExtraError:
            if self.from_outside:  # what reads them is wanted where the run will be
                return None
            raise

    def _check_predicted(self) -> None:
        config = self.config
        if config.predict is None:
            return
        source = predicted(config.predict, config.labels.task)
        if self.wants(config.fitting):
            from .preflight_model import architecture
            from .preflight_rows import check_predicted_ids

            found = architecture(config)
            if found is not None and found.whole:
                check_predicted_ids(source, found.config.vocab_size)

    @cached_property
    def _data(self) -> FolderSource:
        return looked_at(str(self.config.data.dataset))

    def _check_rows(self) -> None:
        from .preflight_model import architecture
        from .preflight_rows import check_token_ids

        found = architecture(self.config)
        if found is not None and found.whole:
            check_token_ids(self._data, self.config, found.config.vocab_size)

    def _prepared_rows(self) -> Rows:
        """As the prepare stage has counted them."""
        described = self.folder.read(layout.PREPARED) or {}
        side = (described.get("split") or {}).get("sides", {}).get("train")
        return Rows(side["rows"], exact=True) if side else Rows(None)

    def _expected(self, rows: Rows) -> str:
        """Steps and epochs; the duration where an earlier attempt tells how long a step takes."""
        train = self.config.train
        epochs, most = train.arguments["num_train_epochs"], train.arguments.get("max_steps", -1)
        ((kind, size),) = train.global_batch(self.config.compute.max_workers).items()
        passes = f"{epochs} epoch{'' if epochs == 1 else 's'}"
        batches = f"batches of {size:,} {'tokens' if kind == 'batch_tokens' else 'examples'}"
        if most > 0:
            return f"preflight: {rows}{most:,} steps in {batches}; {self._duration(most)}"
        if rows.count is None or kind == "batch_tokens":
            return f"preflight: {rows}{passes} in {batches}; steps and duration are known once they are planned"
        each = math.ceil(rows.count / size)
        return f"preflight: {rows}{passes} of {each:,} steps in {batches}; {self._duration(epochs * each)}"

    def _duration(self, steps: float) -> str:
        earlier = (self.folder.described() or {}).get("training") or {}
        done = (earlier.get("steps") or 0) - (earlier.get("resumed_from") or 0)
        alike = earlier.get("workers") == max(1, self.config.compute.max_workers)
        if not alike or done <= 0 or not earlier.get("seconds"):
            return "the duration is measured after the first steps"
        seconds = earlier["seconds"] / done
        return f"about {duration(steps * seconds)} at the {seconds:.3g} s a step of an earlier attempt"


def _held_out(config: Config) -> float:
    return config.split.test_size + config.split.validation_size
