"""Pickles are data from outside: only plain containers, text, numbers and NumPy arrays are ever built from one.

Names are looked up in a table, never imported. What is built, and the time to build it, stay within a multiple of the
pickle's own length. Messages name types only: the text of a value can be longer than memory.
"""

from __future__ import annotations

import collections
import io
import itertools
import pickle
from collections.abc import Callable, Iterable
from struct import unpack
from typing import Any, ClassVar

import numpy as np

from .. import storage
from ..errors import InputError, UnsafePickleError
from .pickled_arrays import ArrayName, Unfilled, UnfilledArray, UnfilledDtype, from_buffer, refusal, scalar

_MULTIPLE, _ALWAYS = 64, 4 << 20  # bytes that may be built beside those the pickle holds itself, for each of its bytes
_DEEPEST = 100  # containers in containers: Python hashes, compares and shows them recursively
_OF_CONTAINER, _OF_ITEM = 216, 8  # bytes


class OutputName:
    """Stands for transformers' PredictionOutput, which stFormer and Geneformer pickle; it is read as a plain dict."""

    fields = ("predictions", "label_ids", "metrics")


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise refusal("encodes something else than text in latin1")
    return text.encode("latin1")


def _bytes(kind: type) -> Callable[..., Any]:
    def make(content: Any = b"", encoding: Any = None) -> Any:
        if encoding is not None:
            content = _encode(content, encoding)
        if type(content) is not bytes:
            raise refusal(f"makes {kind.__name__} of a {type(content).__name__}")
        return kind(content)

    return make


def _of(kind: Any, content: type) -> Callable[..., Any]:
    """A container of nothing or of one plain container."""

    def make(*arguments: Any) -> Any:
        if len(arguments) > 1 or any(type(argument) is not content for argument in arguments):
            raise refusal(f"makes {kind.__name__} of something else than a {content.__name__}")
        return kind(*arguments)

    return make


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise refusal("makes complex of something else than two numbers")
    return complex(real, imaginary)


def _defaultdict(factory: Any = None) -> Any:
    if factory is not None and not any(factory is kind for kind in _BUILTINS):
        raise refusal("makes a defaultdict of something else than a plain container")
    return collections.defaultdict(factory)


_BUILTINS = (dict, list, tuple, set, frozenset, int, float, complex, bool, str, bytes, bytearray)
_MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
# What a name makes when it is called. The other plain types are only named, as what a defaultdict makes: calling them
# builds far more than a pickle holds.
_CALLS: dict[Any, Callable[..., Any]] = {
    set: _of(set, list),
    frozenset: _of(frozenset, list),
    collections.OrderedDict: _of(collections.OrderedDict, list),
    collections.Counter: _of(collections.Counter, dict),
    collections.defaultdict: _defaultdict,
    complex: _complex,
    bytes: _bytes(bytes),
    bytearray: _bytes(bytearray),
    **{function: function for function in (_encode, UnfilledDtype, UnfilledArray, scalar, from_buffer)},
}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in _BUILTINS},
    **{("collections", kind.__name__): kind for kind in _MAPPINGS[1:]},
    ("_codecs", "encode"): _encode,
    ("transformers.trainer_utils", "PredictionOutput"): OutputName,
    ("numpy", "dtype"): UnfilledDtype,
    ("numpy", "ndarray"): ArrayName,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): UnfilledArray for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): from_buffer for core in ("core", "_core")},
}

UnpicklingError = pickle.UnpicklingError

# The unpickler in Python, not the one in C: only there can what an instruction does be seen before it is done.
_Python: Any = pickle._Unpickler


