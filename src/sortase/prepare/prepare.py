"""From a tokenised dataset to a labelled one: filter, rare classes, caps, labels, split; the same input gives the same
bytes, wherever and with however many workers it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from .. import storage
from ..config.prepare import DataSpec, LabelSpec, SplitSpec
from ..data import classmap
from ..data.labels import check_label_column, check_tokens_column
from ..data.padding import MASK
from ..data.selection.filters import Filter, make_filters
from ..data.selection.labelling import TagLabels
from ..data.selection.passes import Rows, WriteUnit, output_schema
from ..data.selection.plan import Decision, count_rows, decide
from ..data.selection.summary import Total, add_written, summarize
from ..data.shards import publish
from ..data.source import Source, open_folder, open_source, require_column, rows_of
from ..data.split.audit import audit
from ..data.split.split import Split, labelled_tokens, make_split, split_tokens
from ..progress import Progress
from ..stopping import in_threads
from ..types import Map
from .kinds import Kind, Loaded, kind_of, token_arrays
from .outputs import MARK, OutputPaths
from .result import Prepared

FORMAT = 1
TOKEN_IDS = "token ids (the tokenize stage makes them from counts, a model's tokenizer from text)"


def prepare(
    source: Any,
    data: DataSpec,
    labels: LabelSpec,
    out: str,
    prefix: str,
    *,
    split: SplitSpec | None = None,
    seed: int = 42,
    replace: bool = False,
    map: Map | None = None,
) -> Prepared:
    """Filter, cap, label, save and split.

    Args:
        source: path or URL of a saved dataset, or a ``datasets.Dataset``. Its own folder is never written.
        data, labels, split: what to do; without ``split`` there is no split.parquet and no prepare.json.
        out: folder or URL for the outputs; ``prefix`` starts the names of the dataset and of its class map.
        seed: of the caps and of the split.
        replace: discard outputs that were made from other inputs.
        map: ``map(function, items)`` yields results in order; both pickle. By default ``data.nproc`` threads.

    Raises InputError or a relative on bad input, and then leaves nothing behind; ExistingOutputError when outputs from
    other inputs are there.
    """
    opened = open_source(source)
    kind = kind_of(labels)
    place = OutputPaths(out, prefix)
    place.check(opened)
    rows, loaded = check_inputs(opened, data, labels, split, seed)
    inputs = _digest(opened, data, labels, loaded, seed)
    if not replace:
        place.refuse_others(inputs, _whole(inputs, split) if split else None)
    with ExitStack() as undo:
        current = place.is_current(inputs)
        if not current:
            run = map or partial(_threads, data.nproc)
            decision = decide(rows, data, count_rows(rows, data, run), run)
            work = _plan(place, rows, kind, decision, loaded, run)
            place.clear()
            undo.enter_context(place.dataset_or_nothing())
            _write(place, work, kind, decision, run, inputs)
        summary = place.made()["summary"]
        if split is None:
            return place.result(summary, False, inputs, current)
        return _with_split(place, kind, split, seed, inputs, current)


def inputs_digest(
    source: Any, data: DataSpec, labels: LabelSpec, split: SplitSpec | None = None, seed: int = 42
) -> str:
    """Identifies the source's content and the settings (number of workers apart), without the bulk of the work."""
    return _whole(_digest(open_source(source), data, labels, kind_of(labels).load(labels), seed), split)


def check_inputs(
    source: Source, data: DataSpec, labels: LabelSpec, split: SplitSpec | None, seed: int
) -> tuple[Rows, Loaded]:
    """Refuse what can be refused before reading rows; returns the candidates and what the labels need."""
    filters, column = check_columns(source, data, labels, split)
    kind = kind_of(labels)
    return Rows(source, filters, column, kind.required, seed, labels.rename), kind.load(labels)


