"""Opening an HDF5 file from outside: its links are walked first, and what h5py says becomes a sentence."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ...errors import MissingExtraError
from ..damage import refused
from .counts import Asked, Counts, naming
from .hdf5_guard import Guard
from .remote_path import RemotePath


@contextmanager
def open_hdf5(asked: Asked) -> Iterator[Counts]:
    """AnnData, Cell Ranger's layouts, or loom, as the content says: suffixes do not tell the first two apart."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(f"reading {asked.name} needs h5py: pip install 'sortase[anndata]'") from error
    if importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")  # registers its filters
    with ExitStack() as stack:
        remote = isinstance(asked.path, RemotePath)
        if remote:
            stack.enter_context(_without_collector())
        with refused(lambda error: f"{asked.name} is not a readable AnnData or HDF5 file: {error}", OSError):
            file = h5py.File(stack.enter_context(asked.path.open("rb")) if remote else asked.path, "r")
        stack.enter_context(file)
        with naming(asked):
            counts = _read(file, asked)
        yield counts


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage is collected inside, by any thread.

    To free an object of h5py its lock is needed, which a read holds while it waits for the thread that asks storage: if
    that thread were the one that collects such an object, both would wait for ever.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(file: Any, asked: Asked) -> Counts:
    from .anndata_file import read_anndata
    from .loom import read_loom
    from .tenx import genomes, read_10x

    guard = Guard(file, asked.name)
    if asked.path.name.lower().endswith(".loom"):
        return read_loom(file, guard, asked)
    return read_10x(file, guard, asked) if genomes(file) else read_anndata(file, guard, asked)
