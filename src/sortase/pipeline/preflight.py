"""What can be found out before a run starts: storage, inputs, columns, memory, and how long it may take.

Quick, and never stricter than the run: what later stages make, and what a hub holds, is left to them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from .. import storage
from ..config.run import Config
from ..data.labels import read_gene_classes
from ..data.shards import INFO, STATE, features_of
from ..data.source import FolderSource, open_folder, require_column, rows_of
from ..errors import InputError
from .place import Place
from .prepare import check_inputs
from .run_folder import RunFolder
from .tracking import check_tracking

TOKENIZED = ("input_ids", "length", "n_counts", "cell_id")  # columns that the tokenize stage makes itself


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
            _readable(spec.input, spec.vocabulary, spec.medians, spec.gene_names)
        rows = self._check_data() if self.wants("prepare") else self._prepared_rows()
        if config.predict is not None and self.wants("predict"):
            _readable(config.predict.dataset)
        if self.wants(config.fitting):
            from .preflight_model import check_model

            check_tracking(config.tracking, self.folder, here=not (self.from_outside or config.compute.max_workers))
            yield check_model(config, self.device_memory, elsewhere=self.from_outside)
            yield self._expected(rows)
        if self.from_outside:
            return
        storage.probe(self.folder.url)
        yield f"preflight: {self.folder.url} can be written, read and cleared"

    def _check_data(self) -> Rows:
        """Columns, filters, classes and their files; rows where they are counted without reading them."""
        config = self.config
        if config.data.dataset is None:
            _check_tokenized(config)
            return Rows(None)
        url = config.data.dataset
        source = _peek(url) if storage.is_remote(url) else open_folder(url)
        Place(self.folder.path("data"), config.run.prefix).check(source)
        with warnings.catch_warnings(action="ignore"):  # prepare gives them again
            check_inputs(source, config.data, config.labels, config.split, config.run.seed)
        if not source.files:
            return Rows(None)
        rows = min(rows_of(source), config.data.max_examples or rows_of(source))
        held_out = 0.0 if config.split.strategy in ("column", "token") else _held_out(config)
        return Rows(round(rows * (1 - held_out)))

    def _prepared_rows(self) -> Rows:
        """As the prepare stage has counted them."""
        described = self.folder.read("data/prepare.json") or {}
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
        earlier = (self.folder.read("run.json") or {}).get("training") or {}
        done = (earlier.get("steps") or 0) - (earlier.get("resumed_from") or 0)
        alike = earlier.get("workers") == max(1, self.config.compute.max_workers)
        if not alike or done <= 0 or not earlier.get("seconds"):
            return "the duration is measured after the first steps"
        seconds = earlier["seconds"] / done
        return f"about {in_words(steps * seconds)} at the {seconds:.3g} s a step of an earlier attempt"


def _held_out(config: Config) -> float:
    return config.split.test_size + config.split.validation_size


def in_words(seconds: float) -> str:
    """A duration for a person."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _check_tokenized(config: Config) -> None:
    """What is known of a dataset that the tokenize stage makes: the columns it was told to carry along."""
    spec, labels = config.tokenize, config.labels
    _readable(labels.vocabulary)
    if labels.gene_class_dict is not None:
        read_gene_classes(labels.gene_class_dict)
    if spec is None or spec.columns is None:
        return
    schema = pa.schema([(name, pa.null()) for name in dict.fromkeys([*TOKENIZED, *spec.columns])])
    made = FolderSource("the tokenised dataset (tokenize.columns)", schema, {}, (), "")
    wanted = {"labels": labels.column if labels.task == "sequence" else None, "the split": config.split.column}
    for what, name in [*wanted.items(), *(("filter", name) for name in config.data.filter)]:
        if name is not None:
            require_column(made, name, what)


def _readable(*urls: str | None) -> None:
    """Each exists, and its first file can be opened."""
    for url in filter(None, urls):
        if not storage.exists(url):
            storage.fetch(url)  # raises, and says what is near it
        name = next(iter(storage.list_files(url)), None)
        if name is None:
            raise InputError(f"{url} is an empty folder")
        with storage.open_input(storage.join(url, *name.split("/")) if name else url) as file:
            file.read(1)


def _peek(url: str) -> FolderSource:
    """Columns of a remote dataset from the first bytes of its first file; it is not copied and shows no rows here."""
    if not storage.exists(storage.join(url, STATE)):
        _readable(url)
        raise InputError(f"{url} is not a dataset: a folder that save_to_disk wrote holds {STATE}")
    info_url = storage.join(url, INFO)
    info = storage.read_json(info_url) if storage.exists(info_url) else {}
    try:
        first = storage.join(url, storage.read_json(storage.join(url, STATE))["_data_files"][0]["filename"])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{url}/{STATE} names no data files") from error
    with storage.open_input(first) as file:
        try:
            schema = pa.ipc.open_stream(file).schema.remove_metadata()
        except pa.ArrowException as error:
            raise InputError(f"{first} is no Arrow stream file: {error}; copy the dataset again") from error
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in schema.types]
    schema = pa.schema([field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)])
    return FolderSource(url, schema, info.get("features") or features_of(schema), (), "")
