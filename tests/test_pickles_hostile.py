"""Pickles made to corrupt memory or to exhaust it: refused, with no more memory used than their length allows."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

from sortase.errors import InputError, UnsafePickleError
from sortase.storage import pickles
from test_pickles import Call, array_of, scalar_of


def dtype_of(code: str, *state: Any) -> Call:
    return Call(np.dtype, code, False, True, state=state)


def plain_state(size: int, *, order: Any = "<", flags: int = 0) -> tuple[Any, ...]:
    return (3, order, None, None, None, size, 1, flags)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(dtype_of("M8[ns]", 4, "<", None, None, None, -1, -1, 0), id="a date's state with eight fields"),
        pytest.param(dtype_of("M8", 4, "<", None, None, None, -1, -1, 0, ({}, ())), id="a date without its unit"),
        pytest.param(array_of(np.array([0], "M8[s]").dtype, bytes(8)), id="a date as NumPy writes it"),
        *(
            pytest.param(array_of(dtype_of(code, *plain_state(-1)), b"A" * 64, 64), id=f"size -1 of {code}")
            for code in ("S1", "U1", "V1", "S64")
        ),
        pytest.param(array_of(dtype_of("S0", *plain_state(0)), b"", 10**15), id="text without a size"),
        pytest.param(array_of(dtype_of("U1", *plain_state(1)), b"A" * 4, 4), id="a quarter of a character"),
        pytest.param(array_of(dtype_of("f8", *plain_state(1)), b"A" * 8, 8), id="numbers of another size"),
        pytest.param(array_of(np.dtype("f16"), bytes(16)), id="numbers of 80 bits"),
        pytest.param(array_of(np.dtype("V8"), bytes(8)), id="bytes without a kind"),
        pytest.param(dtype_of("f8", 3, "<", (np.dtype("O"), (1,)), None, None, -1, -1, 0), id="a dtype in a dtype"),
        pytest.param(dtype_of("f8", 3, None, None, None, None, -1, -1, 0), id="an order that is None"),
        pytest.param(dtype_of("f8", 3, "<", None, None, None, -1.0, -1, 0), id="a size that is not an integer"),
        pytest.param(Call(np.dtype, [("a", "O")]), id="fields"),
        pytest.param(Call(np.dtype, {"names": ["a"], "formats": ["O"], "offsets": [0]}), id="fields by name"),
        pytest.param(Call(np.dtype, "S2147483647"), id="text of two gigabytes"),
        pytest.param(np.dtype("f8").newbyteorder(">").__reduce__()[0], id="a class"),
    ],
)
def test_only_plain_dtypes_are_made(payload: Any) -> None:
    """A dtype's state decides how memory is read, so a false one is read past the end, or through a null pointer."""
    with pytest.raises(UnsafePickleError, match=r"genes\.pkl is refused unexecuted"):
        pickles.loads(pickle.dumps({"a": payload} if isinstance(payload, Call) else payload), "genes.pkl")


def test_text_is_of_characters() -> None:
    for payload in (array_of(np.dtype("U1"), b"\xff" * 4), scalar_of(np.dtype("U1"), b"\xff" * 4)):
        with pytest.raises(InputError, match="what is not a character"):
            pickles.loads(pickle.dumps(payload), "genes.pkl")
    big = np.array(["\U0010ffff"], ">U1")
    assert pickles.loads(pickle.dumps(big), "genes.pkl").tolist() == big.tolist()


def test_booleans_are_true_or_false() -> None:
    read = pickles.loads(pickle.dumps(array_of(np.dtype("?"), b"\x00\x02\xff", 3)), "genes.pkl")
    assert read.view(np.uint8).tolist() == [0, 1, 1]


