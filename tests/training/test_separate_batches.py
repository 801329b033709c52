"""Batches in which whole frames and region pairs are separate.

The tests check how many there are of each, which frames, and on which process.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import pytest
import torch
from quick import quick

from sono.curation.core.errors import SonoError
from sono.training.config import TrainingConfig
from sono.training.data import schedule
from sono.training.data.pairs import Batch, Example, MaskedRegion, PairSet
from sono.training.data.schedule import Places, Plan, local_indices, separate
from sono.training.objectives.objective import role_weights
from sono.training.step import parts_of

SIDE = 8


def frame(number: int, regions: int = 0) -> Example:
    """A frame whose captions say which one it is, and which of its regions."""
    found = [
        MaskedRegion(
            np.array([SIDE * SIDE - 1 - at, 1 + at], np.uint32),
            f"{number}, region {at}",
            structure=f"part {at}",
        )
        for at in range(regions)
    ]
    return Example(
        f"image-{number}", "femur" if number % 3 else "eye", f"{number}, whole", (), tuple(found)
    )


def made(*regions: int) -> PairSet:
    """A frame of each number of regions."""
    return PairSet(
        np.zeros((len(regions), SIDE, SIDE), np.uint8),
        tuple(frame(row, count) for row, count in enumerate(regions)),
    )


MIXED = made(*[0, 1, 2, 5] * 6)  # 24 frames, 18 of them with masks


def settings(**changes: object) -> TrainingConfig:
    """Equal weights, so that an epoch is a permutation, and no augmentation."""
    known = {
        "epochs": 3,
        "batch_size": 10,
        "global_fraction": 0.4,
        "region_weight": 0.5,
        "regions_per_frame": 4,
        "plane_balance": 0.0,
        "prompt_fraction": 0.0,
        "region_prompts": 0.0,
        "augment": {
            "mask_stray": 0.0,
            "scale": 0.0,
            "rotation_degrees": 0.0,
            "shift": 0.0,
            "flip": False,
        },
    }
    return quick(**(known | changes))


def batches(pairs: PairSet, config: TrainingConfig, epoch: int = 0, done: int = 0) -> list[Batch]:
    return [batch for _, batch in Plan(pairs, config).batches(epoch, done)]


def regional(batch: Batch) -> list[bool]:
    """Which pairs of a batch have the caption of a region.

    What was drawn, and not what was planned.
    """
    return ["region" in caption for caption in batch.captions]


def frames_of(batch: Batch, regions: bool) -> list[int]:
    return [row for row, kind in zip(batch.rows, regional(batch), strict=True) if kind is regions]


@contextmanager
def process(rank: int, of: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Meanwhile this is the process `rank` of `of`."""
    with monkeypatch.context() as patch:
        patch.setattr(schedule, "get_world_size", lambda: of)
        patch.setattr(schedule, "get_rank", lambda: rank)
        yield


@pytest.mark.parametrize(
    ("fraction", "whole"), [(0.0, 2), (0.04, 2), (0.4, 4), (0.5, 5), (0.84, 8), (0.99, 8)]
)  # two of each kind at least
def test_a_batch_holds_the_stated_number_of_region_pairs(fraction: float, whole: int) -> None:
    found = batches(MIXED, settings(global_fraction=fraction))
    assert len(found) == 24 // whole
    assert all(sum(regional(batch)) == 10 - whole for batch in found)
    for batch in found:
        assert batch.facts.regional.tolist() == regional(batch)
        assert [bool(mask.all()) for mask in batch.mask] == [not kind for kind in regional(batch)]


def test_without_a_weight_of_regions_or_without_masks_pairs_are_drawn_as_before() -> None:
    config = settings()
    plain, lottery = made(0, 0, 0, 0), config.model_copy(update={"region_weight": 0.0})
    assert separate(MIXED, config)
    assert not separate(MIXED, lottery)
    assert not separate(MIXED, config.model_copy(update={"global_fraction": 1.0}))
    assert not separate(plain, config)
    assert all(places.regional is None for places in Plan(MIXED, lottery).places(0))
    found = batches(plain, settings(batch_size=2))
    assert sorted(row for batch in found for row in batch.rows) == [0, 1, 2, 3]
    assert not any(kind for batch in found for kind in regional(batch))


def test_an_epoch_shows_every_frame_once_as_a_whole_one() -> None:
    for epoch in range(3):
        whole = [
            row
            for batch in batches(MIXED, settings(), epoch)
            for row in frames_of(batch, regions=False)
        ]
        assert sorted(whole) == list(range(24))
    short = [
        row
        for batch in batches(MIXED, settings(global_fraction=0.5))
        for row in frames_of(batch, regions=False)
    ]
    assert len(short) == len(set(short)) == 20  # the short rest is left out


def test_an_epoch_shows_every_frame_with_masks_before_one_comes_again() -> None:
    config = settings(regions_per_frame=1, global_fraction=0.5)
    rows = [row for batch in batches(MIXED, config) for row in frames_of(batch, regions=True)]
    assert len(rows) == 20
    assert len(set(rows[:18])) == 18
    assert [row for row in rows if not MIXED.examples[row].regions] == []


