"""Pickles are data from outside: only plain containers, text, numbers and NumPy arrays are ever built from one."""

from __future__ import annotations

import io
import pickle
from typing import Any

from . import storage
from .errors import InputError, UnsafePickleError

_ALLOWED = {
    "builtins": set("dict list tuple set frozenset int float complex bool str bytes bytearray".split()),
    "collections": {"OrderedDict", "defaultdict", "Counter"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.dtypes": None,
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _ALLOWED:
            names = _ALLOWED[module]
            if (names is None and name.endswith("DType")) or (names is not None and name in names):
                return super().find_class(module, name)
        raise UnsafePickleError(
            f"it asks for {module}.{name}; only plain containers, text, numbers and NumPy arrays are read"
        )


def loads(data: bytes, name: str) -> Any:
    """Read a pickle's bytes; ``name`` is what messages call it. Nothing in it is executed."""
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{name} is refused unexecuted: {error}") from error
    except Exception as error:
        raise InputError(f"{name} is not a readable pickle: {type(error).__name__}: {error}") from error


def load(url: str) -> Any:
    return loads(storage.read_bytes(url), url)


def dump(url: str, value: Any) -> None:
    storage.write_bytes(url, pickle.dumps(value, protocol=4))
