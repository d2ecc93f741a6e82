"""What libraries raise for a file of somebody else, as the error of the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import InputError, SortaseError

# What the readers of HDF5, zarr and their codecs raise for bytes that are damaged or made up.
DAMAGE = (
    *(
        OSError,
        EOFError,
        MemoryError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ),
    *(zlib.error, zipfile.BadZipFile),
)


@contextmanager
def refused(words: Callable[[Exception], str], *kinds: type[Exception]) -> Iterator[None]:
    """InputError with ``words`` for errors of these kinds; those of this package, as of storage, stay as they are."""
    try:
        yield
    except kinds as error:
        if isinstance(error, SortaseError):
            raise
        raise InputError(words(error)) from error
