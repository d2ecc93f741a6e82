"""Counts of AnnData in zarr: a folder of the second or third format, or such a folder in a zip file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from ...errors import MissingExtraError
from ..damage import DAMAGE, refused
from .anndata_file import read_anndata
from .counts import Asked, Counts, naming
from .hdf5_guard import Guard


@contextmanager
def open_zarr(asked: Asked) -> Iterator[Counts]:
    """The same as of AnnData in HDF5."""
    try:
        import zarr

        from .zarr_guard import ZarrGuard
        from .zarr_store import WalkedStore
    except ImportError as error:
        raise MissingExtraError(f"reading {asked.name} needs zarr 3: pip install 'sortase[anndata]'") from error
    with refused(lambda error: f"{asked.name} is not a readable zarr store: {error}", *DAMAGE):
        store = WalkedStore(asked.path, asked.name)
    try:
        with naming(asked):
            group = zarr.open_group(store, mode="r", use_consolidated=False)
            counts = read_anndata(group, cast(Guard, ZarrGuard(store, asked.name)), asked)
        yield counts
    finally:
        store.close()
