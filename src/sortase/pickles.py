"""Pickles are data from outside: only plain containers, text, numbers and NumPy arrays are ever built from one.

Names are looked up in a table, never imported. NumPy trusts the states that a pickle gives its dtypes and arrays, down
to raw bytes taken for Python objects, so these are checked here before NumPy sees them.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any, ClassVar

import numpy as np

from . import storage
from .errors import InputError, UnsafePickleError

_READ = "only plain containers, text, numbers and NumPy arrays are read"


class _Array:
    """Stands for numpy.ndarray in a pickle: named by it, never called."""


def _plain(dtype: Any, bytes_follow: bool) -> np.dtype[Any]:
    """A dtype of numbers, text or (when no raw bytes are to be read as it) objects, without fields."""
    if not isinstance(dtype, np.dtype) or dtype.names or dtype.subdtype or (dtype.hasobject and bytes_follow):
        raise UnsafePickleError(f"it fills an array of {dtype!r} from bytes; {_READ}")
    return dtype


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """An empty array, which the pickle fills next."""
    if kind is not _Array:
        raise UnsafePickleError(f"it makes an array of the class {kind!r}; {_READ}")
    return np.empty(0, np.uint8)


def _scalar(dtype: Any, data: Any) -> Any:
    values = np.frombuffer(data, _plain(dtype, bytes_follow=True))
    if len(values) != 1:
        raise ValueError(f"{len(values)} values where one is expected")
    return values[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray[Any, Any]:
    """Arrays in protocol 5; ``order`` K with ``axes`` is a transposed one."""
    flat = np.frombuffer(data, _plain(dtype, bytes_follow=True))
    if axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise UnsafePickleError(f"it encodes text as {encoding!r}; {_READ}")
    return str(text).encode("latin1")


_BUILTINS = (dict, list, tuple, set, frozenset, int, float, complex, bool, str, bytes, bytearray)
_COLLECTIONS = (collections.OrderedDict, collections.defaultdict, collections.Counter)
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _BUILTINS},
    **{("collections", kind.__name__): kind for kind in _COLLECTIONS},
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _Array,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


# The unpickler in Python, not the one in C: only there can the states of objects be seen before they are set.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(f"it asks for {module}.{name}; {_READ}") from None

    def load_build(self) -> None:
        """Set the state of the object below it on the stack, which may be a dtype or an array and nothing else."""
        state = self.stack[-1]
        target = self.stack[-2]
        if isinstance(target, np.dtype):
            _check_dtype_state(target, state)
        elif isinstance(target, np.ndarray):
            _version, _shape, dtype, _fortran, content = state
            _plain(dtype, bytes_follow=not isinstance(content, list))
        else:
            raise UnsafePickleError(f"it sets the inside of {target!r}; {_READ}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _check_dtype_state(dtype: np.dtype[Any], state: Any) -> None:
    """Only the order of bytes may change; a state that contradicts its dtype makes arrays read foreign memory."""
    _version, order, subdtype, names, fields, size, alignment, flags = state
    told = (subdtype, names, fields, flags)
    sizes = {(-1, -1), (dtype.itemsize, dtype.alignment)}
    if order not in ("<", ">", "|", "=") or told != (None, None, None, dtype.flags) or (size, alignment) not in sizes:
        raise UnsafePickleError(f"it changes {dtype!r} into a structure; {_READ}")


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
