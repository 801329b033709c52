"""Each mode gives the mask it says, in the model's geometry."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox_mask
from sono.curation.core.rle import encode
from sono.curation.core.tables import IMAGES, from_rows
from sono.evaluation.modes import (
    MODES,
    MaskPlan,
    annotated_masks,
    box_mask,
    derangement,
    mask_for,
    plan_masks,
)
from sono.evaluation.outlines import StoredMask


def stored(mask: NDArray[np.bool_]) -> StoredMask:
    return StoredMask(encode(mask), *mask.shape)


def ell(height: int = 20, width: int = 30) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[5:15, 5:8] = mask[12:15, 5:20] = True
    return mask


@pytest.fixture
def plan() -> MaskPlan:
    annotated = {name: stored(np.roll(ell(), shift, axis=1)) for shift, name in enumerate("abc")}
    return plan_masks(annotated, {"a": stored(ell(40, 40))}, seed=0)


def test_all_one_covers_the_padding_and_empty_nothing(plan: MaskPlan) -> None:
    whole, none = (mask_for(plan, mode, "a", 8) for mode in ("all_one", "empty"))
    assert whole is not None and whole.all() and whole.shape == (8, 8)
    assert none is not None and not none.any()


def test_annotated_is_the_stored_mask_in_the_letterbox(plan: MaskPlan) -> None:
    np.testing.assert_array_equal(mask_for(plan, "annotated", "a", 30), letterbox_mask(ell(), 30))


def test_box_is_the_smallest_rectangle_around_the_mask() -> None:
    box = box_mask(ell())
    assert box[5:15, 5:20].all() and box.sum() == 150
    assert not box_mask(np.zeros((4, 4), np.bool_)).any()


def test_shuffled_is_the_mask_of_the_donor(plan: MaskPlan) -> None:
    donor = plan.annotated_donor["a"]
    np.testing.assert_array_equal(
        mask_for(plan, "shuffled", "a", 30), mask_for(plan, "annotated", donor, 30)
    )
    assert not np.array_equal(
        mask_for(plan, "shuffled", "a", 30), mask_for(plan, "annotated", "a", 30)
    )


@pytest.mark.parametrize("mode", ["annotated", "box", "shuffled"])
def test_oracle_modes_skip_frames_without_an_annotated_mask(plan: MaskPlan, mode: str) -> None:
    assert mask_for(plan, mode, "unmasked", 8) is None


def test_a_frame_without_proposal_gets_all_one(plan: MaskPlan) -> None:
    fallback, found = mask_for(plan, "proposed", "b", 8), mask_for(plan, "proposed", "a", 40)
    assert fallback is not None and fallback.all()
    np.testing.assert_array_equal(found, ell(40, 40))


def test_modes_without_material_are_not_offered(plan: MaskPlan) -> None:
    assert [mode for mode in MODES if plan.can(mode)] == [
        "all_one",
        "proposed",
        "annotated",
        "box",
        "shuffled",
        "empty",
    ]
    assert [mode for mode in MODES if plan_masks({}, {}, 0).can(mode)] == ["all_one", "empty"]


def test_a_derangement_moves_everyone_whatever_the_order() -> None:
    names = [f"image{number}" for number in range(101)]
    donors = derangement(names, 0)
    assert all(name != donor for name, donor in donors.items())
    assert sorted(donors.values()) == sorted(names)
    assert donors == derangement(names[::-1], 0) != derangement(names, 1)
    assert derangement(["alone"], 0) == {}


def test_one_usable_mask_a_frame_is_drawn_by_hash_not_by_order() -> None:
    image = {"image_id": "a", "height": 20, "width": 30}
    masks = mask_table(
        [
            mask_row(image, np.roll(ell(), shift, 0), "femur", "manual", state="edited")
            for shift in range(4)
        ]
        + [mask_row(image, np.roll(ell(), 4, 0), "femur", "manual", state="rejected")]
    )
    frames = from_rows(IMAGES, [{"source_id": "s", "frame": 0, "status": "accepted", **image}])
    found = annotated_masks(masks, frames)
    assert found == annotated_masks(masks[::-1], frames)
    assert found["a"].counts in set(masks.loc[masks["state"] == "edited", "counts"])
    assert annotated_masks(masks[masks["state"] == "rejected"], frames) == {}


def test_a_mask_of_another_size_is_refused() -> None:
    masks = mask_table(
        [
            mask_row(
                {"image_id": "a", "height": 20, "width": 30},
                ell(),
                "femur",
                "manual",
                state="accepted",
            )
        ]
    )
    turned = {
        "source_id": "s",
        "frame": 0,
        "status": "accepted",
        "image_id": "a",
        "height": 30,
        "width": 20,
    }
    with pytest.raises(SonoError, match="20 x 30 pixels, but frame a has"):
        annotated_masks(masks, from_rows(IMAGES, [turned]))
