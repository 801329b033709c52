"""Sector kinds: by their numbers, and on drawn sectors of each kind."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sono.curation.imaging.sector import find_sector
from sono.curation.imaging.transducer import is_flat, kind_of_sides, sector_kind
from sono.curation.readers.files import read_source

Gray = NDArray[np.uint8]
ARC = np.deg2rad(np.linspace(-30, 30, 64))


@pytest.mark.parametrize(
    ("left", "right", "gap", "flat", "kind"),
    [
        (None, None, None, None, "full"),
        (0.0, 0.0, None, None, "linear"),
        (None, 2.0, None, None, "linear"),
        (-15.0, -15.0, None, None, "linear"),  # steered: a parallelogram
        (-30.0, 30.0, 0.4, False, "convex"),
        (-30.0, None, None, None, "convex"),
        (-45.0, 45.0, 0.01, False, "phased"),
        (-45.0, 45.0, 0.01, True, "phased"),
        (-15.0, 15.0, 0.9, True, "trapezoid"),
        (-15.0, 15.0, 0.9, None, "convex"),  # the top is cut off
    ],
)
def test_kinds_follow_from_angles_apex_and_top(
    left: float | None, right: float | None, gap: float | None, flat: bool | None, kind: str
) -> None:
    assert kind_of_sides(left, right, gap, flat) == kind


def test_a_row_is_flat_and_an_arc_around_the_apex_is_not() -> None:
    assert is_flat(200 * np.tan(ARC), np.full(64, 200.0))
    assert not is_flat(200 * np.sin(ARC), 200 * np.cos(ARC))


def drawn(kind: str) -> Gray:
    """Speckle in a sector of 960 x 720."""
    down, across = (grid.astype(np.float64) for grid in np.mgrid[:720, :960])
    across -= 480
    radius, angle = np.hypot(across, down + 100), np.degrees(np.arctan2(across, down + 100))
    steep = np.degrees(np.arctan2(across, down - 20))
    inside = {
        "convex": (np.abs(angle) <= 30) & (radius >= 160) & (radius <= 760),
        "phased": (np.abs(steep) <= 40) & (np.hypot(across, down - 20) <= 640) & (down > 20),
        "linear": (np.abs(across) <= 200) & (down >= 40) & (down < 680),
        "trapezoid": (np.abs(np.degrees(np.arctan2(across, down + 560))) <= 18)
        & (down >= 40)
        & (down < 680),
        "full": np.ones_like(across, np.bool_),
    }[kind]
    smooth = cv2.GaussianBlur(np.random.default_rng(7).normal(90, 25, down.shape), (0, 0), 2.0)
    return np.where(inside, np.clip(smooth, 12, 255), 0).astype(np.uint8)


@pytest.mark.parametrize("kind", ["convex", "phased", "linear", "trapezoid", "full"])
def test_a_drawn_sector_has_its_kind(kind: str) -> None:
    gray = drawn(kind)
    assert sector_kind(gray, find_sector(gray)) == kind


def test_a_convex_sector_whose_top_is_cut_off_stays_convex() -> None:
    gray = drawn("convex")[160:]
    assert sector_kind(gray, find_sector(gray)) == "convex"


def test_fetal_frames_are_hardly_ever_phased_or_trapezoid(shared_data: Path) -> None:
    kinds = []
    for path in sorted((shared_data / "barcelona").rglob("*.jpg"))[::24]:
        gray = read_source(str(path).encode()).frames[0].gray
        kinds.append(sector_kind(gray, find_sector(gray)))
    assert np.mean([kind in ("convex", "full") for kind in kinds]) >= 0.95
