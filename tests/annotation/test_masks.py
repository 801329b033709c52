"""Run lengths against pycocotools and by hand; rows and what replaces what."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from sono.annotation.masks import check_masks, mask_row, mask_table, replace_masks
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode, encode, from_runs
from sono.curation.core.tables import IMAGES, from_rows, rows_of

IMAGE = {"image_id": "a" * 16, "height": 4, "width": 6}
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def square(top: int = 1) -> np.ndarray:
    mask = np.zeros((4, 6), np.bool_)
    mask[top : top + 2, 2:5] = True
    return mask


def images(height: int = 4) -> pd.DataFrame:
    return from_rows(
        IMAGES, [{**IMAGE, "height": height, "source_id": "s", "frame": 0, "status": "accepted"}]
    )


@given(arrays(np.bool_, SHAPES))
def test_a_mask_comes_back_from_its_code(mask: np.ndarray) -> None:
    assert np.array_equal(decode(encode(mask), *mask.shape), mask)


# inside pycocotools
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(arrays(np.bool_, SHAPES))
def test_the_code_is_the_one_of_pycocotools(mask: np.ndarray) -> None:
    theirs = coco.decode({"size": list(mask.shape), "counts": encode(mask).encode()})
    assert np.array_equal(theirs.astype(bool), mask)


def test_long_runs_survive() -> None:
    mask = np.zeros((3000, 2000), np.bool_)
    mask[7:, 1000:] = True
    assert np.array_equal(decode(encode(mask), 3000, 2000), mask)


def test_runs_go_down_the_columns_and_begin_with_zeros() -> None:
    assert from_runs([1, 2, 3], 2, 3).tolist() == [[False, True, False], [True, False, False]]


def test_a_mask_that_begins_set_has_an_empty_first_run() -> None:
    assert from_runs([0, 4], 2, 2).all()


@pytest.mark.parametrize("runs", [[1, 2], [10], [-2, 8], []])
def test_runs_that_do_not_fill_the_frame_are_refused(runs: list[int]) -> None:
    with pytest.raises(SonoError, match="2 x 3 = 6 pixels"):
        from_runs(runs, 2, 3)


def test_a_code_of_another_size_is_refused() -> None:
    with pytest.raises(SonoError, match="run lengths sum to 24"):
        decode(encode(square()), 5, 6)


@pytest.mark.parametrize("counts", ["é", "\x00", "P" * 3, "ooooooooooooo0", " "])
def test_text_that_is_no_code_is_refused(counts: str) -> None:
    with pytest.raises(SonoError, match="COCO"):
        decode(counts, 4, 6)


def test_a_row_has_the_box_and_area_of_its_mask() -> None:
    row = mask_row(IMAGE, square(), "femur", "manual")
    assert [row[f"box_{part}"] for part in ("x", "y", "width", "height")] == [2, 1, 3, 2]
    assert (row["area"], row["state"]) == (6, "proposed")


def test_the_id_follows_from_image_structure_source_and_pixels() -> None:
    first = mask_row(IMAGE, square(), "femur", "manual", score=0.1)["mask_id"]
    others = [
        mask_row({**IMAGE, "image_id": "b" * 16}, square(), "femur", "manual"),
        mask_row(IMAGE, square(), "tibia", "manual"),
        mask_row(IMAGE, square(), "femur", "import"),
        mask_row(IMAGE, square(0), "femur", "manual"),
    ]
    assert first == mask_row(IMAGE, square(), "femur", "manual", score=0.9)["mask_id"]
    assert len({first, *(row["mask_id"] for row in others)}) == 5


def test_a_turned_mask_is_refused() -> None:
    with pytest.raises(SonoError, match="6 x 4 pixels, the frame 4 x 6"):
        mask_row(IMAGE, square().T, "femur", "manual")


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(SonoError, match="empty"):
        mask_row(IMAGE, np.zeros((4, 6), np.bool_), "femur", "manual")


def test_a_mask_of_a_frame_that_changed_is_an_error_and_one_of_its_size_is_not() -> None:
    table = mask_table([mask_row(IMAGE, square(), "femur", "manual")])
    check_masks(table, images())
    with pytest.raises(SonoError, match=r"4 x 6 pixels, but frame a+ has 5 x 6"):
        check_masks(table, images(height=5))


def test_a_mask_without_image_is_an_error() -> None:
    lost = mask_table([mask_row({**IMAGE, "image_id": "c" * 16}, square(), "femur", "manual")])
    with pytest.raises(SonoError, match="not in the images table"):
        check_masks(lost, images())


def test_new_proposals_replace_old_ones_of_the_same_kind_only() -> None:
    old = mask_table([mask_row(IMAGE, square(0), name, "heuristic") for name in ("femur", "tibia")])
    new = mask_table([mask_row(IMAGE, square(1), "femur", "heuristic")])
    merged = replace_masks(old, new)
    assert sorted(zip(merged["structure"], merged["box_y"], strict=True)) == [
        ("femur", 1),
        ("tibia", 0),
    ]


@pytest.mark.parametrize("state", ["accepted", "edited", "rejected"])
def test_what_a_person_decided_stays_and_is_not_asked_again(state: str) -> None:
    old = mask_table([mask_row(IMAGE, square(0), "femur", "heuristic", state=state)])
    merged = replace_masks(old, mask_table([mask_row(IMAGE, square(1), "femur", "heuristic")]))
    assert merged["state"].tolist() == [state]
    assert merged["box_y"].tolist() == [0]


def test_an_accepted_import_replaces_what_was_accepted_of_its_source_or_as_asked() -> None:
    first, second = (
        mask_table([mask_row(IMAGE, square(top), "femur", source, state="accepted")])
        for top, source in ((0, "box"), (1, "import"))
    )
    corrected = mask_table([mask_row(IMAGE, square(1), "femur", "box", state="edited")])
    for new, replace, kept in (
        (corrected, None, [1]), (corrected, True, [1]), (corrected, False, [0, 1]),
        (second, None, [0, 1]), (second, True, [1]), (second, False, [0, 1]),
    ):  # fmt: skip
        assert replace_masks(first, new, replace)["box_y"].tolist() == kept
    assert len(replace_masks(first, first)) == 1
    both = mask_table([*rows_of(first), *rows_of(second)])  # two on one frame in one import
    assert len(replace_masks(both, both)) == len(replace_masks(first, both)) == 2
    tibia = mask_table([mask_row(IMAGE, square(1), "tibia", "import", state="accepted")])
    assert len(replace_masks(first, tibia)) == 2


def test_a_mask_that_a_person_has_rejected_replaces_none() -> None:
    kept = mask_row(IMAGE, square(0), "femur", "import", state="accepted")
    refused = mask_row(IMAGE, square(1), "femur", "import", state="rejected")
    known = mask_table([kept, refused])
    again = replace_masks(known, mask_table([refused | {"state": "accepted"}]))
    assert again["state"].tolist() == known["state"].tolist()


def test_a_mask_given_twice_is_one_row() -> None:
    row = mask_row(IMAGE, square(), "femur", "import")
    assert len(mask_table([row, row])) == 1