class _Unpickler(_Python):
    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self.left = _ALWAYS + _MULTIPLE * len(data)
        self.unfilled = 0
        self.nested: dict[int, tuple[int, int, Any]] = {}  # by id: depth and size, and the value, which keeps the id

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise refusal("builds far more than it holds")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise refusal(f"asks for {module}.{name}"[:200]) from None

    def load_reduce(self) -> None:
        """Call what is below its arguments on the stack."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        make = _CALLS.get(function) if callable(function) else None
        if make is None or type(arguments) is not tuple:
            raise refusal(f"calls {getattr(function, '__name__', 'something')}")
        self.spend(_OF_CONTAINER)
        for argument in arguments:
            if isinstance(argument, str | bytes | bytearray):
                self.spend(len(argument))
            elif isinstance(argument, list | dict):
                self.spend(len(argument) * _OF_CONTAINER)
                pairs = function is collections.OrderedDict
                self.hash(pair[0] for pair in argument if pair) if pairs else self.hash(argument)
        made = make(*arguments)
        if isinstance(made, Unfilled):
            self.unfilled += 1
        elif type(made) is frozenset:
            self.bound(made)
        self.stack[-1] = made

    def load_build(self) -> None:
        """Fill the dtype or array below its state on the stack: a new object takes its place, also in the memo."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Unfilled):
            raise refusal(f"sets the inside of a {type(target).__name__}")
        if type(state) is tuple and isinstance(state[-1] if state else None, bytes | bytearray | list):
            self.spend(len(state[-1]) * (_OF_ITEM if type(state[-1]) is list else 1))
        filled = self.stack[-1] = target.filled(state)
        self.unfilled -= 1
        for key in target.keys:
            if self.memo.get(key) is target:
                self.memo[key] = filled

    def load_stop(self) -> None:
        if self.unfilled:
            raise refusal("uses an array before it is filled")
        self.measure(self.stack[-1])
        super().load_stop()

    def load_bytearray8(self) -> None:
        (length,) = unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(length, 1 << 62))))

    def load_empty_set(self) -> None:
        self.spend(_OF_CONTAINER)
        super().load_empty_set()

    def load_newobj(self) -> None:
        """A named tuple of Trainer.predict; objects of all other classes are refused."""
        arguments = self.stack.pop()
        if self.stack[-1] is not OutputName or type(arguments) is not tuple or len(arguments) != len(OutputName.fields):
            self.load_object()
        self.spend(_OF_CONTAINER)
        self.stack[-1] = dict(zip(OutputName.fields, arguments, strict=True))

    def load_object(self) -> None:
        raise refusal("makes an object of a class")

    def load_foreign(self) -> None:
        raise refusal("takes something from outside the pickle")

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise refusal(f"adds to a {type(self.stack[-1]).__name__}")
        self.spend(len(items) * _OF_CONTAINER)
        self.hash(items)
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        self.spend(_OF_CONTAINER * (1 + len(self.stack)))
        self.hash(self.stack)
        super().load_frozenset()
        self.bound(self.stack[-1])

    def load_dict(self) -> None:
        self.hash(self.stack[::2])
        super().load_dict()

    def bound(self, made: Any) -> None:
        """Keep tuples and frozen sets in one another bounded."""
        depth, size = 1, len(made)
        for item in made:
            if type(item) in (tuple, frozenset):
                inner = self.nested.get(id(item), (1, len(item)))
                depth, size = max(depth, 1 + inner[0]), size + inner[1]
        if depth > _DEEPEST or size > self.left:
            raise refusal("nests tuples without end")
        if size > len(made) or depth > 1:
            self.nested[id(made)] = (depth, size, made)

    def hash(self, keys: Iterable[Any]) -> None:
        """Pay for the time to hash these values and to compare them with their equals."""
        for key in keys:
            if type(key) is str:
                continue
            if type(key) in (tuple, frozenset):
                self.spend(self.nested.get(id(key), (1, len(key)))[1])
            elif type(key) is int:
                self.spend(key.bit_length() >> 6)

    def measure(self, value: Any) -> None:
        """Refuse what is small in memory and without end when it is shown or walked through: lists of one list twice,
        of lists of one list twice, and so on; lists in themselves."""
        sizes: dict[int, int] = {}  # by id, of containers that are measured
        above: set[int] = set()
        waiting = [(value, False)] if _inside(value) is not None else []
        while waiting:
            item, done = waiting.pop()
            if done:
                above.discard(id(item))
                sizes[id(item)] = 1 + sum(sizes.get(id(each)) or _length(each) for each in _inside(item) or ())
                if sizes[id(item)] > self.left:
                    raise refusal("nests lists without end")
            elif id(item) not in sizes:
                if id(item) in above or len(above) >= _DEEPEST:
                    raise refusal("nests lists without end")
                above.add(id(item))
                waiting.append((item, True))
                waiting.extend((each, False) for each in _inside(item) or () if _inside(each) is not None)


