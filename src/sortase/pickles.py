"""Pickles are data from outside: only plain containers, text, numbers and NumPy arrays are ever built from one.

Names are looked up in a table, never imported. NumPy trusts the states that a pickle gives its dtypes and arrays, down
to raw bytes taken for Python objects and lists that are shorter than their array, so these are checked here before
NumPy sees them. Messages name types only: the text of a value can be longer than memory.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from . import storage
from .errors import InputError, UnsafePickleError

_READ = "only plain containers, text, numbers and NumPy arrays are read"
_DEEPEST, _LARGEST = 100, 10_000_000  # of tuples in tuples: Python hashes them recursively, without a limit


class _Array:
    """Stands for numpy.ndarray in a pickle: named by it, never called."""


def _refusal(deed: str) -> UnsafePickleError:
    return UnsafePickleError(f"it {deed}; {_READ}")


def _plain(dtype: Any, content: Any) -> np.dtype[Any]:
    """A dtype of numbers or text for bytes, of objects for a list; never one with fields, or without a size."""
    if not isinstance(dtype, np.dtype):
        raise _refusal(f"makes an array of a {type(dtype).__name__} instead of a dtype")
    whole = dtype.itemsize and not (dtype.names or dtype.subdtype)
    if whole and type(content) in (bytes, bytearray, str) and not dtype.hasobject:
        return dtype
    if whole and type(content) is list and dtype.kind == "O":
        return dtype
    raise _refusal(f"fills an array of {type(dtype).__name__} from {type(content).__name__}")


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """An empty array, which the pickle fills next."""
    if kind is not _Array:
        raise _refusal("makes an array of another class")
    return np.empty(0, np.uint8)


def _flat(data: Any, dtype: Any) -> np.ndarray[Any, Any]:
    """Bytes as values. Another array's memory is refused: it may be freed under the view by setting a state."""
    return np.frombuffer(data, _plain(dtype, data))


def _scalar(dtype: Any, data: Any) -> Any:
    values = _flat(data, dtype)
    if len(values) != 1:
        raise ValueError(f"{len(values)} values where one is expected")
    return values[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray[Any, Any]:
    """Arrays in protocol 5; ``order`` K with ``axes`` is a transposed one."""
    flat = _flat(data, dtype)
    if axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise _refusal("encodes text in another way than latin1")
    return str(text).encode("latin1")


_BUILTINS = (dict, list, tuple, set, frozenset, int, float, complex, bool, str, bytes, bytearray)
_COLLECTIONS = (collections.OrderedDict, collections.defaultdict, collections.Counter)
_CALLABLE = (
    *(set, frozenset, complex, bytes, bytearray),
    *_COLLECTIONS,
    *(np.dtype, _encode, _reconstruct, _scalar, _frombuffer),
)  # the others are only named, as what a defaultdict makes: calling them builds far more than a pickle holds
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

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.nested: dict[int, tuple[int, int, Any]] = {}  # by id: depth and size, and the tuple, which keeps the id

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _refusal(f"asks for {module}.{name}"[:200]) from None

    def load_build(self) -> None:
        """Set the state of the object below it on the stack, which may be a dtype or an array and nothing else."""
        state = self.stack[-1]
        target = self.stack[-2]
        if isinstance(target, np.dtype):
            _check_dtype_state(target, state)
        elif isinstance(target, np.ndarray):
            _check_array_state(state)
        else:
            raise _refusal(f"sets the inside of a {type(target).__name__}")
        super().load_build()

    def load_reduce(self) -> None:
        """Call what is below its arguments on the stack."""
        function, arguments = self.stack[-2:]
        if not any(function is each for each in _CALLABLE):
            raise _refusal(f"calls {getattr(function, '__name__', 'something')}")
        if function in (bytes, bytearray) and arguments and type(arguments[0]) not in (bytes, str):
            raise _refusal(f"makes {function.__name__} of a {type(arguments[0]).__name__}")
        super().load_reduce()

    def load_object(self) -> None:
        raise _refusal("makes an object of a class")

    dispatch |= {pickle.BUILD[0]: load_build, pickle.REDUCE[0]: load_reduce}
    _opcodes = (pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.OBJ, pickle.INST)
    dispatch |= dict.fromkeys([opcode[0] for opcode in _opcodes], load_object)


def _check_array_state(state: Any) -> None:
    if type(state) is not tuple:
        raise _refusal(f"gives an array a {type(state).__name__} for its state")
    _version, shape, dtype, _fortran, content = state
    itemsize = _plain(dtype, content).itemsize
    width = 1 if type(content) is list else itemsize
    if type(shape) is not tuple or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("the shape of an array is not of lengths")
    if len(content) != math.prod(shape) * width:
        raise ValueError(f"{len(content)} where an array needs {math.prod(shape) * width}")


def _check_dtype_state(dtype: np.dtype[Any], state: Any) -> None:
    """Only the order of bytes may change; a state that contradicts its dtype makes arrays read foreign memory."""
    if type(state) is not tuple:
        raise _refusal(f"gives a dtype a {type(state).__name__} for its state")
    _version, order, subdtype, names, fields, size, alignment, flags = state
    told = (subdtype, names, fields, flags)
    sizes = {(-1, -1), (dtype.itemsize, dtype.alignment)}
    if order not in ("<", ">", "|", "=") or told != (None, None, None, dtype.flags) or (size, alignment) not in sizes:
        raise _refusal(f"changes {type(dtype).__name__} into a structure")


def _bounded(make: Callable[[_Unpickler], None]) -> Callable[[_Unpickler], None]:
    """An instruction that leaves a tuple on the stack, with a bound on tuples in tuples."""

    def bounded(self: _Unpickler) -> None:
        make(self)
        made = self.stack[-1]
        inner = [self.nested.get(id(item), (1, len(item), item)) for item in made if type(item) is tuple]
        if not inner:
            return
        depth, size = 1 + max(each[0] for each in inner), len(made) + sum(each[1] for each in inner)
        if depth > _DEEPEST or size > _LARGEST:
            raise _refusal("nests tuples without end")
        self.nested[id(made)] = (depth, size, made)

    return bounded


for _opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Unpickler.dispatch[_opcode[0]] = _bounded(_PythonUnpickler.dispatch[_opcode[0]])


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
