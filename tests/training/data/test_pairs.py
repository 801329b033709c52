import numpy as np
import pytest
import torch

from sono.curation.core.workspace import Workspace
from sono.templates.loader import load_templates
from sono.training.config import AugmentConfig
from sono.training.data.pairs import (
    Example,
    MaskedRegion,
    PairMixture,
    PairSet,
    draw_batch,
    sampling_weights,
)
from sono.training.data.read_pairs import load_pairs
from sono.training.data.sampling import curriculum_weight, epoch_rows, mask_grade
from sono.training.objectives.attributes import Attributes


@pytest.fixture(scope="module")
def pairs(study: Workspace) -> PairSet:
    return load_pairs(study, study.accepted_images(), ("accepted",), load_templates("standard"), 32)


def draw(
    pairs: PairSet, whole: float, prompt: float = 0.0, rows: int = 40
) -> tuple[torch.Tensor, list[str]]:
    batch = draw_batch(
        pairs, range(rows), PairMixture(whole, prompt, None), torch.Generator().manual_seed(0)
    )
    return batch.mask, batch.captions


def test_every_frame_has_its_caption_and_its_region(pairs: PairSet) -> None:
    assert len(pairs) == 40
    assert pairs.frames.shape == (40, 32, 32)
    assert all(example.caption and len(example.regions) == 1 for example in pairs.examples)


def test_whole_pairs_have_a_mask_of_ones_over_the_whole_square(pairs: PairSet) -> None:
    mask, captions = draw(pairs, whole=1.0)
    assert bool(mask.all())
    assert captions == [example.caption for example in pairs.examples]


def test_region_pairs_have_their_mask_and_their_caption(pairs: PairSet) -> None:
    mask, captions = draw(pairs, whole=0.0)
    assert captions == [example.regions[0].caption for example in pairs.examples]
    assert 0 < float(mask.mean()) < 0.5
    assert mask.unique().tolist() == [0.0, 1.0]


def test_the_fraction_of_whole_pairs_is_what_was_asked(pairs: PairSet) -> None:
    mask, _ = draw_mask_many(pairs, 0.25)
    assert float(mask.flatten(1).all(1).float().mean()) == pytest.approx(0.25, abs=0.08)


def draw_mask_many(pairs: PairSet, whole: float) -> tuple[torch.Tensor, list[str]]:
    batch = draw_batch(
        pairs, list(range(40)) * 10, PairMixture(whole, 0.0, None), torch.Generator().manual_seed(1)
    )
    return batch.mask, batch.captions


def test_prompts_replace_whole_captions_only(pairs: PairSet) -> None:
    prompts = {prompt for example in pairs.examples for prompt in example.prompts}
    assert set(draw(pairs, whole=1.0, prompt=1.0)[1]) <= prompts
    assert not prompts & set(draw(pairs, whole=0.0, prompt=1.0)[1])


def test_prompts_of_the_structure_replace_region_captions_where_asked(pairs: PairSet) -> None:
    mixture = PairMixture(0.0, 0.0, None, region_prompts=1.0)
    batch = draw_batch(pairs, range(40), mixture, torch.Generator().manual_seed(0))
    own = [
        {prompt for region in example.regions for prompt in region.prompts}
        for example in pairs.examples
    ]
    assert all(caption in prompts for caption, prompts in zip(batch.captions, own, strict=True))
    assert torch.equal(batch.mask, draw(pairs, whole=0.0)[0])
    assert set(draw(pairs, whole=1.0)[1]) == {example.caption for example in pairs.examples}


def test_frames_are_the_stored_ones_letterboxed(pairs: PairSet) -> None:
    batch = draw_batch(pairs, [3], PairMixture(1.0, 0.0, None), torch.Generator())
    assert np.allclose(batch.image[0, 0].numpy() * 255, pairs.frames[3], atol=1e-3)