_PLAIN: frozenset[type] = frozenset(
    {str, int, float, bool, type(None), bytes, np.float64, np.int64}
)  # the usual ones first
_LEAVES = (*_PLAIN, complex, bytearray, np.generic, np.ndarray)


def _inside(value: Any) -> Iterable[Any] | None:
    """What a container holds."""
    if type(value) in _PLAIN:
        return None
    if isinstance(value, dict):
        return itertools.chain(value, value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return value.flat
    if not isinstance(value, _LEAVES):
        raise refusal(f"holds a {getattr(value, '__name__', type(value).__name__)}")
    return None


def _length(value: Any) -> int:
    return 1 + len(value) // 64 if isinstance(value, str | bytes | bytearray) else 1


def _checked(do: Callable[[_Unpickler], None], below: int, kinds: tuple[type, ...]) -> Callable[[_Unpickler], None]:
    """An instruction that changes the container at this place below the top of the stack."""

    def checked(self: _Unpickler) -> None:
        stack = self.stack if below else self.metastack[-1]
        if type(stack[-below - 1]) not in kinds:
            raise refusal(f"changes a {type(stack[-below - 1]).__name__}")
        if kinds is _MAPPINGS:
            self.hash(stack[-2:-1] if below else self.stack[::2])
        do(self)

    return checked


def _bounded(do: Callable[[_Unpickler], None]) -> Callable[[_Unpickler], None]:
    """An instruction that leaves a tuple on the stack."""

    def bounded(self: _Unpickler) -> None:
        do(self)
        self.bound(self.stack[-1])

    return bounded


def _remembered(do: Callable[[_Unpickler], None]) -> Callable[[_Unpickler], None]:
    """An instruction that notes the top of the stack in the memo; ``load_build`` has to know where."""

    def remembered(self: _Unpickler) -> None:
        do(self)
        if isinstance(self.stack[-1], Unfilled):
            self.stack[-1].keys.append(next(reversed(self.memo)))

    return remembered


def _whole(do: Callable[[_Unpickler], None]) -> Callable[[_Unpickler], None]:
    """An instruction that uses a value a second time."""

    def whole(self: _Unpickler) -> None:
        do(self)
        if isinstance(self.stack[-1], Unfilled):
            raise refusal("uses an array before it is filled")

    return whole


def _replace(opcodes: Iterable[bytes], by: Callable[[Any], Callable[[_Unpickler], None]]) -> None:
    for opcode in opcodes:
        _Unpickler.dispatch[opcode[0]] = by(_Python.dispatch[opcode[0]])


_replace((pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), _bounded)
_replace((pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE), _remembered)
_replace((pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.DUP), _whole)
_replace((pickle.APPEND,), lambda do: _checked(do, 1, (list,)))
_replace((pickle.APPENDS,), lambda do: _checked(do, 0, (list,)))
_replace((pickle.SETITEM,), lambda do: _checked(do, 2, _MAPPINGS))
_replace((pickle.SETITEMS,), lambda do: _checked(do, 0, _MAPPINGS))
_replace((pickle.NEWOBJ_EX, pickle.OBJ, pickle.INST), lambda do: _Unpickler.load_object)
_foreign = (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)
_replace(_foreign, lambda do: _Unpickler.load_foreign)
for _own in ("reduce", "newobj", "build", "stop", "bytearray8", "empty_set", "additems", "frozenset", "dict"):
    _opcode = getattr(pickle, _own.upper())
    _Unpickler.dispatch[_opcode[0]] = getattr(_Unpickler, f"load_{_own}")


def loads(data: bytes, name: str) -> Any:
    """Read a pickle's bytes; ``name`` is what messages call it. Nothing in it is executed."""
    try:
        return _Unpickler(data).load()
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{name} is refused unexecuted: {error}") from error
    except Exception as error:
        reason = str(error)[:200]  # Python's own words repeat what the pickle holds
        raise InputError(f"{name} is not a readable pickle: {type(error).__name__}: {reason}") from error


def load(url: str) -> Any:
    return loads(storage.read_bytes(url), url)


def dump(url: str, value: Any) -> None:
    storage.write_bytes(url, pickle.dumps(value, protocol=4))
