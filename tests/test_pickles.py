"""Pickles: what is read from one, and that nothing in one is executed."""

from __future__ import annotations

import collections
import functools
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.trainer_utils import PredictionOutput

from sortase import storage
from sortase.errors import InputError, MissingInputError, UnsafePickleError
from sortase.storage import pickles


class Call:
    """Becomes a pickle that calls ``function`` when it is read, and then sets ``state`` on the result."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def array_of(dtype: Any, content: Any, count: int = 1) -> Call:
    """A one-dimensional array as NumPy pickles it, with a dtype and content that need not agree."""
    reconstruct = np.zeros(0).__reduce__()[0]
    return Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (count,), dtype, False, content))


def scalar_of(dtype: Any, content: Any) -> Call:
    return Call(np.float64(0).__reduce__()[0], dtype, content)


def torch_storage(shell: Call) -> Any:
    import torch

    file = io.BytesIO()
    torch.save(shell, file)
    return Call(torch.storage._load_from_bytes, file.getvalue())


EXECUTING: dict[str, Callable[[str], Any]] = {
    "os.system": lambda command: Call(os.system, command),
    "builtins.eval": lambda command: Call(eval, f"__import__('os').system({command!r})"),
    "functools.partial": lambda command: Call(functools.partial(os.system, command)),
    "nested": lambda command: {"genes": [(1, {"a": Call(os.system, command)})]},
    "dictionary key": lambda command: {Call(os.system, command): 1},
    "factory of a defaultdict": lambda command: collections.defaultdict(functools.partial(os.system, command), {}),
    "object array": lambda command: np.array([Call(os.system, command), None], dtype=object),
    "array of objects as bytes": lambda command: array_of(np.dtype("O"), [Call(os.system, command)]),
    "scalar of numpy.core": lambda command: scalar_of(np.dtype("f8"), Call(os.system, command)),
    "torch storage": lambda command: torch_storage(Call(os.system, command)),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", EXECUTING)
def test_a_call_is_refused_unexecuted(kind: str, protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    payload = pickle.dumps(EXECUTING[kind](f"touch {marker}"), protocol=protocol)
    with pytest.raises(UnsafePickleError, match=r"genes\.pkl is refused unexecuted: it asks for "):
        pickles.loads(payload, "genes.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["os.system", "builtins.eval", "functools.partial", "nested", "object array"])
def test_the_same_payload_is_live_elsewhere(kind: str, tmp_path: Path) -> None:
    """What the test above refuses would have left its mark."""
    marker = tmp_path / "executed"
    payload = pickle.dumps(EXECUTING[kind](f"touch {marker}"))
    pickle.loads(payload)
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("posix", "system", id="the module behind os"),
        pytest.param("builtins", "getattr", id="getattr"),
        pytest.param("builtins", "dict.fromkeys", id="a method of an allowed class"),
        pytest.param("collections", "_sys.modules", id="a module inside an allowed one"),
        pytest.param("numpy.core.multiarray", "os.system", id="through numpy.core.multiarray"),
        pytest.param("numpy.core.multiarray", "fromfile", id="files through numpy.core.multiarray"),
        pytest.param("numpy", "load", id="numpy.load"),
        pytest.param("numpy", "memmap", id="numpy.memmap"),
        pytest.param("numpy.dtypes", "overrides.DType", id="a path ending in DType"),
        pytest.param("copyreg", "_reconstructor", id="any object"),
        pytest.param("pickle", "loads", id="another pickle"),
        pytest.param("module_that_does_not_exist", "f", id="unknown module"),
    ],
)
def test_a_name_outside_the_table_is_refused(module: str, name: str) -> None:
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    with pytest.raises(UnsafePickleError, match=rf"it asks for {module}\.{name}; only plain containers"):
        pickles.loads(b"\x80\x04" + words + b"\x93.", "genes.pkl")


POINTERS_AS_BYTES = np.zeros(1, np.int64).tobytes()
FROM_BUFFER = np.arange(2).__reduce_ex__(5)[0]
OBJECT_FIELD = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(array_of(np.dtype("O"), POINTERS_AS_BYTES), id="objects from bytes"),
        pytest.param(scalar_of(np.dtype("O"), POINTERS_AS_BYTES), id="object scalar from bytes"),
        pytest.param(
            array_of(Call(np.dtype, "V8", False, True, state=OBJECT_FIELD), POINTERS_AS_BYTES),
            id="an object field that the flags of its dtype deny",
        ),
        pytest.param(array_of(np.dtype([("a", "O")]), POINTERS_AS_BYTES), id="structure with an object"),
        pytest.param(
            array_of(Call(np.dtype, "S1", False, True, state=(3, "|", None, None, None, 4096, 1, 0)), b"x"),
            id="a size that its dtype denies",
        ),
        pytest.param(
            Call(np.zeros(0).__reduce__()[0], dict, (0,), b"b"),
            id="_reconstruct of another class",
        ),
        pytest.param(Call(FROM_BUFFER, POINTERS_AS_BYTES, np.dtype("O"), (1,), "C"), id="buffer"),
        pytest.param(array_of(Call(np.dtype, "V0"), b"", 10**12), id="elements without a size"),
    ],
)
def test_numpy_never_takes_bytes_for_objects(payload: Call) -> None:
    with pytest.raises(UnsafePickleError, match=r"genes\.pkl is refused unexecuted"):
        pickles.loads(pickle.dumps(payload), "genes.pkl")


@pytest.mark.parametrize("state", [OBJECT_FIELD, (3, ">", None, None, None, -1, -1, 0)])
def test_a_dtype_is_not_changed_after_its_array_is_filled(state: tuple[Any, ...]) -> None:
    """Bytes that went into an array as bytes would be objects afterwards."""
    order = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00i8\x89\x88tRq\x00" + order
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    filled = array + b"(K\x01(K\x01th\x00\x89C\x08" + POINTERS_AS_BYTES + b"tb"
    assert pickles.loads(b"\x80\x03" + dtype + b"0" + filled + b".", "genes.pkl").tolist() == [0]
    changed = b"h\x00" + pickle.dumps(state, protocol=2)[2:-1] + b"b"
    with pytest.raises(UnsafePickleError, match="sets the inside of a Int64DType"):
        pickles.loads(b"\x80\x03(" + dtype + filled + changed + b"t.", "genes.pkl")


@pytest.mark.parametrize(
    ("content", "count"),
    [
        pytest.param([1], 100_000, id="fewer objects than the shape says"),
        pytest.param([1, 2], 1, id="more"),
        pytest.param([], -1, id="a negative length"),
        pytest.param([1], 1.0, id="a length that is no integer"),
    ],
)
def test_a_list_has_the_length_of_its_array(content: list[int], count: Any) -> None:
    """NumPy itself reads on behind the end of a shorter list."""
    with pytest.raises(InputError, match="is not a readable pickle: ValueError"):
        pickles.loads(pickle.dumps(array_of(np.dtype("O"), content, count)), "genes.pkl")


def test_an_array_is_no_view_of_another() -> None:
    """Giving the other a new state would free the memory below the view."""
    owner = array_of(np.dtype("f8"), bytes(16_000), 2000)
    with pytest.raises(UnsafePickleError, match="from ndarray"):
        pickles.loads(pickle.dumps(Call(FROM_BUFFER, owner, np.dtype("f8"), (2000,), "C")), "genes.pkl")


def nested_tuples(content: bytes, count: int) -> bytes:
    """A dictionary whose key is ``()`` wrapped ``count`` times."""
    return b"\x80\x04})" + content * count + b"K\x01s."


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(nested_tuples(pickle.TUPLE1, 1_000_000), id="a key deeper than the stack"),
        pytest.param(nested_tuples(pickle.DUP + pickle.TUPLE2, 60), id="a key that takes for ever to hash"),
        pytest.param(pickle.dumps(Call(bytes, 10**12)), id="a tebibyte"),
        pytest.param(pickle.dumps(Call(bytearray, np.int64(10**12))), id="a tebibyte by another integer"),
        pytest.param(pickle.dumps(Call(list, "ab")), id="a copy"),
        pytest.param(pickle.dumps(Call(str, [1])), id="a text of a value"),
        pytest.param(b"\x80\x04cbuiltins\ntuple\n](K\x01e\x85\x81.", id="a class made without a call"),
    ],
)
def test_what_would_exhaust_the_machine_is_refused(payload: bytes) -> None:
    with pytest.raises(UnsafePickleError, match=r"genes\.pkl is refused unexecuted"):
        pickles.loads(payload, "genes.pkl")


def test_messages_stay_short() -> None:
    """The text of three lists in three lists, twenty times over, would not fit into memory."""
    layers = b"".join(b"q%c0](h%ch%ch%ce" % (i, i, i, i) for i in range(20))
    with pytest.raises(UnsafePickleError) as caught:
        pickles.loads(b"\x80\x04]" + layers + b"}b.", "genes.pkl")
    assert len(str(caught.value)) < 300


def test_tuples_in_tuples_are_read() -> None:
    value = {(1, (2, ("a", (None,)))): tuple((i, (i, i)) for i in range(1000))}
    assert pickles.loads(pickle.dumps(value), "value.pkl") == value


def test_classes_are_not_changed() -> None:
    """A state set on a class itself would change it for the whole process."""
    update = collections.Counter.update
    payload = b"ccollections\nCounter\n(N}X\x06\x00\x00\x00updateNstb."
    with pytest.raises(UnsafePickleError, match="sets the inside of"):
        pickles.loads(payload, "genes.pkl")
    assert collections.Counter.update is update


def test_ndarray_itself_is_not_called() -> None:
    """Its constructor would hand out memory that was never written."""
    with pytest.raises(InputError):
        pickles.loads(pickle.dumps(Call(np.ndarray, (1000,), np.dtype("f8"))), "genes.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, None, True], "c": (2, "é")},
        {1, 2},
        frozenset({"a"}),
        b"\x00\xff",
        bytearray(b"ab"),
        2**100,
        1 + 2j,
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, {"a": [1]}),
        collections.Counter("aab"),
        np.float32(1.5),
        np.str_("é"),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(3, dtype=">i4"),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array(["a", 1, None], dtype=object),
        np.array(True),
        np.zeros((0, 2)),
    ],
    ids=repr,
)
def test_plain_values_are_read(value: Any, protocol: int) -> None:
    found = pickles.loads(pickle.dumps(value, protocol=protocol), "value.pkl")
    assert type(found) is type(value)
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
        found = found.astype(value.dtype)
    assert repr(found) == repr(value)


def test_names_from_older_numpy_are_read() -> None:
    new = pickle.dumps({"ENSG1": np.float64(1.5), "ENSG2": np.arange(2)}, protocol=2)
    old = new.replace(b"numpy._core.", b"numpy.core.")
    assert old != new
    found = pickles.loads(old, "medians.pkl")
    assert found["ENSG1"] == 1.5 and found["ENSG2"].tolist() == [0, 1]


WHOLE = pickle.dumps({"ENSG1": np.float64(1.5), "ENSG2": [1, 2, 3]}, protocol=4)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(WHOLE[:-1], id="without its end"),
        pytest.param(WHOLE[: len(WHOLE) // 2], id="half"),
        pytest.param(b"gene,token\nENSG1,1\n", id="CSV"),
        pytest.param(b"\x80\xff.", id="unknown protocol"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="zip"),
        pytest.param(b"\x80\x04h\x07.", id="memory that was never stored"),
        pytest.param(b"\x80\x04a.", id="empty stack"),
        pytest.param(b"\x80\x04cnumpy\ndtype\n)R}b.", id="dtype without a kind, state without parts"),
        pytest.param(pickle.dumps(array_of(np.dtype("f8"), b"abc")), id="too few bytes"),
        pytest.param(pickle.dumps(scalar_of(np.dtype("f8"), bytes(16))), id="two values in a scalar"),
    ],
)
def test_what_is_no_pickle_is_an_input_error(data: bytes) -> None:
    with pytest.raises(InputError, match=r"genes\.pkl is not a readable pickle: "):
        pickles.loads(data, "genes.pkl")


def test_every_cut_of_a_pickle_is_an_input_error() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(InputError):
            pickles.loads(WHOLE[:length], "genes.pkl")


def test_what_is_dumped_is_loaded(root: str) -> None:
    url = storage.join(root, "classes", "map.pkl")
    pickles.dump(url, {"B cell": 0, "T cell": 1})
    assert pickles.load(url) == {"B cell": 0, "T cell": 1}
    with pytest.raises(MissingInputError):
        pickles.load(storage.join(root, "classes", "mpa.pkl"))


def test_geneformer_token_dictionary(geneformer_dir: Path) -> None:
    """It names a gene for each token, where the tokens of genes are NumPy integers."""
    genes = pickles.load(str(geneformer_dir / "geneformer_v1_token_dictionary.pkl"))
    assert list(genes) == list(range(25_426))
    assert (genes[0], genes[1]) == ("<pad>", "<mask>")
    assert all(gene.startswith("ENSG") for token, gene in genes.items() if token > 1)


def test_geneformer_gene_medians(geneformer_dir: Path) -> None:
    medians = pickles.load(str(geneformer_dir / "geneformer_v1_gene_medians.pkl"))
    assert len(medians) == 25_424
    assert all(gene.startswith("ENSG") for gene in medians)
    assert all(type(value) is np.float64 and 0 < value < np.inf for value in medians.values())


def test_what_a_trainer_predicted_is_read_as_a_plain_dict() -> None:
    content = PredictionOutput(np.eye(2, dtype=np.float32), np.arange(2), {"test_loss": np.float64(0.5)})
    for protocol in (2, 3, 4, 5):
        found = pickles.loads(pickle.dumps({"a": content}, protocol), "it")["a"]
        assert type(found) is dict
        assert found["predictions"].tolist() == [[1, 0], [0, 1]]
        assert found["label_ids"].tolist() == [0, 1]
        assert found["metrics"] == {"test_loss": 0.5}
    with pytest.raises(UnsafePickleError, match="makes an object"):
        pickles.loads(_newobj("builtins", "dict", ()), "it")
    with pytest.raises(UnsafePickleError, match="makes an object"):
        pickles.loads(_newobj("transformers.trainer_utils", "PredictionOutput", (1, 2)), "it")
    with pytest.raises(UnsafePickleError, match="holds a"):
        pickles.loads(pickle.dumps([PredictionOutput]), "it")
    with pytest.raises(UnsafePickleError, match="calls OutputName"):
        pickles.loads(b"ctransformers.trainer_utils\nPredictionOutput\n(I1\nI2\nI3\ntR.", "it")


def _newobj(module: str, name: str, arguments: tuple[Any, ...]) -> bytes:
    """An object of a class, made by the instruction NEWOBJ."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"\x81."


def test_the_reason_of_a_refusal_is_short_whatever_the_pickle_holds() -> None:
    with pytest.raises(InputError, match=r"^genes\.pkl is not a readable pickle: ValueError: could not convert") as met:
        pickles.loads(b"F" + b"9x" * 20_000 + b"\n.", "genes.pkl")
    assert len(str(met.value)) < 300
