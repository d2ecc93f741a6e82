"""The batch plan: the same training whatever divides it."""

import numpy as np
import pytest

from sortase.data.batches import BatchPlan, micro_batches, share
from sortase.errors import ConfigError


def lengths(n: int = 997, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, 2048, n).astype(np.int32)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param({"batch_size": 16}, id="examples"),
        pytest.param({"batch_size": 5000}, id="one batch"),
        pytest.param({"batch_tokens": 20_000}, id="tokens"),
        pytest.param({"batch_tokens": 1}, id="tokens below any row"),
    ],
)
def test_every_row_comes_once_an_epoch(size: dict[str, int]) -> None:
    plan = BatchPlan(lengths=lengths(), seed=1, **size)
    for epoch in range(3):
        batches = plan.epoch(epoch)
        assert len(batches) == len(plan)
        assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(997))


def test_plan_depends_on_seed_and_epoch_alone() -> None:
    plan = BatchPlan(lengths=lengths(), seed=1, batch_size=16)
    again = BatchPlan(lengths=lengths(), seed=1, batch_size=16)
    other = BatchPlan(lengths=lengths(), seed=2, batch_size=16)

    def flat(plan: BatchPlan, epoch: int) -> list[int]:
        return np.concatenate(plan.epoch(epoch)).tolist()

    assert flat(plan, 4) == flat(again, 4)
    assert flat(plan, 4) != flat(plan, 5)
    assert flat(plan, 4) != flat(other, 4)


def test_neighbours_change_between_epochs_and_padding_stays_small() -> None:
    n = lengths(5000)
    plan = BatchPlan(lengths=n, seed=0, batch_size=16)
    first, second = ({frozenset(b.tolist()) for b in plan.epoch(e)} for e in (0, 1))
    assert len(first & second) < len(first) / 10
    padded = sum(len(b) * n[b].max() for b in plan.epoch(0))
    assert n.sum() / padded > 0.9


def test_token_batches_stay_within_their_limit() -> None:
    n = lengths()
    plan = BatchPlan(lengths=n, seed=0, batch_tokens=20_000, jitter=0.0)
    assert max(len(b) * n[b].max() for b in plan.epoch(0)) <= 20_000


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_share_a_batch_without_overlap(world_size: int) -> None:
    n = lengths(50)
    batch = np.arange(10, 15)
    shares = [share(batch, n, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == batch.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_micro_batches_respect_rows_and_tokens() -> None:
    n = lengths(200)
    rows = share(np.arange(200), n, 0, 1)
    pieces = micro_batches(rows, n, 8, 4096)
    assert np.array_equal(np.concatenate(pieces), rows)
    assert all(len(p) <= 8 and (len(p) == 1 or len(p) * n[p].max() <= 4096) for p in pieces)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="no size"),
        pytest.param({"batch_size": 4, "batch_tokens": 100}, id="two sizes"),
        pytest.param({"batch_size": 0}, id="empty batch"),
        pytest.param({"batch_size": 4, "lengths": np.array([], dtype=np.int32)}, id="no rows"),
    ],
)
def test_senseless_plans_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigError):
        BatchPlan(**{"lengths": lengths(), "seed": 0, **arguments})