def test_planes_are_balanced_among_regions_as_among_whole_frames() -> None:
    pairs = made(*[1] * 24)  # 8 of one plane and 16 of the other
    config = settings(epochs=40, plane_balance=1.0, regions_per_frame=1)
    drawn = {kind: Counter[str | None]() for kind in (False, True)}
    for epoch in range(40):
        for batch in batches(pairs, config, epoch):
            for kind, counts in drawn.items():
                counts.update(pairs.examples[row].plane for row in frames_of(batch, kind))
    for counts in drawn.values():
        assert counts["eye"] / counts.total() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_pairs_of_a_frame_stand_side_by_side_and_have_different_regions(most: int) -> None:
    config = settings(regions_per_frame=most)
    rows, seen = [], 0
    for batch in batches(MIXED, config):
        rows += frames_of(batch, regions=True)
        captions = [caption for caption in batch.captions if "region" in caption]
        for row, count in Counter(frames_of(batch, regions=True)).items():
            own = [caption for caption in captions if caption.startswith(f"{row},")]
            assert len(own) == count
            if most > 1:
                assert len(set(own)) == min(count, len(MIXED.examples[row].regions))
                seen += count > 1
    assert (seen > 0) is (most > 1)
    # the last is cut by the end of the epoch
    runs = [(row, len(list(same))) for row, same in groupby(rows)][:-1]
    assert all(count == min(most, len(MIXED.examples[row].regions)) for row, count in runs)


def test_few_frames_with_masks_come_again_and_again() -> None:
    pairs = made(*[0] * 22, 2, 1)
    found = batches(pairs, settings(batch_size=12, global_fraction=0.25))
    assert len(found) == 8
    for batch in found:
        assert sum(regional(batch)) == 9
        counts = Counter(frames_of(batch, regions=True))
        assert counts.keys() == {22, 23}
        assert counts[22] == pytest.approx(2 * counts[23], abs=3)
        own = {caption for caption in batch.captions if caption.startswith("22, region")}
        assert own == {"22, region 0", "22, region 1"}
    alone = batches(made(0, 0, 0, 3), settings(batch_size=4))
    assert {row for batch in alone for row in frames_of(batch, regions=True)} == {3}


def test_places_depend_on_seed_and_epoch_alone() -> None:
    first, again, other = (Plan(MIXED, settings(seed=seed)) for seed in (0, 0, 1))
    assert first.places(0) == again.places(0)
    for changed in (other.places(0), first.places(1)):
        for kind in (False, True):
            assert rows_of(changed, kind) != rows_of(first.places(0), kind)


def rows_of(places: list[Places], kind: bool) -> list[int]:
    """The frames of an epoch that are region pairs, or those that are whole."""
    return [
        row
        for rows, kinds in places
        for row, one in zip(rows, kinds or [], strict=True)
        if one is kind
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_that_was_left_continues_with_the_same_pairs(accumulate: int) -> None:
    config = settings(accumulate=accumulate, batch_size=8, prompt_fraction=0.5)
    plan = Plan(MIXED, config)
    whole = dict(plan.batches(1, done=0))
    steps = len(plan.places(1))
    assert list(whole) == list(range(steps, 2 * steps))
    rest = dict(Plan(MIXED, config).batches(1, done=steps + 2))
    assert list(rest) == list(whole)[2:]
    for step, batch in rest.items():
        assert (batch.captions, batch.rows) == (whole[step].captions, whole[step].rows)
        assert torch.equal(batch.mask, whole[step].mask)
        assert torch.equal(batch.image, whole[step].image)


@pytest.mark.parametrize(("count", "accumulate"), [(1, 3), (2, 1), (2, 3), (3, 2)])
def test_every_part_of_every_process_holds_as_many_of_each_kind(
    count: int, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(
        batch_size=24 if count < 3 else 18, accumulate=accumulate, global_fraction=0.3
    )
    size = config.batch_size // (count * accumulate)
    whole = round(size * 0.3)
    shares: list[list[Batch]] = []
    for rank in range(count):
        with process(rank, count, monkeypatch):
            shares.append(batches(MIXED, config))
            plan = Plan(MIXED, config).places(0)
            taken = [
                place
                for other in range(count)
                for place in places_of(other, count, config, monkeypatch)
            ]
            assert sorted(taken) == list(range(config.batch_size))
        for batch in shares[-1]:
            for part in parts_of(batch, config):
                assert [len(part.rows), sum(regional(part))] == [size, size - whole]
    rows = [
        sorted(row for share in shares for row in share[number].rows) for number in range(len(plan))
    ]
    assert rows == [sorted(places.rows) for places in plan]


def places_of(
    rank: int, count: int, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    with process(rank, count, monkeypatch):
        return local_indices(config.batch_size, config.accumulate)


def test_regions_of_one_frame_may_be_drawn_on_two_processes_and_still_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every process draws the whole batch, so what one has taken the other does not."""
    pairs = made(*[4] * 8)
    config = settings(batch_size=8, global_fraction=0.5, regions_per_frame=4)
    found: list[list[Batch]] = []
    for rank in range(2):
        with process(rank, 2, monkeypatch):
            found.append(batches(pairs, config))
    for one, other in zip(*found, strict=True):
        both = [caption for caption in [*one.captions, *other.captions] if "region" in caption]
        assert len(both) == len(set(both)) == 4
    assert any(
        {*frames_of(one, True)} & {*frames_of(other, True)}
        for one, other in zip(*found, strict=True)
    )


def test_a_batch_without_room_for_both_kinds_on_a_process_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        process(0, 2, monkeypatch),
        pytest.raises(SonoError, match="a batch of 2 pairs cannot be divided among 2"),
    ):
        Plan(MIXED, settings(batch_size=2))


def test_a_batch_without_room_for_two_of_each_kind_is_refused() -> None:
    for size in (2, 3):
        with pytest.raises(SonoError, match="at least 4 pairs, whole frames and regions apart"):
            Plan(MIXED, settings(batch_size=size))
    assert Plan(MIXED, settings(batch_size=4)).places(0)[0].regional == [False, False, True, True]


def test_a_batch_of_one_kind_has_the_whole_loss() -> None:
    none, all_of_them = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    for kinds in (none, all_of_them):
        assert role_weights(kinds, kinds, 1.0).tolist() == [1, 1, 1]
