"""How far new data lie from those a model was trained on: classes, lengths and tokens of two profiles.

Limits are for drift beyond what sampling explains: by permutation for classes and lengths, and after Good (1953,
*The population frequencies of species*) for tokens that were never seen. Both take rows for independent draws; rows of
one donor, batch or author are not, so that a limit that was just passed may still be such a group's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..config.drift import DriftSpec
from ..errors import InputError
from .drift_words import caveat, markdown, sentence, text
from .profile import FORMAT, numbers, token_counts, training_ids

__all__ = ["Drift", "check", "drift", "markdown", "text"]

Profile = Mapping[str, Any]
DRAWS = 999
MOST_DRAWN = 1_000_000  # numbers in memory: draws by classes
MOST_ROWS = 1_000_000  # beyond, chance does not matter
CHANCE = 0.99
BINS = 10
MOST_MOVED = 8
NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure and its limit. ``chance``: what data from the same population reach in at most one of 100 cases."""

    setting: str
    what: str
    value: float
    before: float | None = None
    after: float | None = None
    limit: float | None
    chance: float | None = None
    at_least: bool = False

    @property
    def beyond(self) -> bool:
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit

    @property
    def exceeded(self) -> bool:
        return self.beyond and (self.chance is None or self.value > self.chance)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "beyond": self.beyond, "exceeded": self.exceeded}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """``classes`` are those whose shares moved most, in order; ``new`` and ``vanished`` ones with their rows."""

    unit: str
    rows: tuple[int, int]
    measures: tuple[Measure, ...]
    classes: tuple[dict[str, Any], ...]
    new: dict[str, int]
    vanished: dict[str, int]
    lengths: dict[str, tuple[float, float]]
    unseen_ids: int

    @property
    def exceeded(self) -> list[str]:
        """Settings whose limit the drift is beyond."""
        return [measure.setting for measure in self.measures if measure.exceeded]

    @property
    def words(self) -> list[str]:
        told = [sentence(measure.plain()) for measure in self.measures if measure.beyond]
        return told + caveat(self.rows, bool(self.exceeded))

    def as_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "rows": list(self.rows),
            "measures": [measure.plain() for measure in self.measures],
            "classes": list(self.classes),
            "new": self.new,
            "vanished": self.vanished,
            "lengths": {name: list(pair) for name, pair in self.lengths.items()},
            "unseen_ids": self.unseen_ids,
            "exceeded": self.exceeded,
            "words": self.words,
        }

    def table(self) -> str:
        return text(self.as_json())

    def markdown(self) -> str:
        return markdown(self.as_json())


def check(found: Drift, spec: DriftSpec) -> None:
    """InputError for drift beyond a limit where ``action`` is ``refuse``."""
    if spec.action == "warn" or not found.exceeded:
        return
    told = "; ".join(sentence(measure.plain()) for measure in found.measures if measure.exceeded)
    raise InputError(
        f"the new data drifted: {told}. Look at what changed; to go on, raise the limit, set it to null, or set "
        "retrain.drift.action: warn"
    )


def drift(before: Profile, after: Profile, spec: DriftSpec) -> Drift:
    """Compare two profiles, the one of the model's data first.

    Raises:
        InputError: they are of different tasks, or of a format that this version does not read.
    """
    for each in (before, after):
        if each.get("format") != FORMAT:
            raise InputError(f"a profile has format {each.get('format')!r}, this version reads {FORMAT}; make it again")
    if before["task"] != after["task"]:
        raise InputError(f"the model's data are for task {before['task']}, the new ones for task {after['task']}")
    names = list(dict.fromkeys([*before["classes"], *after["classes"]]))
    old, new = (np.array([each["classes"].get(name, 0) for name in names]) for each in (before, after))
    rows = (before["rows"], after["rows"])
    unseen, ids = _unseen(before["tokens"], after["tokens"], rows[1], spec)
    appeared = {name: int(n) for name, o, n in zip(names, old, new, strict=True) if n and not o}
    vanished = {name: int(o) for name, o, n in zip(names, old, new, strict=True) if o and not n}
    measures = [
        _rows(rows, spec),
        _shares(old, new, rows, spec),
        Measure(setting="new_classes", what="new classes", value=len(appeared), limit=spec.new_classes),
        _vanished(vanished, int(old.sum()), rows, spec),
        _stability(before["lengths"], after["lengths"], spec),
        unseen,
        *_genes(before["genes"], after["genes"], spec),
    ]
    return Drift(
        unit=after["unit"],
        rows=rows,
        measures=tuple(measures),
        classes=tuple(_moved(names, old, new)),
        new=dict(list(appeared.items())[:NAMED]),
        vanished=dict(list(vanished.items())[:NAMED]),
        lengths=_figures(before["lengths"], after["lengths"]),
        unseen_ids=ids,
    )


