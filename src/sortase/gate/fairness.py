"""What has to hold before two models are compared; everything that would favour one of them is refused in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import classmap, vocabulary
from ..data.fingerprints import (
    HEAD,
    Training,
    Unit,
    fingerprints,
    labelled_tokens,
    overlap,
    seen_rows,
    windows,
)
from ..data.sequences import IGNORED, Sequences, open_dataset
from ..errors import InputError
from ..model.load import has_tokenizer, resolve
from ..model.task import Task
from ..model.tokenizer import load_tokenizer

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model by the folder or URL of what transformers loads. ``name`` is for words only.

    ``training`` is what it has seen, ``vocabulary`` its ``vocabulary_digest`` (None: taken from its tokenizer),
    ``evaluation`` its own evaluation.json, which tells of its baseline where that is not computed anew.
    """

    name: str
    model: str
    training: Training | None
    vocabulary: str | None = None
    evaluation: dict[str, Any] | None = None


def vocabulary_digest(model: str) -> str | None:
    """SHA-256 (hex) of token -> id of the tokenizer in a model's folder; None when there is none."""
    path = resolve(model)
    return digest_of(load_tokenizer(path)) if has_tokenizer(path) else None


def digest_of(tokenizer: Any) -> str | None:
    return None if tokenizer is None else vocabulary.digest(tokenizer.get_vocab())


def frozen(url: str, task: Task) -> tuple[Sequences, dict[str, int] | None]:
    """A frozen evaluation set, and its class map where the dataset, or a file that prepare left beside it, tells.

    Raises:
        InputError: it has no ``input_ids`` or no column of labels for this task.
    """
    dataset = open_dataset(url)
    sequences = Sequences(dataset, task.label_column)
    feature = dataset.features[task.label_column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    known = {name: number for number, name in enumerate(names)} if names else None
    if known is None:
        known = classmap.of_dataset(dataset, task.label_column)
    if known is None and (beside := classmap.beside(url, "json")):
        known = classmap.read(beside)
    return sequences, known


def refuse_other_tokens(name: str, tokenizer: Any, what: str, theirs: str | None) -> str | None:
    """``theirs``: ``vocabulary.plain_digest`` of what ``what`` was tokenised with. Returns a remark where nothing
    tells.

    Raises:
        InputError: the same ids mean other tokens to the model.
    """
    if theirs is None or tokenizer is None:
        return f"nothing tells whether {what} was tokenised with the vocabulary of {name}"
    ours = vocabulary.plain_digest(tokenizer.get_vocab())
    if ours != theirs:
        raise InputError(
            f"{what} was tokenised with another vocabulary than that of {name} (digests {theirs[:12]} and "
            f"{ours[:12]}): the same ids mean other tokens. Tokenise it with tokenize.vocabulary and tokenize.medians "
            "of the model; a version that was made from counts has vocabulary.pkl and medians.json in its folder"
        )
    return None


def refuse_other_task(challenger: str, ours: Task, champion: str, theirs: Task) -> None:
    if ours != theirs:
        raise InputError(
            f"{challenger} is a {ours.kind} classifier and {champion} a {theirs.kind} classifier; they do not compare"
        )


def refuse_other_classes(challenger: str, ours: dict[str, int], champion: str, theirs: dict[str, int]) -> None:
    if ours != theirs:
        raise InputError(
            f"{_differing(challenger, ours, champion, theirs)}; their figures would speak of different things. "
            "Train on the champion's classes, or begin a new model in the registry"
        )


def refuse_other_ids(challenger: str, ours: dict[str, int], theirs: dict[str, int]) -> None:
    """Of an evaluation set with ids of classes."""
    if ours != theirs:
        raise InputError(
            f"{_differing(challenger, ours, 'the evaluation set', theirs)}; its labels would count as other classes. "
            f"Prepare the set with the class map of {challenger} in labels.mapping, or name another one in gate.dataset"
        )


def _differing(challenger: str, ours: dict[str, int], other: str, theirs: dict[str, int]) -> str:
    found = []
    for name, one, two in ((challenger, ours, theirs), (other, theirs, ours)):
        if only := sorted(set(one) - set(two)):
            found.append(f"only {name} has {_some(only)}")
    if moved := sorted(name for name in set(ours) & set(theirs) if ours[name] != theirs[name]):
        each = _some([f"{name!r} is {ours[name]} and {theirs[name]}" for name in moved], quoted=False)
        found.append(f"ids differ: {each}")
    return f"the class maps of {challenger} and {other} differ ({'; '.join(found)})"


def refuse_other_vocabulary(
    challenger: str, ours: tuple[str | None, int], champion: str, theirs: tuple[str | None, int]
) -> str | None:
    """Each model's digest and number of embeddings. Returns a remark when only the numbers could be compared."""
    reason = "the same ids would mean different tokens, and one set of rows cannot suit both"
    if ours[0] and theirs[0]:
        if ours[0] != theirs[0]:
            raise InputError(
                f"the vocabularies of {challenger} and {champion} differ (digests {ours[0][:12]} and "
                f"{theirs[0][:12]}); {reason}"
            )
        return None
    if ours[1] != theirs[1]:
        raise InputError(
            f"the vocabularies of {challenger} and {champion} differ ({ours[1]} and {theirs[1]} entries); {reason}"
        )
    without = " and ".join(name for name, digest in ((challenger, ours[0]), (champion, theirs[0])) if not digest)
    return f"vocabularies were compared by their size alone: there is no tokenizer with {without}"


def refuse_other_lengths(challenger: str, ours: int, champion: str, theirs: int, test: Sequences, task: Task) -> None:
    """Tokens behind the place where a model stops reading have no prediction: the units would not be the same."""
    least = min(ours, theirs)
    if task.unit == "token" and ours != theirs and (longer := int((test.lengths > least).sum())):
        raise InputError(
            f"{challenger} reads {ours} tokens and {champion} {theirs}, and {longer} of the {len(test)} evaluated "
            f"rows are longer than {least}: they would be scored on different tokens. Leave these rows out, or "
            f"tokenise the set anew with max_length {least} (rows that were seen are recognised from {HEAD} tokens on)"
        )


def without_seen(
    test: Sequences, unit: Unit, contenders: dict[str, Contender], drop: bool, least: int = 1
) -> tuple[Sequences, dict[str, int]]:
    """The evaluation set without what any model was trained on, and by model how many rows (or tokens) that was.

    ``contenders`` by the names that words call them by.

    Raises:
        InputError: it is not known what a model was trained on; unless ``drop``, anything was seen; fewer rows (or
            tokens) than ``least`` are left.
    """
    marks = fingerprints(test) if unit == "row" else labelled_tokens(test)
    known = {name: _known(name, each.training, unit) for name, each in contenders.items()}
    seen = {
        name: seen_rows(test, marks, training) if unit == "row" else overlap(marks, training)
        for name, training in known.items()
    }
    gone = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *seen.values()]))
    if len(gone) and not drop:
        raise InputError(_overlapping(test, unit, marks, seen))
    if 0 < len(gone) == len(marks):
        raise InputError(
            f"the models were trained on all {len(marks)} evaluated {unit}s; nothing is left to compare them on"
        )
    if (number := len(marks) - len(gone)) < least:
        dropped = f" ({len(gone)} of {len(marks)} were left out, a model was trained on them)" if len(gone) else ""
        raise InputError(
            f"too few to judge on: {number} evaluated {unit}{'s' if number != 1 else ''}{dropped}, and gate.min_units "
            f"asks for {least}. Name a larger evaluation set in gate.dataset, or lower gate.min_units"
        )
    if len(gone):
        test = _without_rows(test, gone) if unit == "row" else _without_tokens(test, marks[gone])
    return test, {name: len(places) for name, places in seen.items()}


