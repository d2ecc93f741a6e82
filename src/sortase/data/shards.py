"""Writing a dataset in the layout of `Dataset.save_to_disk`, shard by shard, straight to storage.

Shards may be written anywhere and in any order; the dataset exists once `publish` has written `state.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .. import storage
from ..errors import InputError
from ..storage.members import check_name, member

STATE = "state.json"
INFO = "dataset_info.json"
EXPECTED = "expected the folder of a tokenised dataset that Dataset.save_to_disk wrote (state.json beside Arrow files)"

# `datasets` looks rows up by record batch: neither tiny nor huge ones serve it well.
_ROWS = 1000
_BYTES = 16 << 20


@dataclass(frozen=True)
class Shard:
    """One Arrow file of a dataset: its name in the folder and its number of rows."""

    name: str
    rows: int


def data_files(url: str, local: str | None = None) -> list[str]:
    """Names of the files that ``state.json`` gives, which lie in the folder; ``local`` is its copy on this machine."""
    state = storage.read_json(storage.join(local or url, STATE))
    source = storage.join(url, STATE)
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{source} names no data files; {EXPECTED}") from error
    for name in names:
        member(local or url, check_name(name, source), source)
    return names


def shard_name(number: int) -> str:
    return f"data-{number:05d}.arrow"


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """Features of an Arrow schema as dataset_info.json states them."""
    from datasets import Features

    return Features.from_arrow_schema(schema.remove_metadata()).to_dict()


def with_features(schema: pa.Schema, features: Mapping[str, Any]) -> pa.Schema:
    """The schema with the metadata that `datasets` keeps in every Arrow file."""
    text = json.dumps({"info": {"features": dict(features)}})
    return schema.with_metadata({"huggingface": text})


def write_shard(url: str, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Shard | None:
    """Write a shard of the dataset at ``url``; None, and no file, when there is no row.

    ``schema`` carries the metadata of `with_features`. Nothing is visible under the shard's name until it is whole.
    """
    merged = _merge(batches)
    first = next(merged, None)
    if first is None:
        return None
    name, rows = shard_name(number), 0
    with storage.open_output(storage.join(url, name)) as file, pa.ipc.new_stream(file, schema) as writer:
        batch: pa.RecordBatch | None = first
        while batch is not None:
            writer.write_batch(batch.cast(schema) if batch.schema != schema else batch)
            rows += batch.num_rows
            batch = next(merged, None)
    return Shard(name, rows)


def _merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows without empty or many small batches."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= _ROWS // 4 or sum(b.nbytes for b in waiting) >= _BYTES:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def publish(
    url: str,
    shards: Sequence[Shard],
    features: Mapping[str, Any],
    identity: str,
    description: str = "",
    last: Mapping[str, Any] | None = None,
) -> None:
    """Make the shards a dataset that `load_from_disk` opens: its description first, `state.json` last.

    ``identity`` names what the content follows from; the dataset's fingerprint is a hash of it. ``last`` holds JSON
    files (name to content) of the folder that must be there when the dataset is.
    """
    info = {"citation": "", "description": description, "features": dict(features), "homepage": "", "license": ""}
    storage.write_json(storage.join(url, INFO), info)
    for name, content in (last or {}).items():
        storage.write_json(storage.join(url, name), content)
    state: dict[str, Any] = {
        "_data_files": [{"filename": shard.name} for shard in shards],
        "_fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    storage.write_json(storage.join(url, STATE), state)
