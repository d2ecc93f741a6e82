"""Made-up pickles by the thousand, read in a process of its own: ``pickle_fuzzer.py SECONDS SEED``.

Each is either a changed copy of a real pickle or a sequence of instructions drawn at random, with the names that the
reader knows. The value or an InputError may come of it. Everything else, also memory that runs out, prints the pickle
and ends with 1; a crash ends with a signal.
"""

from __future__ import annotations

import collections
import pickle
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from sortase.errors import InputError
from sortase.storage import pickles

MEMORY = 2 << 30
VALUES: list[Any] = [
    {"ENSG1": 1, "ENSG2": [1.5, None, True], "é": (2, b"x", {3}, frozenset({4}))},
    [collections.OrderedDict(a=1), collections.defaultdict(list, {"a": [1]}), collections.Counter("aab")],
    [bytearray(b"ab"), 1 + 2j, 2**100, -(2**70), "\U0010ffff"],
    {"a": np.float64(1.5), "b": np.str_("é"), "c": np.bytes_(b"x"), "d": np.int64(7), "e": np.bool_(True)},
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(3, dtype=">i4")],
    [np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.array(["a", 1, None], dtype=object), np.zeros((0, 2))],
    [np.array([1, 2], "M8[ns]"), np.zeros(2, [("a", "O"), ("b", "i4")]), np.zeros(2, "V8")],
]
SEEDS = [pickle.dumps(value, protocol) for value in VALUES for protocol in range(6)]
NAMES = [
    f"c{module}\n{name}\n".encode()
    for module, name in [
        *((module, name) for module, name in pickles._ALLOWED if module != "__builtin__"),
        ("numpy", "matrix"),
        ("builtins", "getattr"),
    ]
]
CODES = ["f8", "i1", "b1", "O8", "U3", "S4", "U0", "S0", "V8", "M8[ns]", "c16", "f16", "u2", "S-1", "U99999999", "?"]
PARTS: list[Any] = [
    *CODES, *"<>|=CFAb", "latin1", b"", b"b", bytes(8), b"A" * 64, b"\xff" * 12, None, True, False, -1, 0, 1, 3, 4, 8,
    2**31 - 1, 2**63, 10**15, 1.5, (), (0,), (1,), (2, 3), (-1,), (2**40, 0), (None, None, None), [], [1], {},
    (3, "<", None, None, None, -1, -1, 0), (3, "|", None, None, None, 4, 1, 8), (1, (1,), 0, False, bytes(8)),
]  # fmt: skip
OPCODES = [code for name, code in vars(pickle).items() if name.isupper() and type(code) is bytes and len(code) == 1]
ENDS = (b"t", b"tb", b"l", b"tR", b"\x91", b"d")


def changed(rng: random.Random) -> bytes:
    """A real pickle with bytes changed, removed, repeated, or taken from another one."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        deed = rng.randrange(6)
        if deed == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif deed == 1 and at < len(data):
            data[at] = rng.choice(OPCODES)[0]
        elif deed == 2:
            del data[at : at + rng.choice((1, 2, 8))]
        elif deed == 3:
            data[at:at] = piece(rng)
        elif deed == 4:
            other = rng.choice(SEEDS)
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.randrange(64)]
        else:
            data[at:at] = data[at : at + rng.randrange(32)] * rng.choice((1, 2, 50))
    return bytes(data)


def piece(rng: random.Random) -> bytes:
    """One instruction, with its arguments before it where it wants some."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(NAMES)
    if kind in (1, 2):
        return dumped(rng.choice(PARTS))
    if kind == 3:
        return rng.choice(NAMES) + b"(" + b"".join(piece(rng) for _ in range(rng.randrange(4))) + b"tR"
    if kind == 4:
        return b"(" + b"".join(piece(rng) for _ in range(rng.randrange(6))) + rng.choice(ENDS)
    if kind == 5:
        return rng.choice((b"q", b"h")) + bytes([rng.randrange(4)])
    return rng.choice(OPCODES) + rng.choice((b"", b"", rng.randbytes(rng.choice((1, 4, 8)))))


def dumped(value: Any) -> bytes:
    """The instructions that make a value."""
    return pickle.dumps(value, 2)[2:-1]


def composed(rng: random.Random) -> bytes:
    """An array of a dtype, both with states drawn at random, among other instructions."""
    dtype = rng.choice([*NAMES[-8:], b"cnumpy\ndtype\n"]) + dumped((rng.choice(CODES), False, True)) + b"R"
    count = rng.choice((5, 7, 8, 8, 8, 9))
    state = b"(" + b"".join(dumped(rng.choice(PARTS)) for _ in range(count)) + b"tb"
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01"
    filled = dumped(rng.choice(PARTS)) + b"h\x00\x89" + dumped(rng.choice(PARTS)) + b"tb"
    whole = [dtype, rng.choice((b"", state)), b"q\x000", array, filled]
    extra = [piece(rng) for _ in range(rng.randrange(6))]
    for part in extra:
        whole.insert(rng.randrange(len(whole) + 1), part)
    return b"\x80\x04" + b"".join(whole if rng.random() < 0.5 else extra) + b"."


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for pair in value.items():
            yield from walk(pair)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from walk(inner)


def use(value: Any) -> None:
    """Whatever came of it can be shown, walked through, copied and let go."""
    repr(value)
    for inner in walk(value):
        if isinstance(inner, np.ndarray):
            inner.tolist()
            inner.copy().fill(0)
            assert inner.dtype.kind in "b?iufcSUO"


def fault(data: bytes) -> str | None:
    """What is wrong with how this pickle is read; empty where it is refused as it should be, None where it is read."""
    try:
        value = pickles.loads(data, "made-up.pkl")
    except InputError as error:
        wrong = isinstance(error.__cause__, MemoryError | SystemError) or len(str(error)) > 2000
        return repr(error) if wrong else ""
    use(value)
    return None


def main(seconds: float, seed: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    ends = time.monotonic() + seconds
    read = refused = 0
    while time.monotonic() < ends:
        data = changed(rng) if rng.random() < 0.5 else composed(rng)
        try:
            wrong = fault(data)
        except BaseException:
            print(f"by {data!r}:", file=sys.stderr)
            raise
        if wrong:
            print(f"{wrong} by {data!r}")
            return 1
        read, refused = read + (wrong is None), refused + (wrong is not None)
    print(f"{read} read, {refused} refused, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
