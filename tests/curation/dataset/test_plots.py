from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sono.curation.core.planes import REGIONS, PlaneTable
from sono.curation.core.reasons import REASONS
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, empty_table, from_rows
from sono.curation.dataset.caption_plot import MAX_WORDS, figure_captions, frequent_words
from sono.curation.dataset.flow_plot import figure_flow
from sono.curation.dataset.named_structures import named_structures
from sono.curation.dataset.plots import GA_COLOR, figure_planes_and_age
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


@pytest.mark.parametrize("reasons", [0, 3, 20])
def test_the_flow_has_a_line_for_each_reason_up_to_a_dozen(reasons: int) -> None:
    codes = list(REASONS)[:reasons]
    row = {"frame": 0, "source_id": "s", "image_id": "i", "status": "accepted"}
    out = [
        {"frame": 0, "source_id": code, "status": REASONS[code].status, "reasons": [code]}
        for code in codes
        if REASONS[code].status != "accepted"
    ]
    stats = compute_statistics(
        from_rows(IMAGES, [row, *out]), empty_table(MASKS), empty_table(CAPTIONS), TABLE
    )
    picture = pixels(figure_flow(stats))
    none = pixels(figure_flow(counted(["femur"])))
    assert picture.std() > 1
    assert (picture.shape[0] > none.shape[0]) is (len(out) > 1)


def test_structures_are_counted_once_in_a_caption_and_by_their_longest_name() -> None:
    texts = ["The descending aorta, descending aorta and femur.", "The aorta.", "The aorta."]
    rows = [
        {"image_id": f"{n}", "level": "global", "text": text, "template": "t", "tier": "full",
         "tokens": 5}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    rows.append(
        rows[0] | {"image_id": "9", "mask_id": "m", "level": "region", "text": "The femur."}
    )
    assert named_structures(from_rows(CAPTIONS, rows), TABLE) == [
        {"structure": "aorta", "captions": 2},
        {"structure": "descending aorta", "captions": 1},
        {"structure": "femur", "captions": 1},
    ]


def test_words_are_counted_once_in_each_caption_without_links_and_numbers() -> None:
    texts = pd.Series(
        ["The Femur of that femur at 22 weeks."] * 2 + ["A four-chamber view; femur."]
    )
    assert frequent_words(texts) == {"femur": 3, "weeks": 2, "four-chamber": 1, "view": 1}


def test_longer_bars_are_of_more_frequent_words_and_lengths() -> None:
    def blue(counts: list[int], tokens: list[int]) -> tuple[int, int]:
        words = [f"word{chr(97 + place)}" for place in range(len(counts))]
        texts = [word for word, count in zip(words, counts, strict=True) for _ in range(count)]
        table = pd.DataFrame({"text": texts, "tokens": pd.array(tokens, "Int32")})
        picture = pixels(figure_captions(table))
        color = tuple(int(GA_COLOR[place : place + 2], 16) for place in (1, 3, 5))
        middle = picture.shape[1] // 2
        return area(picture[:, :middle], color), area(picture[:, middle:], color)

    even, uneven = blue([4, 4], [9] * 8), blue([6, 2], [9, 9, 9, 9, 9, 9, 9, 30])
    assert uneven[0] < 0.75 * even[0] and uneven[1] < 0.75 * even[1]
    many = pd.DataFrame({"text": [f"w{chr(97 + n)}x" for n in range(26)], "tokens": [5] * 26})
    assert pixels(figure_captions(many)).shape[0] > 700 and MAX_WORDS == 25
