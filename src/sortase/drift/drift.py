"""How far new data lie from those a model was trained on: classes, lengths and tokens of two profiles.

Limits are for drift beyond what sampling explains: by permutation for classes and lengths, and after Good (1953,
*The population frequencies of species*) for tokens that were never seen. Both take rows for independent draws; rows of
one donor, batch or author are not, so that a limit that was just passed may still be such a group's doing.

Of the classes that only one side has, chance explains at most as many as two samples of one population differ by in 99
of 100 cases, and none that has so many rows that hardly any sample would miss it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..config.drift import DriftSpec
from ..errors import InputError
from .profile import FORMAT, numbers, token_counts, training_ids
from .text import caveat, left_out_words, markdown, sentence, text

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
    """A figure and its limit. ``chance``: what data from the same population pass in at most one of 100 cases.

    A ``count`` is of classes: chance explains that many of them, beside those that the limit allows.
    """

    setting: str
    what: str
    value: float
    before: float | None = None
    after: float | None = None
    limit: float | None
    chance: float | None = None
    at_least: bool = False
    count: bool = False

    @property
    def beyond(self) -> bool:
        if self.limit is None:
            return False
        return self.value < self.limit if self.at_least else self.value > self.limit

    @property
    def exceeded(self) -> bool:
        if not self.beyond or self.chance is None:
            return self.beyond
        return self.value > self.chance + (self.limit or 0 if self.count else 0)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "beyond": self.beyond, "exceeded": self.exceeded}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """``classes`` are those whose shares moved most, in order; ``new`` and ``vanished`` ones with their rows, and
    ``left_out`` those whose rows were not prepared, since the model does not know them."""

    unit: str
    rows: tuple[int, int]
    measures: tuple[Measure, ...]
    classes: tuple[dict[str, Any], ...]
    new: dict[str, int]
    vanished: dict[str, int]
    left_out: dict[str, int]
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
            "left_out": self.left_out,
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
    if "new_classes" in found.exceeded and found.left_out:
        told += f"; {left_out_words(found.as_json())}"
    raise InputError(
        f"the new data drifted: {told}. Look at what changed; to go on, raise the limit, set it to null, or set "
        "retrain.drift.action: warn"
    )


def drift(before: Profile, after: Profile, spec: DriftSpec, *, left_out: Mapping[str, int] | None = None) -> Drift:
    """Compare two profiles, the one of the model's data first.

    ``left_out``: labels that the model does not know, with the rows that were left out for it and are not in the
    profile. They count as classes of the new data.

    Raises:
        InputError: they are of different tasks, or of a format that this version does not read.
    """
    for each in (before, after):
        if each.get("format") != FORMAT:
            raise InputError(f"a profile has format {each.get('format')!r}, this version reads {FORMAT}; make it again")
    if before["task"] != after["task"]:
        raise InputError(f"the model's data are for task {before['task']}, the new ones for task {after['task']}")
    unknown = {name: int(n) for name, n in sorted((left_out or {}).items(), key=lambda item: -item[1]) if n}
    counts = [Counter(before["classes"]), Counter(after["classes"]) + Counter(unknown)]
    names = list(dict.fromkeys([*before["classes"], *after["classes"], *unknown]))
    old, new = (np.array([each[name] for name in names]) for each in counts)
    rows = (before["rows"], after["rows"])
    drawn = (rows[0], rows[1] + sum(unknown.values()))
    unseen, ids = _unseen(before["tokens"], after["tokens"], rows[1], spec)
    appeared = {name: int(n) for name, o, n in zip(names, old, new, strict=True) if n and not o and name not in unknown}
    vanished = {name: int(o) for name, o, n in zip(names, old, new, strict=True) if o and not n}
    measures = [
        _rows(rows, spec),
        _shares(old, new, drawn, spec),
        _one_sided("new_classes", "new classes", (new, old), drawn[::-1], spec.new_classes),
        _one_sided("vanished_classes", "vanished classes", (old, new), drawn, spec.vanished_classes),
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
        left_out=unknown,
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


def most_by_chance(odds: np.ndarray) -> int:
    """How many of independent events with these odds happen at most in 99 of 100 cases."""
    each, times = np.unique(odds, return_counts=True)
    draws = max(99, min(DRAWS, MOST_DRAWN // len(each)))
    happened = np.random.default_rng(0).binomial(times, each, size=(draws, len(each))).sum(axis=1)
    return int(np.quantile(happened, CHANCE, method="inverted_cdf"))


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


def _one_sided(
    setting: str, what: str, counts: tuple[np.ndarray, np.ndarray], rows: tuple[int, int], limit: int | None
) -> Measure:
    """Classes that the first side has and the second lacks: by chance all of a class's k rows are on the first one with
    probability (n / (n + m)) ** k."""
    here, there = counts
    both = here * (rows[0] / max(1, here.sum())) + there * (rows[1] / max(1, there.sum()))
    odds = (rows[0] / sum(rows)) ** both
    only, occurring = (here > 0) & (there == 0), both > 0
    explicable = only & (odds > (1 - CHANCE) / occurring.sum())
    return Measure(
        setting=setting,
        what=what,
        value=int(only.sum()),
        limit=limit,
        chance=min(most_by_chance(odds[occurring]), int(explicable.sum())),
        count=True,
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