def _known(name: str, found: Training | None, unit: Unit) -> Training:
    if found is None:
        raise InputError(
            f"it is not known what {name} was trained on, so nothing tells whether it has seen the "
            f"evaluated {unit}s; register its run again, so that fingerprints of its training side are kept"
        )
    if found.unit != unit:
        raise InputError(
            f"{name} was trained on a split by {found.unit}, and the evaluation is one of held-out {unit}s; "
            f"nothing tells which of the {unit}s it has seen. Compare models whose splits have the same unit"
        )
    return found


def _overlapping(test: Sequences, unit: Unit, marks: np.ndarray, seen: dict[str, np.ndarray]) -> str:
    words = []
    for name, places in seen.items():
        if len(places):
            numbers = test.rows[places[:SHOWN]] if unit == "row" else marks[places[:SHOWN]]
            first = ", ".join(str(int(number)) for number in numbers)
            share = f"{len(places)} of {len(marks)} evaluated {unit}s ({len(places) / len(marks):.1%})"
            words.append(f"{share} are in the training data of {name} (first: {unit} {first})")
    return (
        f"{'; '.join(words)}. Figures on them show what was learnt by heart. Name a frozen set that no model is "
        "trained on in gate.dataset, or set gate.overlap to 'drop' to leave them out for both models"
    )


def _without_rows(test: Sequences, gone: np.ndarray) -> Sequences:
    return test.view(np.setdiff1d(np.arange(len(test)), gone))


def _without_tokens(test: Sequences, tokens: np.ndarray) -> Sequences:
    """Rows that still have a label once these tokens show none."""
    hidden = np.zeros(1 + test.max_token(), dtype=bool)
    if test.hidden is not None:
        hidden[: len(test.hidden)] = test.hidden[: len(hidden)]
    hidden[tokens.astype(np.int64)] = True
    return labelled_rows(test.view(hidden_tokens=hidden))


def labelled_rows(sequences: Sequences) -> Sequences:
    """Only the rows in which something shows a label."""
    kept = [np.empty(0, dtype=np.int64)]
    for window in windows(sequences):
        labels = sequences.flat_labels(window)
        owners = np.repeat(window, sequences.lengths[window]) if sequences.labelled_by_token else window
        kept.append(np.unique(owners[labels != IGNORED]))
    return sequences.view(np.concatenate(kept))


def _some(names: list[str], quoted: bool = True) -> str:
    shown = [repr(name) if quoted else name for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