def total_variation(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Half the sum of differences of the shares, over the last axis."""
    return 0.5 * np.abs(_share(old) - _share(new)).sum(axis=-1)


def stability_index(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Population stability index of counts by bin (Siddiqi 2006, *Credit risk scorecards*): Jeffreys' divergence,
    finite where a bin is empty since each has half a count more."""
    p, q = _share(old + 0.5), _share(new + 0.5)
    return ((q - p) * np.log(q / p)).sum(axis=-1)


def by_chance(distance: Callable[[np.ndarray, np.ndarray], np.ndarray], old: np.ndarray, new: np.ndarray) -> float:
    """The distance that two samples of these sizes from one population stay below in 99 of 100 cases."""
    both, draws = old + new, max(99, min(DRAWS, MOST_DRAWN // len(old)))
    drawn = np.random.default_rng(0).multivariate_hypergeometric(both, int(new.sum()), size=draws, method="marginals")
    return float(np.quantile(distance(both - drawn, drawn), CHANCE))


def _share(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.maximum(total, 1e-12)


def _drawn(counts: np.ndarray, rows: int) -> np.ndarray:
    """Counts as if each row were one draw: the labelled tokens of a row are not independent of each other."""
    total = counts.sum()
    size = min(rows, MOST_ROWS, total)
    return counts if total == size else np.rint(counts * (size / total)).astype(np.int64)


def _rows(rows: tuple[int, int], spec: DriftSpec) -> Measure:
    return Measure(
        setting="min_rows",
        what="rows",
        value=_rounded(rows[1] / rows[0]),
        before=rows[0],
        after=rows[1],
        limit=spec.min_rows,
        at_least=True,
    )


def _shares(old: np.ndarray, new: np.ndarray, rows: tuple[int, int], spec: DriftSpec) -> Measure:
    return Measure(
        setting="class_shares",
        what="class shares (total variation)",
        value=_rounded(total_variation(old, new)),
        limit=spec.class_shares,
        chance=_rounded(by_chance(total_variation, _drawn(old, rows[0]), _drawn(new, rows[1]))),
    )


def _vanished(vanished: dict[str, int], units: int, rows: tuple[int, int], spec: DriftSpec) -> Measure:
    """By chance all of a class's k rows fall into the first of two samples with probability (n / (n + m)) ** k."""
    stays = rows[0] / sum(rows)
    expected = sum(1 for count in vanished.values() if stays ** (count * rows[0] / units) > 1 - CHANCE)
    return Measure(
        setting="vanished_classes",
        what="vanished classes",
        value=len(vanished),
        limit=spec.vanished_classes,
        chance=expected,
    )


def _moved(names: list[str], old: np.ndarray, new: np.ndarray) -> Iterator[dict[str, Any]]:
    before, after = _share(old), _share(new)
    for i in np.argsort(-np.abs(after - before), kind="stable")[:MOST_MOVED]:
        if before[i] != after[i]:
            yield {
                "class": names[i],
                "before": _rounded(before[i]),
                "after": _rounded(after[i]),
                "units": [int(old[i]), int(new[i])],
            }


def _stability(before: Profile, after: Profile, spec: DriftSpec) -> Measure:
    """In bins that hold a tenth of the earlier rows each, and two for what is shorter or longer than all of them."""
    values, rows = numbers(before["values"]), numbers(before["rows"])
    places = np.searchsorted(np.cumsum(rows), rows.sum() * np.arange(1, BINS) / BINS)
    cuts = np.unique([values[0] - 1, *values[places], values[-1]])
    old, new = (
        _drawn(_binned(numbers(each["values"]), numbers(each["rows"]), cuts), MOST_ROWS) for each in (before, after)
    )
    return Measure(
        setting="lengths",
        what="lengths (population stability)",
        value=_rounded(stability_index(old, new)),
        before=before["quantiles"]["0.5"],
        after=after["quantiles"]["0.5"],
        limit=spec.lengths,
        chance=_rounded(by_chance(stability_index, old, new)),
    )


def _binned(values: np.ndarray, rows: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(cuts, values), weights=rows, minlength=len(cuts) + 1).astype(np.int64)


def _figures(before: Profile, after: Profile) -> dict[str, tuple[float, float]]:
    def pair(read: Callable[[Profile], float]) -> tuple[float, float]:
        return read(before), read(after)

    return {
        "median": pair(lambda lengths: lengths["quantiles"]["0.5"]),
        "mean": pair(lambda lengths: lengths["mean"]),
        "95th percentile": pair(lambda lengths: lengths["quantiles"]["0.95"]),
        "longest": pair(lambda lengths: lengths["max"]),
    }


def _unseen(before: Profile, after: Profile, rows: int, spec: DriftSpec) -> tuple[Measure, int]:
    """Share of occurrences of tokens that the earlier training rows never showed, and how many tokens these are.

    Of data from the same population about ``once / occurrences`` is of tokens not seen yet.
    """
    ids, counts = token_counts(dict(after))
    unseen = ~np.isin(ids, training_ids(dict(before)), assume_unique=True)
    seen = max(1, before["training_occurrences"])
    expected = before["once"] / seen
    margin = 3 * float(np.sqrt(before["once"] / seen**2 + expected / rows))
    measure = Measure(
        setting="unseen_tokens",
        what="tokens never seen before",
        value=_rounded(counts[unseen].sum() / max(1, counts.sum())),
        limit=spec.unseen_tokens,
        chance=_rounded(min(1.0, expected + margin)),
    )
    return measure, int(unseen.sum())


def _genes(before: Profile | None, after: Profile | None, spec: DriftSpec) -> Iterator[Measure]:
    """Genes without a token, or without a median to rank them by: nothing of them reaches the model."""
    if before is None or after is None:
        return
    lost = [1 - each["genes_with_median"] / each["genes"] for each in (before, after)]
    yield Measure(
        setting="unknown_genes",
        what="genes without a token",
        value=_rounded(max(0.0, lost[1] - lost[0])),
        before=_rounded(lost[0]),
        after=_rounded(lost[1]),
        limit=spec.unknown_genes,
    )


def _rounded(value: Any) -> float:
    return round(float(value), 6)