def test_an_epoch_shows_every_frame_once_in_an_order_of_its_own() -> None:
    even = torch.ones(23)
    batches = epoch_rows(even, 5, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len({row for batch in batches for row in batch}) == 20
    assert epoch_rows(even, 5, 0, 0) == batches != epoch_rows(even, 5, 0, 1)
    assert [len(batch) for batch in epoch_rows(torch.ones(3), 5, 0, 0)] == [3]


def test_full_balance_draws_rare_planes_as_often_as_common_ones(pairs: PairSet) -> None:
    examples = tuple(example for example in pairs.examples if example.plane == "femur")
    rare = next(example for example in pairs.examples if example.plane != "femur")
    uneven = PairSet(pairs.frames, (*examples, rare))
    weights = sampling_weights(uneven, 1.0)
    assert float(weights[:-1].sum()) == pytest.approx(float(weights[-1])) == 1.0
    drawn = [
        row for epoch in range(50) for batch in epoch_rows(weights, 7, 0, epoch) for row in batch
    ]
    assert drawn.count(len(examples)) / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert sampling_weights(uneven, 0.0).unique().tolist() == [1.0]


def test_every_pair_knows_what_its_caption_says(pairs: PairSet) -> None:
    example = next(example for example in pairs.examples if example.plane == "femur")
    said = frozenset({("structures", "femur")})
    assert example.attributes == Attributes(("lower limb", "femur"), said)
    assert example.regions[0].attributes == Attributes(("lower limb", "femur", "femur"), said)
    batch = draw_batch(
        pairs, range(40), PairMixture(1.0, 1.0, None), torch.Generator().manual_seed(0)
    )
    prompts = [Attributes(example.path) for example in pairs.examples]
    assert torch.equal(batch.attributes.path, pairs.table.of(prompts).path)
    assert not bool(batch.attributes.values.any())


def example(number: int, grades: tuple[int, ...] = (), **changes: str | None) -> Example:
    """A frame of 8 x 8 pixels with a region of each grade: as many pixels as its number."""
    regions = tuple(
        MaskedRegion(np.array([63 - at, 1 + at], np.uint32), f"region {at}", grade=grade)
        for at, grade in enumerate(grades)
    )
    row = Example(f"image-{number}", "femur", "whole", (), regions)
    return Example(**{**vars(row), **changes})  # type: ignore[arg-type]


def made(*examples: Example) -> PairSet:
    return PairSet(np.zeros((len(examples), 8, 8), np.uint8), examples)


def captions(pairs: PairSet, rows: list[int], mixture: PairMixture, seed: int = 0) -> list[str]:
    return draw_batch(pairs, rows, mixture, torch.Generator().manual_seed(seed)).captions


def test_several_pairs_of_a_frame_have_regions_apart() -> None:
    pairs = made(example(0, (0, 0, 0)), example(1, (0,)))
    apart = PairMixture(0.0, 0.0, None, apart=True)
    for seed in range(20):
        drawn = captions(pairs, [0, 0, 0, 1], apart, seed)
        assert sorted(drawn[:3]) == ["region 0", "region 1", "region 2"]
    assert pairs.places(1) is None
    assert pairs.places(2) == [2, 1]
    assert pairs.places(5) == [3, 1]


def test_a_frame_takes_its_places_side_by_side_and_an_epoch_stays_as_long() -> None:
    batches = epoch_rows(torch.ones(12), 4, seed=0, epoch=0, places=[3] * 12)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    order = [row for batch in batches for row in batch]
    assert order == [row for row in order[::3] for _ in range(3)]
    assert epoch_rows(torch.ones(12), 4, 0, 0, [1] * 12) == epoch_rows(torch.ones(12), 4, 0, 0)


def test_masks_open_by_their_grade_over_the_run() -> None:
    assert [curriculum_weight(0, done, 0.8) for done in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]
    assert [curriculum_weight(1, done, 0.8) for done in (0.0, 0.2, 0.4, 1.0)] == [
        0.0,
        0.5,
        1.0,
        1.0,
    ]
    assert [curriculum_weight(2, done, 0.8) for done in (0.0, 0.2, 0.8)] == [0.0, 0.25, 1.0]
    assert [curriculum_weight(grade, 0.0, 0.0) for grade in (0, 1, 2)] == [1.0, 1.0, 1.0]


def test_a_mask_that_a_person_has_looked_at_is_of_the_best_grade() -> None:
    assert [
        mask_grade(source, "proposed")
        for source in ("manual", "import", "sam", "model", "heuristic")
    ] == [
        0,
        0,
        1,
        1,
        2,
    ]
    assert mask_grade("heuristic", "accepted") == mask_grade("sam", "edited") == 0


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0), (0.25, 0.4), (0.5, 0.8), (1.0, 0.8)])
def test_frames_with_closed_masks_are_shown_whole(done: float, share: float) -> None:
    pairs = made(example(0, (2,)))
    drawn = captions(pairs, [0] * 1000, PairMixture(0.2, 0.0, None, curriculum=0.5, done=done))
    assert drawn.count("region 0") / 1000 == pytest.approx(share, abs=0.05)


