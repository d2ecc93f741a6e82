"""Arrays and dtypes of a pickle, built anew from what the pickle says of them.

NumPy trusts the states that a pickle gives its objects: a wrong one reads or writes foreign memory. So no dtype or
array is ever given a state. The state is parsed, checked against the kinds and sizes below, and a new object is made.
The forms are those of ``ndarray.__reduce__``, ``dtype.__reduce__`` and ``ndarray.__reduce_ex__(5)``.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..errors import UnsafePickleError

READ = "only plain containers, text, numbers and NumPy arrays are read"
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16), "O": (8,)}
_TEXT_UNIT = {"S": 1, "U": 4}  # bytes of a character
_LONGEST_TEXT = 1 << 20
_CODE = re.compile(r"([biufcOSU])(\d{0,7})")
_LAST_CHARACTER = 0x10FFFF


def refusal(deed: str) -> UnsafePickleError:
    """Names types only: the text of a value can be longer than memory."""
    return UnsafePickleError(f"it {deed}; {READ}")


class ArrayName:
    """Stands for numpy.ndarray in a pickle, which names it and never calls it."""


class Unfilled:
    """What a pickle has begun and fills next. ``keys`` are its places in the pickle's memo."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def filled(self, state: Any) -> Any:
        raise NotImplementedError


class UnfilledDtype(Unfilled):
    def __init__(self, code: Any, *_align_and_copy: Any):
        super().__init__()
        known = _CODE.fullmatch(code) if type(code) is str else None
        if known is None:
            raise refusal("asks for a dtype that is not of booleans, numbers or text")
        self.kind, size = known[1], int(known[2] or 8)
        if self.kind in _TEXT_UNIT:
            if not known[2] or size * _TEXT_UNIT[self.kind] > _LONGEST_TEXT:
                raise refusal("asks for a dtype of text without a size that can be")
        elif size not in _SIZES[self.kind]:
            raise refusal(f"asks for the dtype {known[0]}, whose size is not one of {_SIZES[self.kind]}")
        self.size = size * _TEXT_UNIT.get(self.kind, 1)
        self.code = "O" if self.kind == "O" else known[0]

    def filled(self, state: Any) -> np.dtype[Any]:
        """Only the order of bytes is taken from the state; nothing in it may contradict the dtype."""
        if type(state) is not tuple or len(state) not in (8, 9):
            raise refusal(f"gives a dtype a {type(state).__name__} for its state")
        order, structure, size = state[1], state[2:5], state[5]
        sizes = (self.size,) if self.kind in _TEXT_UNIT else (-1, self.size)
        if type(order) is not str or order not in ("<", ">", "|", "=") or structure != (None, None, None):
            raise refusal("changes a dtype into a structure")
        if type(size) is not int or size not in sizes:
            raise refusal("gives a dtype another size")
        return np.dtype(order + self.code if order != "|" else self.code)


class UnfilledArray(Unfilled):
    def __init__(self, kind: Any, *_shape_and_code: Any):
        super().__init__()
        if kind is not ArrayName:
            raise refusal("makes an array of another class")

    def filled(self, state: Any) -> np.ndarray[Any, Any]:
        if type(state) is not tuple:
            raise refusal(f"gives an array a {type(state).__name__} for its state")
        _version, shape, dtype, columns_first, content = state
        return _array(content, dtype, shape, "F" if columns_first else "C")


def scalar(dtype: Any, data: Any) -> Any:
    values = _flat(data, dtype, 1)
    return values[0]


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray[Any, Any]:
    """Arrays in protocol 5; ``axes`` says how a transposed one lies."""
    if type(data) not in (bytes, bytearray):
        raise refusal(f"makes an array from {type(data).__name__}")
    if axes is not None:
        return _array(data, dtype, shape, "C").transpose(axes)
    if order not in ("C", "F"):
        raise ValueError("the order of an array is neither C nor F")
    return _array(data, dtype, shape, order)


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    if type(shape) is not tuple or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("the shape of an array is not of lengths")
    return _flat(content, dtype, math.prod(shape)).reshape(shape, order=order)  # type: ignore[call-overload]


def _flat(content: Any, dtype: Any, count: int) -> np.ndarray[Any, Any]:
    """``count`` values from bytes, or from a list of objects."""
    if not isinstance(dtype, np.dtype):
        raise refusal(f"makes an array of a {type(dtype).__name__} instead of a dtype")
    if dtype.kind == "O" and type(content) is list:
        _check_length(len(content), count)
        values = np.empty(count, object)
        for i, value in enumerate(content):
            values[i] = value
        return values
    if dtype.kind == "O" or type(content) not in (bytes, bytearray):
        raise refusal(f"fills an array of {type(dtype).__name__} from {type(content).__name__}")
    if dtype.itemsize == 0:
        if count != 1:
            raise refusal("makes an array of elements without a size")
        return np.zeros(1, dtype)
    _check_length(len(content), count * dtype.itemsize)
    if dtype.kind == "b":
        return np.frombuffer(content, np.uint8) != 0
    if dtype.kind == "U" and (np.frombuffer(content, f"{dtype.byteorder}u4") > _LAST_CHARACTER).any():
        raise ValueError("an array of text holds what is not a character")
    return np.frombuffer(bytes(content), dtype).copy()


def _check_length(given: int, needed: int) -> None:
    if given != needed:
        raise ValueError(f"{given} where an array needs {needed}")
