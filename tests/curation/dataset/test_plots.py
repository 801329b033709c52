from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sono.curation.core.planes import REGIONS, PlaneTable
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, empty_table, from_rows
from sono.curation.dataset.plots import figure_planes_and_age
from sono.curation.dataset.statistics import Statistics, compute_statistics

TABLE = PlaneTable()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def counted(planes: list[str | None], ga_days: int | None = None) -> Statistics:
    row = {"frame": 0, "status": "accepted", "ga_days": ga_days}
    images = [
        row | {"source_id": f"s{n}", "image_id": f"i{n}", "plane": plane}
        for n, plane in enumerate(planes)
    ]
    return compute_statistics(
        from_rows(IMAGES, images), empty_table(MASKS), empty_table(CAPTIONS), TABLE
    )


def area(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - color).max(axis=2) <= 2).sum())


def test_bars_are_as_long_as_the_counts_and_in_the_colors_of_the_regions() -> None:
    picture = pixels(figure_planes_and_age(counted(["femur"] * 4 + ["forearm"] * 2, 150), TABLE))
    patch = 400  # at most, of the legend
    legs, arms = (
        area(picture, REGIONS["lower limb"]) - patch,
        area(picture, REGIONS["upper limb"]) - patch,
    )
    assert legs / arms == pytest.approx(2, rel=0.05)
    assert area(picture, REGIONS["heart"]) == 0


@pytest.mark.parametrize("planes", [["femur"], [None], ["other", "femur"], [*TABLE.by_id, None]])
@pytest.mark.parametrize("ga_days", [None, 50, 300])
def test_the_figure_works_with_few_planes_and_without_ages(
    planes: list[str | None], ga_days: int | None
) -> None:
    assert pixels(figure_planes_and_age(counted(planes, ga_days), TABLE)).std() > 1


def test_equal_statistics_give_equal_bytes() -> None:
    stats = counted(["femur", "leg"], 150)
    assert figure_planes_and_age(stats, TABLE) == figure_planes_and_age(stats, TABLE)
