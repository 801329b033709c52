import itertools

import numpy as np
import pytest
import torch

from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data import schedule
from sono.training.data.pairs import Example, PairSet
from sono.training.data.schedule import Plan, learning_rate, local_indices

PAIRS = PairSet(
    np.zeros((7, 8, 8), np.uint8),
    tuple(Example(str(row), "femur", f"caption {row}", (), ()) for row in range(7)),
)


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_fraction=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[10:]))


def test_warm_up_in_steps_takes_half_of_a_short_run_at_most() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_steps=800)
    assert learning_rate(399, 10_000, config) == pytest.approx(400 / 801)
    assert learning_rate(800, 10_000, config) == 1.0
    assert learning_rate(10, 20, config) == 1.0
    assert learning_rate(20, 20, config) == pytest.approx(0.0, abs=1e-9)


def test_an_epoch_that_was_left_goes_on_with_the_same_batches() -> None:
    plan = Plan(PAIRS, TrainingConfig(epochs=2, batch_size=2))
    whole = list(plan.batches(1, done=0))
    rest = list(plan.batches(1, done=4))
    assert [step for step, _ in whole] == [3, 4, 5]
    assert [step for step, _ in rest] == [4, 5]
    assert rest[0][1].rows == whole[1][1].rows
    assert torch.equal(rest[1][1].image, whole[2][1].image)
    assert list(plan.batches(1, done=6)) == []


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(
        SonoError, match="a batch of 7 pairs cannot be divided among 1 processes in 2 parts"
    ):
        Plan(PAIRS, TrainingConfig(batch_size=16, accumulate=2))
    with pytest.raises(SonoError, match="in 4 parts of at least 2 pairs"):
        Plan(PAIRS, TrainingConfig(batch_size=4, accumulate=4))


def test_the_places_of_all_processes_and_parts_are_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert local_indices(12, 1) == local_indices(12, 3) == list(range(12))
    monkeypatch.setattr(schedule, "get_world_size", lambda: 2)
    found = []
    for rank in range(2):
        monkeypatch.setattr(schedule, "get_rank", lambda rank=rank: rank)
        found.append(local_indices(12, 3))
    assert found == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