def test_nothing_is_shared_with_the_pickle() -> None:
    """Two arrays of one buffer, and NumPy's own dtypes."""
    buffer = bytearray(np.arange(3.0).tobytes())
    of = np.arange(2).__reduce_ex__(5)[0]
    one = Call(of, buffer, np.dtype("f8"), (3,), "C")
    two = Call(of, buffer, np.dtype("f8"), (3,), "C")
    first, second = pickles.loads(pickle.dumps([one, two], protocol=5), "genes.pkl")
    first[0] = 7
    assert second.tolist() == [0, 1, 2]
    read = pickles.loads(pickle.dumps(np.arange(2, dtype=">f8")), "genes.pkl")
    assert read.tolist() == [0, 1] and np.dtype("f8").byteorder == "=" and np.dtype("f8").isnative


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ARRAY, id="an array without content"),
        pytest.param(b"]" + ARRAY + b"a", id="one in a list"),
        pytest.param(ARRAY + b"q\x00h\x00\x86", id="one twice"),
        pytest.param(ARRAY + b"2\x86", id="one doubled"),
        pytest.param(b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8\x89\x88tR", id="a dtype without a state"),
        pytest.param(b"]" + b"q\x00h\x00a", id="a list in itself"),
        pytest.param(b"}" + b"q\x00K\x01h\x00s", id="a dictionary in itself"),
        pytest.param(b"]" + b"\x85" * 150, id="tuples in tuples"),
        pytest.param(b"".join(b"](" for _ in range(150)) + b"e" * 150, id="lists in lists"),
        pytest.param(b"ccollections\ndefaultdict\n(cnumpy\ndtype\ntR", id="a factory that is not a container"),
        pytest.param(b"\x96\x02\x00\x00\x00\x00\x00\x00\x00ab\x98", id="a view of bytes"),
        pytest.param(b"\x96\x02\x00\x00\x00\x00\x00\x00\x00abK\x00K\x07s", id="bytes that are changed"),
        pytest.param(b"](K\x01eK\x00K\x07s", id="a list that is changed like a dictionary"),
        pytest.param(b"\x82\x01", id="a registered extension"),
    ],
)
def test_what_is_not_a_plain_value_is_refused(content: bytes) -> None:
    with pytest.raises(UnsafePickleError, match=r"genes\.pkl is refused unexecuted"):
        pickles.loads(b"\x80\x05" + content + b".", "genes.pkl")


def calls(name: bytes, argument: bytes, count: int) -> bytes:
    """A list of ``count`` results of calling one name with one argument."""
    again = b"h\x00h\x01\x85R" * count
    return b"\x80\x04c" + name + b"q\x000" + argument + b"q\x010](" + again + b"e."


NUMBERS = b"](" + b"".join(b"M" + i.to_bytes(2, "little") for i in range(4000)) + b"e"
PAIRS = b"](" + b"".join(b"M" + i.to_bytes(2, "little") + b"N\x86" for i in range(4000)) + b"e"
TEXT = b"X\xf0\x55\x00\x00" + b"a" * 22000
ENCODE = b"c_codecs\nencode\n"


def layers(close: bytes, count: int, opened: bytes = b"") -> bytes:
    """A value that holds twice a value that holds twice a value, and so on."""
    return b")" + b"".join(b"q%c0" % i + opened + b"h%ch%c" % (i, i) + close for i in range(count))


ENCODED = b"h\x00h\x01h\x02\x86R"
LATIN1 = b"X\x06\x00\x00\x00latin1"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x80\x05\x96" + (4 << 30).to_bytes(8, "little") + b".", id="four gigabytes in 15 bytes"),
        pytest.param(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".", id="bytes that are not there"),
        pytest.param(calls(b"builtins\nset\n", NUMBERS, 3000), id="a set again and again"),
        pytest.param(calls(b"builtins\nfrozenset\n", NUMBERS, 3000), id="a frozen set"),
        pytest.param(calls(b"collections\nOrderedDict\n", PAIRS, 3000), id="a dictionary"),
        pytest.param(calls(b"builtins\nbytearray\n", b"B\xf0\x55\x00\x00" + b"a" * 22000, 9000), id="bytes"),
        pytest.param(
            b"\x80\x04" + ENCODE + b"q\x000" + TEXT + b"q\x010" + LATIN1 + b"q\x02](" + ENCODED * 9000 + b"e.",
            id="text that is encoded",
        ),
        pytest.param(b"\x80\x04" + ENCODE + b"(" + layers(b"l", 20, b"(") + LATIN1 + b"tR.", id="lists encoded"),
        pytest.param(b"\x80\x04](" + b"\x8f" * 60_000 + b"e.", id="empty sets"),
        pytest.param(b"\x80\x04" + layers(b"l", 30, b"(") + b".", id="lists of a list twice"),
        pytest.param(b"\x80\x04" + layers(b"\x86", 60) + b".", id="tuples of a tuple twice"),
        pytest.param(b"\x80\x04" + layers(b"\x86\x91", 60, b"(") + b".", id="towers of frozen sets"),
        pytest.param(
            b"\x80\x04" + layers(b"\x86", 20) + b"q\xf00}(" + b"h\xf0N" * 2000 + b"u.",
            id="a key that takes a while, two thousand times",
        ),
    ],
)  # fmt: skip
def test_memory_is_a_multiple_of_the_length(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            pickles.loads(payload, "genes.pkl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 256 * len(payload) + (16 << 20)


def test_a_value_that_many_share_is_read() -> None:
    """What a table with a repeated column looks like; a limit that is too low would refuse it."""
    value = {f"cell{i}": ("blood", [1, 2], frozenset({"B", "T"})) for i in range(2000)}
    shared = [["donor", 1]] * 20_000
    assert pickles.loads(pickle.dumps([value, shared]), "genes.pkl") == [value, shared]