def test_better_masks_are_drawn_more_often_until_all_are_open() -> None:
    pairs = made(example(0, (2, 0)))
    half = captions(pairs, [0] * 1000, PairMixture(0.0, 0.0, None, curriculum=1.0, done=0.5))
    assert half.count("region 0") / 1000 == pytest.approx(1 / 3, abs=0.05)
    assert half.count("whole") == 0
    assert "region 0" not in captions(
        pairs, [0] * 200, PairMixture(0.0, 0.0, None, curriculum=1.0, done=0.0)
    )


def test_centers_and_patients_are_balanced_too() -> None:
    patients = [("a", "w1"), ("a", "w1"), ("a", "w1"), ("b", "w2"), ("b", None), ("b", None)]
    pairs = made(
        *(
            example(row, center=center, patient=patient)
            for row, (center, patient) in enumerate(patients)
        )
    )
    center = sampling_weights(pairs, 0.0, center=1.0)
    assert float(center[:3].sum()) == pytest.approx(float(center[3:].sum()))
    patient = sampling_weights(pairs, 0.0, patient=1.0)
    # two patients without a name are two patients
    assert patient.tolist() == pytest.approx([1 / 3] * 3 + [1.0] * 3)
    assert sampling_weights(pairs, 0.0).unique().tolist() == [1.0]


def test_frames_without_a_caption_are_left_out(study: Workspace) -> None:
    images = study.accepted_images().assign(image_id=lambda table: ["none", *table["image_id"][1:]])
    assert len(load_pairs(study, images, ("accepted",), load_templates("standard"), 32)) == 39
    assert (
        len(load_pairs(study, images.iloc[:1], ("accepted",), load_templates("standard"), 32)) == 0
    )


def test_some_places_of_a_batch_are_those_of_the_whole_one(pairs: PairSet) -> None:
    changes = AugmentConfig(grain=0.5, blur=0.5, mask_stray=0.5)
    mixture = PairMixture(0.3, 0.5, changes, apart=True)
    rows, own = [3, 3, 8, 1, 20, 8], [1, 2, 5]
    whole = draw_batch(pairs, rows, mixture, torch.Generator().manual_seed(4))
    some = draw_batch(pairs, rows, mixture, torch.Generator().manual_seed(4), own)
    assert torch.equal(some.image, whole.image[own])
    assert torch.equal(some.mask, whole.mask[own])
    assert torch.equal(some.attributes.values, whole.attributes.values[own])
    assert (some.captions, some.rows) == ([whole.captions[place] for place in own], [3, 8, 8])


def test_region_places_are_given_and_hold_different_regions(pairs: PairSet) -> None:
    regional = [False, True] * 20
    mixture = PairMixture(0.5, 0.0, None, apart=True)
    batch = draw_batch(
        pairs, range(40), mixture, torch.Generator().manual_seed(0), regional=regional
    )
    assert batch.facts.regional.tolist() == regional
    assert [bool(mask.all()) for mask in batch.mask] == [not one for one in regional]
