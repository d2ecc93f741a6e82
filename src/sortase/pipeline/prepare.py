"""From a tokenised dataset to a labelled one: filter, rare classes, caps, labels, split; the same input gives the same
bytes, wherever and with however many workers it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from .. import storage
from ..config.prepare import DataSpec, LabelSpec, SplitSpec
from ..data import classmap
from ..data.audit import audit
from ..data.decide import Decision, count_rows, decide
from ..data.labelling import TokenLabels
from ..data.labels import check_label_column, check_tokens_column
from ..data.passes import Rows, WriteUnit, output_schema
from ..data.select import make_filters
from ..data.shards import INFO, STATE, publish, with_features
from ..data.source import FolderSource, Source, open_folder, open_source, require_column
from ..data.split import make_split, split_tokens
from ..data.summary import Total, add_written, summarize
from ..errors import ExistingOutputError, InputError
from ..progress import Progress
from .kinds import KINDS, Kind
from .prepared import Prepared

MARK = "sortase.json"
FORMAT = 1
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Say = Callable[[str], None]


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
    kind = KINDS[labels.task]
    rows, loaded = check_inputs(opened, data, labels, split, kind, seed)
    place = Place(out, prefix)
    place.apart_from(opened)
    inputs = _digest(opened, data, labels, seed, loaded)
    if (done := place.finished(inputs, split, replace)) is not None:
        return done
    run = map or partial(_threads, data.nproc)
    if place.mark_of(inputs) is None:
        _write_dataset(place, rows, data, kind, loaded, run, inputs)
    return _finish(place, kind, split, seed, inputs)


def inputs_digest(
    source: Any, data: DataSpec, labels: LabelSpec, split: SplitSpec | None = None, seed: int = 42
) -> str:
    """Identifies the source's content and the settings (number of workers apart), without the bulk of the work."""
    opened = open_source(source)
    loaded = KINDS[labels.task].load(labels)
    return _whole(_digest(opened, data, labels, seed, loaded), split)


def check_inputs(
    source: Source, data: DataSpec, labels: LabelSpec, split: SplitSpec | None, kind: Kind, seed: int
) -> tuple[Rows, Any]:
    """Refuse what can be refused before reading rows; returns the candidates and what the labels need."""
    check_tokens_column(require_column(source, "input_ids", "token ids"))
    filters = make_filters(data.filter, source)
    column = kind.class_column(source, data, labels)
    if column is not None:
        check_label_column(require_column(source, column, "labels"))
    if split is not None:
        kind.check_split(split)
        if split.column is not None:
            check_label_column(require_column(source, split.column, "split"))
    return Rows(source, filters, column, kind.required, seed), kind.load(labels)


def _threads(workers: int, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Arrow and NumPy release the interpreter for nearly all of the work."""
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="prepare") as pool:
        yield from pool.map(function, items)


def _write_dataset(place: Place, rows: Rows, data: DataSpec, kind: Kind, loaded: Any, run: Map, inputs: str) -> None:
    decision = decide(rows, data, count_rows(rows, data, run), run)
    labelling = kind.labelling(decision, loaded)
    schema, features, renamed = output_schema(rows.source, labelling, rows.column)
    place.clear()
    with place.nothing_on_failure():
        work = WriteUnit(rows, decision.quotas, labelling, place.dataset, with_features(schema, features), renamed)
        total = Total(len(labelling.class_map))
        with Progress(sum(unit.rows for unit in rows.source.units), "prepare") as progress:
            for written in run(work, rows.source.units):
                add_written(total, written)
                progress.update(written.rows)
        summary = summarize(kind.name, rows, decision, labelling, total)
        classmap.write(place.out, place.prefix, labelling.class_map)
        mark = {"inputs": inputs, "summary": summary, "tokens": kind.tokens(labelling, total)}
        publish(place.dataset, total.shards, features, inputs, labelling.description, {MARK: mark})


def _finish(place: Place, kind: Kind, split: SplitSpec | None, seed: int, inputs: str) -> Prepared:
    """Divide the dataset and describe everything; prepare.json is the mark that all of it is there."""
    mark = place.mark_of(inputs)
    if mark is None:
        raise InputError(f"{place.dataset} was changed while it was prepared; run prepare alone")
    if split is None:
        return place.result(mark["summary"], None, inputs)
    storage.remove(place.summary)
    with place.nothing_on_failure():
        made = _divide(place, kind, split, seed, mark)
        made.write(place.split)
        summary = {**mark["summary"], "split": made.summary}
        storage.write_json(place.summary, {**summary, "inputs": _whole(inputs, split), "prefix": place.prefix})
    return place.result(summary, split, inputs)


def _divide(place: Place, kind: Kind, split: SplitSpec, seed: int, mark: dict[str, Any]) -> Any:
    source = open_folder(place.dataset)
    if split.strategy == "token":
        names = dict(enumerate(mark["summary"]["classes"]))
        return split_tokens(*kind.token_arrays(mark["tokens"]), names, split, seed)
    made = make_split(source, split, seed, kind.stratify(mark["summary"]["column"], source))
    made.summary["near_duplicates"] = audit(source, made.sides, seed)
    return made


def _digest(source: Source, data: DataSpec, labels: LabelSpec, seed: int, loaded: Any) -> str:
    settings = {
        "format": FORMAT,
        "source": source.identity,
        "data": data.model_dump(mode="json", exclude={"dataset", "nproc"}, fallback=str),
        "labels": labels.model_dump(mode="json", include={"task", "column", "mapping"}),
        "loaded": loaded.identity,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _whole(inputs: str, split: SplitSpec | None) -> str:
    if split is None:
        return inputs
    return hashlib.sha256((inputs + split.model_dump_json()).encode()).hexdigest()[:32]
