import cv2
import numpy as np
import pytest

from sono.curation.imaging.components import connected_components


@pytest.mark.parametrize(
    ("shape", "share"),
    [((40, 60), 0.5), ((7, 300), 0.2), ((50, 1), 0.6), ((1, 9), 0.5), ((33, 33), 1.0)],
)
def test_parts_are_those_of_opencv(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(3).random(shape) < share
    labels, stats = connected_components(mask)
    _, expected, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    assert np.array_equal(labels, expected)
    assert np.array_equal(stats[1:], boxes[1:])


def test_an_empty_mask_has_no_parts() -> None:
    labels, stats = connected_components(np.zeros((5, 6), np.bool_))
    assert not labels.any() and stats.shape == (1, 5)
