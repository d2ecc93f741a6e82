"""Groups of rows that stay together, assigned to sides so that the classes are balanced as far as they allow."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ...stopping import check

_PASSES = 20
_MOVABLE = 2000


def assign_groups(
    codes: np.ndarray, groups: np.ndarray, fractions: np.ndarray, priority: np.ndarray, column: str | None
) -> np.ndarray:
    """Side (int8, places in ``fractions``) of each row; all rows of a group get the same.

    Large groups are placed first, each where the cost rises least; then groups move as long as that lowers the cost.
    ``priority`` of the groups settles ties.
    """
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        raise InputError(f"column '{column}' has {count} value; a split by groups needs at least 2 of them")
    table = np.zeros((count, int(codes.max()) + 1))
    np.add.at(table, (groups, codes), 1)
    sides = _Sides(table, fractions)
    order = np.lexsort((priority, -table.sum(axis=1)))
    for group in order:
        check()
        sides.place(group)
    if count <= _MOVABLE:
        for _ in range(_PASSES):
            check()
            if sum(sides.improve(group) for group in order) == 0:
                break
    return sides.side[groups].astype(np.int8)


class _Sides:
    """The cost: squared shortfall or excess of each class, and of all rows, on each side, as fractions of the class;
    and one for each class that train or test lacks, a tenth when validation lacks it."""

    def __init__(self, table: np.ndarray, fractions: np.ndarray):
        with_total = np.concatenate([table, table.sum(axis=1, keepdims=True)], axis=1)
        self.share = with_total / with_total.sum(axis=0)
        self.fractions = fractions[:, None]
        self.lack = np.where(fractions > 0, [1.0, 0.1, 1.0], 0.0)
        self.have = np.zeros((len(fractions), self.share.shape[1]))
        self.side = np.full(len(table), -1)
        self.closed = fractions <= 0

    def costs(self, group: int) -> np.ndarray:
        """Cost of everything with this group, which is on no side now, on each side."""
        after = self.have + self.share[group]
        deviation = ((after - self.fractions) ** 2 - (self.have - self.fractions) ** 2).sum(axis=1)
        cured = ((self.have <= 1e-12) & (after > 1e-12)).sum(axis=1) * self.lack
        return np.where(self.closed, np.inf, deviation - cured)

    def place(self, group: int) -> None:
        side = int(np.argmin(self.costs(group)))
        self.side[group] = side
        self.have[side] += self.share[group]

    def improve(self, group: int) -> bool:
        """Move a group to a side where it costs clearly less."""
        before = self.side[group]
        self.have[before] -= self.share[group]
        costs = self.costs(group)
        after = int(np.argmin(costs))
        if costs[after] > costs[before] - 1e-9:
            after = before
        self.side[group] = after
        self.have[after] += self.share[group]
        return bool(after != before)
