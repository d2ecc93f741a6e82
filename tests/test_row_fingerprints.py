"""Fingerprints of rows: equal for equal tokens, whatever the dataset looks like; and the training sets made of them."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets

from makers import dataset, rows
from sortase import storage
from sortase.data import fingerprints as fp
from sortase.data.fingerprints import (
    HEAD,
    Training,
    content,
    fingerprints,
    labelled_tokens,
    overlap,
    seen_rows,
)
from sortase.data.sequences import IGNORED, Sequences
from sortase.errors import InputError, MissingInputError


def sequences(ids: list[list[int]], kind: str = "int64") -> Sequences:
    return Sequences(Dataset.from_dict({"input_ids": ids}, Features({"input_ids": List(Value(kind))})))


def of(*ids: list[int]) -> list[int]:
    return [int(value) for value in fingerprints(sequences(list(ids)))]


def test_order_length_and_place_count() -> None:
    different = [
        [1, 2, 3],
        [3, 2, 1],
        [1, 3, 2],
        [1, 2],
        [1, 2, 3, 0],
        [0, 1, 2, 3],
        [0],
        [0, 0],
        [0, 0, 0],
        [],
        [2, 1],
    ]
    found = of(*different)
    assert len(set(found)) == len(different)
    assert of(*different[::-1]) == found[::-1]


def test_the_values_are_part_of_the_file_format() -> None:
    """Registered models hold them; other numbers would make every overlap invisible."""
    assert of([1, 2, 3], [], [7]) == [reference(row) for row in ([1, 2, 3], [], [7])]
    assert of([5, 6])[0] == 14147745115301877


def reference(row: list[int]) -> int:
    """The definition, in plain integers."""

    def mix(value: int) -> int:
        z = (value + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    total = sum(mix((mix(token) + place) % 2**64) for place, token in enumerate(row)) % 2**64
    return mix(total ^ mix(len(row)))


def test_swaps_of_close_tokens_do_not_collide() -> None:
    pairs = [[a, b] for a in range(150) for b in range(150)]
    assert len(np.unique(fingerprints(sequences(pairs)))) == len(pairs)


@pytest.mark.parametrize("kind", ["int8", "int32", "uint16", "int64"])
def test_the_integer_type_does_not_matter(kind: str) -> None:
    ids = rows(20)
    assert np.array_equal(fingerprints(sequences(ids, kind)), fingerprints(sequences(ids)))


@pytest.mark.parametrize("tokens", [1, 7, 64, 10**6])
def test_chunks_views_and_windows_do_not_matter(tokens: int, tmp_path: Path) -> None:
    ids = [*rows(40), [], [9]]
    whole = fingerprints(sequences(ids))
    pieces = concatenate_datasets([Dataset.from_dict({"input_ids": ids[i : i + 5]}) for i in range(0, 42, 5)])
    assert np.array_equal(fingerprints(Sequences(pieces), tokens), whole)
    Dataset.from_dict({"input_ids": ids}).save_to_disk(str(tmp_path / "saved"), num_shards=4)
    saved = Sequences.open(str(tmp_path / "saved"))
    order = np.random.default_rng(0).permutation(42)
    assert np.array_equal(fingerprints(saved.view(order), tokens), whole[order])
    assert np.array_equal(fingerprints(Sequences(pieces.select(order.tolist())), tokens), whole[order])


def test_windows_hold_every_row_once() -> None:
    made = sequences([[], [1] * 50, [1], [2], [], [3] * 9])
    found = list(fp.windows(made, 10))
    assert np.concatenate(found).tolist() == list(range(6))
    assert max(len(window) for window in found) <= 10


def test_flat_values_are_those_of_the_rows() -> None:
    hidden = np.arange(60) % 4 == 1
    for kind, column in (("sequence", "label"), ("token", "labels")):
        made = Sequences.open(concatenate_datasets([dataset(kind, 9, seed) for seed in range(3)]), column)
        for view in (made, made.view(np.array([20, 3, 4, 11]), hidden_tokens=hidden)):
            places = np.arange(len(view))[::-1]
            assert np.array_equal(view.flat_tokens(places), np.concatenate([view.tokens_of(i) for i in places]))
            assert np.array_equal(view.flat_labels(places), np.concatenate([view.labels_of(i) for i in places]))
        assert len(made.flat_tokens(np.empty(0, dtype=np.int64))) == 0


def test_rows_that_training_and_validation_hold_are_found() -> None:
    made = Sequences.open(dataset(n=60), "label")
    training = Training.of([made.view(np.arange(20)), made.view(np.arange(20, 30))], "row")
    assert overlap(fingerprints(made), training).tolist() == list(range(30))
    assert overlap(fingerprints(made.view(np.arange(30, 60))), training).tolist() == []
    assert len(overlap(fingerprints(made), Training.of([], "row"))) == 0


def test_held_out_tokens_are_told_by_the_labels_that_show() -> None:
    held_out = np.arange(60) % 4 == 1
    made = Sequences.open(dataset("token"), "labels")
    train, test = made.view(hidden_tokens=held_out), made.view(hidden_tokens=~held_out)
    training = Training.of([train], "token")
    expected = {int(t) for i in range(len(train)) for t in train.tokens_of(i)[train.labels_of(i) != IGNORED]}
    assert set(training.hashes.tolist()) == expected
    assert len(overlap(labelled_tokens(test), training)) == 0
    assert len(overlap(labelled_tokens(made), training)) == len(expected)


def long_rows(n: int = 12, length: int = 200) -> list[list[int]]:
    return np.random.default_rng(4).integers(8, 60, (n, length)).tolist()


def cut(ids: list[list[int]], length: int, end: int | None = None) -> list[list[int]]:
    """Cut rows, of which the last token may be one that marks the end."""
    return [row[:length] if end is None or len(row) < length else [*row[: length - 1], end] for row in ids]


def seen(evaluated: list[list[int]], training: Training) -> list[int]:
    made = sequences(evaluated)
    return seen_rows(made, fingerprints(made), training).tolist()


@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize(
    ("trained", "evaluated"), [(200, 100), (100, 200), (100, 100), (HEAD + 1, 200), (200, HEAD + 1)]
)
def test_rows_are_recognised_at_any_length(trained: int, evaluated: int, end: int | None) -> None:
    ids = long_rows()
    training = Training.of([sequences(cut(ids[:8], trained, end)), sequences([[7, 8, 9]])], "row")
    assert seen(cut([*ids, [7, 8, 9], [7, 8]], evaluated, end), training) == [*range(8), 12]


def test_rows_that_begin_alike_are_others_unless_they_may_have_been_cut() -> None:
    same = [1] * HEAD
    training = Training.of([sequences([[*same, 2, 3], [*same, *[4] * 40]])], "row")
    assert seen([[*same, 5], [*same, *[6] * 40]], training) == []
    assert seen([[*same, 5], [*same, *[6] * 50]], training) == [1], "longer than any training row"
    assert seen([[*same, 5], [*same, *[6] * 30]], training) == [1], "the longest, and training rows are longer"


def test_no_row_is_recognised_by_less_than_a_head() -> None:
    training = Training.of([sequences(long_rows())], "row")
    assert seen(cut(long_rows(), HEAD - 1), training) == []


def test_a_model_that_went_on_has_seen_both(root: str) -> None:
    ids = long_rows()
    before = Training.of([sequences(cut(ids[:4], 100))], "row")
    both = Training.of([sequences(ids[4:8])], "row").union(before)
    assert both.longest == (100, 200)
    both.write(storage.join(root, "both.npy"))
    both = Training.read(storage.join(root, "both.npy"))
    for length in (90, 150, 200):
        assert seen(cut(ids, length), both) == list(range(8))
    tokens = Training.of([Sequences.open(dataset("token"), "labels")], "token")
    assert np.array_equal(tokens.union(tokens).hashes, tokens.hashes)
    with pytest.raises(InputError, match="a split by row and one by token"):
        both.union(tokens)


def test_a_file_of_one_array_holds_whole_rows(tmp_path: Path) -> None:
    ids = long_rows()
    np.save(tmp_path / "old.npy", np.sort(fingerprints(sequences(ids[:8]))).view([("row", "<u8")]))
    old = Training.read(str(tmp_path / "old.npy"))
    assert seen(ids, old) == list(range(8))
    assert seen(cut(ids, 100), old) == []


@pytest.mark.parametrize("unit", ["row", "token"])
def test_a_training_is_read_as_it_was_written(unit: str, root: str) -> None:
    rows = dataset("token").add_item({"input_ids": list(range(60)) * 2, "labels": [1] * 120})
    made = Training.of([Sequences.open(rows, "labels")], unit)  # type: ignore[arg-type]
    assert (np.diff(made.hashes.astype(object)) > 0).all()
    assert len(made.heads) == (unit == "row")
    url = storage.join(root, "training.npy")
    made.write(url)
    found = Training.read(url)
    assert (found.unit, found.longest) == (unit, made.longest)
    assert np.array_equal(found.hashes, made.hashes)
    assert np.array_equal(found.heads, made.heads)
    assert found.hashes.dtype == found.heads.dtype == np.uint64


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.arange(3))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "plain.npy").read_bytes()[:-4])
    (tmp_path / "empty.npy").write_bytes(b"")
    Training.of([sequences(long_rows())], "row").write(str(tmp_path / "whole.npy"))
    whole = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "torn.npy").write_bytes(whole[:-4])
    (tmp_path / "twice.npy").write_bytes(whole * 2)
    for name in ("plain", "pickle", "cut", "empty", "torn", "twice"):
        with pytest.raises(InputError, match=f"{name}.npy does not hold fingerprints"):
            Training.read(str(tmp_path / f"{name}.npy"))
    with pytest.raises(MissingInputError):
        Training.read(str(tmp_path / "nothing.npy"))


def test_content_changes_with_rows_order_and_labels() -> None:
    made = Sequences.open(dataset(n=30), "label")
    relabelled = Sequences.open(dataset(n=30).map(lambda row: {"label": 2 - row["label"]}), "label")
    contents = {content(view) for view in (made, made.view(np.arange(29)), made.view(np.arange(30)[::-1]), relabelled)}
    assert len(contents) == 4
    assert content(made.view(np.arange(30))) == content(made)
