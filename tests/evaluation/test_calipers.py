"""Calipers are painted into every frame, and what they change is measured in pairs."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sono.curation.core.atomic import write_bytes
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.evaluation.calipers import (
    BRIGHT,
    caliper_features,
    caliper_results,
    caliper_sentence,
    paint_calipers,
)
from sono.evaluation.statistics.bootstrap import Draws
from sono.evaluation.summaries import Scored
from sono.training.model.mask_clip import MaskClip

QUICK = Draws(100)


class CaliperReader(nn.Module):
    """Answers plane 1 where a pixel is as bright as a caliper, else plane 0."""

    image_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(0.0))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        bright = (image.amax(dim=(1, 2, 3)) * 255 >= BRIGHT - 1).long()
        return nn.functional.one_hot(bright, 3).float()


def test_calipers_are_bright_small_and_the_same_for_the_same_seed() -> None:
    frame = np.zeros((96, 96), np.uint8)
    frame[30:60, 30:60] = 80
    kept = frame.copy()
    first, again, other = (paint_calipers(frame, seed) for seed in (1, 1, 2))
    assert np.array_equal(frame, kept) and np.array_equal(first, again)
    assert not np.array_equal(first, other)
    changed = first != frame
    assert set(np.unique(first[changed])) == {BRIGHT} and 10 < changed.sum() < 60
    places = [np.argwhere(paint_calipers(frame, seed) != frame).mean(axis=0) for seed in range(40)]
    assert np.abs(np.mean(places, axis=0) - 45).max() < 6  # around the sector
    assert (paint_calipers(np.zeros((32, 32), np.uint8), 3) > 0).any()


@pytest.mark.parametrize(("truth", "change"), [(0, -1.0), (1, 1.0)])
def test_a_model_that_reads_calipers_is_found(truth: int, change: float, tmp_path: Path) -> None:
    frames = [np.full((40, 40), 50 + number, np.uint8) for number in range(6)]
    ids = [image_id_of(frame) for frame in frames]
    files = [tmp_path / frame_file(name, frame) for name, frame in zip(ids, frames, strict=True)]
    for file, frame in zip(files, frames, strict=True):
        write_bytes(file, encode_png(frame))
    features = caliper_features(cast(MaskClip, CaliperReader()), files, ids, 4)
    assert features.argmax(axis=1).tolist() == [1] * 6
    scored = Scored(
        ("a", "b", "c"),
        np.array([truth] * 5 + [2]),
        np.arange(6),
        {"all_one": np.tile([1.0, 0.0, 0.0], (6, 1))},
    )
    found = caliper_results(features, np.eye(3, dtype=np.float32), scored, QUICK)
    assert found["change"]["point"] == pytest.approx(change / 2 if truth < 2 else 0)
    assert found["changed_answers"]["point"] == 1 and found["frames"] == 6
    assert "more than the 1 point" in caliper_sentence(found)
    found["change"]["point"] = 0.004
    assert "+0.4 points, at most the 1 point" in caliper_sentence(found)
