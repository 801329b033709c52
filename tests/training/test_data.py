import numpy as np
import pytest
import torch

from sono.curation.workspace import Workspace
from sono.training.data import PairMixture, PairSet, draw_batch, epoch_rows, load_pairs, sampling_weights

PROMPTS = {"femur": ["a femur"], "transthalamic": ["a head"]}


@pytest.fixture(scope="module")
def pairs(study: Workspace) -> PairSet:
    return load_pairs(study, study.accepted_images(), ("accepted",), PROMPTS, 32)


def draw(pairs: PairSet, whole: float, prompt: float = 0.0, rows: int = 40) -> tuple[torch.Tensor, list[str]]:
    batch = draw_batch(pairs, range(rows), PairMixture(whole, prompt, None), torch.Generator().manual_seed(0))
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
    batch = draw_batch(pairs, list(range(40)) * 10, PairMixture(whole, 0.0, None), torch.Generator().manual_seed(1))
    return batch.mask, batch.captions


def test_prompts_replace_whole_captions_only(pairs: PairSet) -> None:
    assert set(draw(pairs, whole=1.0, prompt=1.0)[1]) == {"a femur", "a head"}
    assert not {"a femur", "a head"} & set(draw(pairs, whole=0.0, prompt=1.0)[1])


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
    drawn = [row for epoch in range(50) for batch in epoch_rows(weights, 7, 0, epoch) for row in batch]
    assert drawn.count(len(examples)) / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert sampling_weights(uneven, 0.0).unique().tolist() == [1.0]


def test_frames_without_a_caption_are_left_out(study: Workspace) -> None:
    images = study.accepted_images().assign(image_id=lambda table: ["none", *table["image_id"][1:]])
    assert len(load_pairs(study, images, ("accepted",), PROMPTS, 32)) == 39
    assert len(load_pairs(study, images.iloc[:1], ("accepted",), PROMPTS, 32)) == 0