def check_columns(
    source: Source, data: DataSpec, labels: LabelSpec, split: SplitSpec | None
) -> tuple[tuple[Filter, ...], str | None]:
    """Refuse what columns that are missing, or of other types, rule out; returns the filters and the labels' column."""
    kind = kind_of(labels)
    check_tokens_column(require_column(source, "input_ids", TOKEN_IDS))
    filters = make_filters(data.filter, source)
    column = kind.class_column(source, data, labels)
    if column is not None:
        check_label_column(require_column(source, column, "labels.column"))
    if split is not None:
        kind.check_split(split)
        if split.column is not None:
            check_label_column(require_column(source, split.column, "the split"))
    return filters, column


def _threads(workers: int, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Arrow and NumPy release the interpreter for nearly all of the work."""
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="prepare") as pool:
        yield from pool.map(in_threads(function), items)


def _plan(place: OutputPaths, rows: Rows, kind: Kind, decision: Decision, loaded: Loaded, run: Map) -> WriteUnit:
    """The second pass; whatever the first one found wrong is said here at the latest."""
    labelling = kind.labelling(decision, loaded, rows, run)
    held = labelling.tags.column if isinstance(labelling, TagLabels) else rows.column
    schema, features, renamed = output_schema(rows.source, labelling, None if rows.rename else held)
    return WriteUnit(rows, decision.quotas, labelling, place.dataset, schema, features, renamed)


def _write(place: OutputPaths, work: WriteUnit, kind: Kind, decision: Decision, run: Map, inputs: str) -> None:
    rows, labelling = work.rows, work.labelling
    total = Total(len(labelling.class_map))
    with Progress(rows_of(rows.source), "prepare") as progress:
        for written in run(work, rows.source.units):
            add_written(total, written)
            progress.update(written.rows)
    rows.source.check_unchanged()
    summary = summarize(kind.name, rows, decision, labelling, total)
    classmap.write(place.out, place.prefix, labelling.class_map)
    mark = {"inputs": inputs, "summary": summary, "tokens": kind.tokens(labelling, total)}
    publish(place.dataset, total.shards, work.features, inputs, labelling.description, {MARK: mark})


def _with_split(place: OutputPaths, kind: Kind, split: SplitSpec, seed: int, inputs: str, current: bool) -> Prepared:
    """Divide the dataset and describe everything; prepare.json is written last and marks that all of it is there."""
    whole = _whole(inputs, split)
    described = place.described()
    if current and described is not None and described.get("inputs") == whole and storage.exists(place.split):
        return place.result(described, True, whole, skipped=True)
    storage.remove(place.summary)
    with place.split_or_nothing():
        mark = place.made()
        made = _divide(place, kind, split, seed, mark)
        made.write(place.split)
        summary = {**mark["summary"], "split": made.summary, "inputs": whole}
        storage.write_json(place.summary, summary)
    return place.result(summary, True, whole)


def _divide(place: OutputPaths, kind: Kind, split: SplitSpec, seed: int, mark: dict[str, Any]) -> Split:
    source = open_folder(place.dataset)
    if split.strategy == "token":
        found = token_arrays(mark["tokens"]) if mark["tokens"] else labelled_tokens(source, "labels")
        return split_tokens(*found, dict(enumerate(mark["summary"]["classes"])), split, seed)
    made = make_split(source, split, seed, kind.stratify(mark["summary"]["column"], source))
    made.summary["near_duplicates"] = audit(source, made.sides, seed)
    return made


def _digest(source: Source, data: DataSpec, labels: LabelSpec, loaded: Loaded, seed: int) -> str:
    settings = {
        "format": FORMAT,
        "source": source.identity,
        "data": data.model_dump(mode="json", exclude={"dataset", "nproc"}, fallback=str),
        "labels": labels.model_dump(mode="json", include={"task", "column", "mapping", "rename"}),
        "loaded": loaded.identity,
        "seed": seed,
    }
    if MASK in source.schema.names:  # which was not read once, and then rows had other lengths
        settings["mask"] = True
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _whole(inputs: str, split: SplitSpec | None) -> str:
    return hashlib.sha256((inputs + split.model_dump_json()).encode()).hexdigest()[:32] if split else inputs
