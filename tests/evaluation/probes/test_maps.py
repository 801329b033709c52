"""The linear decoder of frozen maps: what it can read, and from which towers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sono.annotation.segmenter.examples import Examples
from sono.curation.core.errors import SonoError
from sono.evaluation.probes.maps import fit_decoder, frozen_maps, mean_masks, rows_of
from sono.evaluation.probes.parts import Part

PART = Part(np.arange(20), np.arange(20, 26), np.arange(26, 40))


def study(seed: int = 0) -> tuple[Examples, torch.Tensor]:
    """40 masks of a square at random places, and their share of each of 8 x 8 cells."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((40, 1, 32, 32), np.bool_)
    for mask in masks:
        x, y = rng.integers(0, 5, size=2) * 4
        mask[0, y : y + 12, x : x + 12] = True
    shares = masks.reshape(40, 1, 8, 4, 8, 4).mean((3, 5))
    all_known = np.ones((40, 1), np.bool_)
    packed = np.stack([np.packbits(mask) for mask in masks])
    frames = np.zeros((40, 32, 32), np.uint8)
    return Examples(frames, packed, all_known, all_known, {}), torch.from_numpy(shares).float()


def overlap(maps: list[torch.Tensor], examples: Examples) -> float:
    """The mean Dice of the tested frames at the size of the maps."""
    decoder = fit_decoder(maps, examples, PART)
    with torch.no_grad():
        found = decoder(rows_of(maps, PART.test))[:, 0].numpy() > 0
    truth = study()[1].numpy()[PART.test, 0] > 0.5
    common = (found & truth).sum((1, 2))
    return float((2 * common / (found.sum((1, 2)) + truth.sum((1, 2)))).mean())


def test_a_channel_that_shows_the_mask_is_found_and_shuffled_maps_give_the_place_alone() -> None:
    examples, shares = study()
    noise = torch.randn(40, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = [torch.cat([noise, 3 * shares], dim=1).half(), noise[:, :, :4, :4].half()]
    assert overlap(maps, examples) > 0.95
    shuffled = [
        each[torch.randperm(40, generator=torch.Generator().manual_seed(2))] for each in maps
    ]
    assert overlap(shuffled, examples) < 0.6


def test_the_mean_mask_is_that_of_the_frames_that_have_one() -> None:
    examples, _ = study()
    rows = np.array([3, 7])
    assert np.allclose(mean_masks(examples, rows)[0], examples.masks_of(rows)[:, 0].mean(axis=0))


def test_a_tower_without_known_maps_is_refused() -> None:
    model = SimpleNamespace(towers=SimpleNamespace(visual=nn.Linear(2, 2)))
    with pytest.raises(SonoError, match="image tower Linear has no known maps"):
        frozen_maps(model, np.zeros((1, 8, 8), np.uint8), 1)
