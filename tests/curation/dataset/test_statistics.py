import json

import pandas as pd
import pytest

from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, empty_table, from_rows
from sono.curation.dataset.statistics import Statistics, compute_statistics

TABLE = PlaneTable()


def rows() -> list[dict[str, object]]:
    """Six frames: three accepted of two patients, three not."""
    accepted = [
        {
            "plane": "femur",
            "ga_days": 154,
            "patient_id": "p",
            "split": "train",
            "center": "A",
            "brightness": 0.2,
        },
        {
            "plane": "femur",
            "ga_days": 160,
            "patient_id": "p",
            "split": "train",
            "center": "A",
            "brightness": 0.4,
        },
        {
            "plane": "other",
            "region": "head",
            "ga_days": 168,
            "patient_id": "q",
            "split": "test",
            "center": "B",
        },
    ]
    others = [
        {
            "status": "rejected",
            "reasons": ["overlay", "blurred", "too_dark"],
            "center": "A",
            "plane": "leg",
        },
        {"status": "error", "reasons": ["truncated"]},
        {
            "status": "rejected",
            "reasons": ["exact_duplicate"],
            "duplicate_group": "d",
            "duplicate_kind": "exact",
        },
    ]
    both = [
        {"status": "accepted", "reasons": ["overlay"], "duplicate_group": "d"} | row
        for row in accepted
    ] + others
    return [
        {"source_id": f"s{n}", "image_id": f"i{n}", "frame": 0} | row for n, row in enumerate(both)
    ]


@pytest.fixture(scope="module")
def stats() -> Statistics:
    box = dict.fromkeys(("box_x", "box_y", "box_width", "box_height", "area", "height", "width"), 1)
    masks = [
        {
            "mask_id": f"m{n}",
            "image_id": image,
            "structure": "femur",
            "counts": "0",
            "source": "sam",
            "state": state,
        }
        | box
        for n, (image, state) in enumerate(
            [("i0", "accepted"), ("i0", "proposed"), ("i1", "rejected"), ("i4", "accepted")]
        )
    ]
    captions = [
        {
            "image_id": f"i{n}",
            "level": "global",
            "text": "x",
            "template": "t",
            "tier": tier,
            "tokens": 10 + n,
        }
        for n, tier in enumerate(("full", "full", "label"))
    ]
    return compute_statistics(
        from_rows(IMAGES, rows()), from_rows(MASKS, masks), from_rows(CAPTIONS, captions), TABLE
    )


def test_the_headline(stats: Statistics) -> None:
    assert stats.frames == {
        "frames": 6, "files": 6, "accepted": 3, "patients": 2, "studies": 0, "centers": 2,
        "machines": 0,
    }  # fmt: skip
    assert stats.status == {"accepted": 3, "rejected": 2, "quarantined": 0, "error": 1}


def test_each_excluded_frame_counts_once_under_the_reason_of_its_status(stats: Statistics) -> None:
    assert dict(zip(stats.exclusions["code"], stats.exclusions["frames"], strict=True)) == {
        "truncated": 1, "blurred": 1, "exact_duplicate": 1,
    }  # fmt: skip
    assert stats.exclusions["frames"].sum() + stats.frames["accepted"] == stats.frames["frames"]


def test_every_reason_of_every_frame_is_counted_with_its_meaning(stats: Statistics) -> None:
    counts = dict(zip(stats.reasons["code"], stats.reasons["frames"], strict=True))
    assert counts == {
        "truncated": 1,
        "blurred": 1,
        "too_dark": 1,
        "exact_duplicate": 1,
        "overlay": 4,
    }
    assert stats.reasons["meaning"].str.len().min() > 0


def test_planes_stand_in_table_order_with_other_and_unknown_last(stats: Statistics) -> None:
    assert stats.plane["plane"].tolist() == [*TABLE.by_id, "other", "unknown"]
    femur = stats.plane.set_index("plane").loc["femur"]
    assert (femur["frames"], femur["patients"], femur["train"], femur["test"]) == (2, 1, 2, 0)
    assert stats.plane["frames"].sum() == 3


def test_the_region_is_that_of_the_plane_else_of_the_record(stats: Statistics) -> None:
    assert stats.region == {"lower limb": 2, "head": 1}


def test_ages_in_completed_weeks_without_gaps(stats: Statistics) -> None:
    assert stats.ga_weeks == {22: 2, 23: 0, 24: 1}
    assert stats.ga == {"known": 3, "missing": 0, "min": 22.0, "median": 22.86, "max": 24.0}
    assert stats.age_range == "22+0 to 24+0 weeks, median 22+6"


def test_centers_patients_and_splits(stats: Statistics) -> None:
    center = stats.center.set_index("center")
    assert center.loc["A", ["frames", "accepted", "patients", "with_ga"]].tolist() == [3, 2, 1, 2]
    assert center.loc["unknown", "frames"] == 2
    assert stats.split["frames"].tolist() == [2, 0, 1, 0]
    assert (stats.frames_per_patient["median"], stats.frames_per_patient["max"]) == (1.5, 2.0)


def test_a_duplicate_group_in_two_splits_is_counted(stats: Statistics) -> None:
    assert stats.duplicates == {"groups": 1, "exact": 1, "near": 0, "largest_group": 4}
    assert stats.leaks == {"patients": 0, "duplicate_groups": 1}


@pytest.mark.parametrize(("group", "leaking"), [(None, 0), ("g", 1)])
def test_patients_who_may_be_one_leak_like_one_patient(group: str | None, leaking: int) -> None:
    splits = {"one": "train", "two": "test", "three": "test"}
    rows: list[dict[str, object]] = [
        {"source_id": name, "frame": 0, "status": "accepted", "patient_id": name, "split": split}
        for name, split in splits.items()
    ]
    for row in rows[:2]:
        row["patient_group"] = group
    stats = compute_statistics(
        from_rows(IMAGES, rows), empty_table(MASKS), empty_table(CAPTIONS), TABLE
    )
    assert stats.leaks == {"patients": leaking, "duplicate_groups": 0}


def test_quality_has_a_row_where_there_are_values(stats: Statistics) -> None:
    assert stats.quality[["center", "measure"]].to_numpy().tolist() == [["A", "brightness"]]
    assert stats.quality["p50"].iloc[0] == pytest.approx(0.3)


def test_masks_by_state_and_usable_ones(stats: Statistics) -> None:
    assert stats.masks.to_dict("records") == [
        {
            "structure": "femur",
            "source": "sam",
            "proposed": 1,
            "accepted": 2,
            "edited": 0,
            "rejected": 1,
        }
    ]
    assert stats.mask_totals == {
        "masks": 4, "proposed": 1, "accepted": 2, "edited": 0, "rejected": 1,
        "usable": 2, "trained_on": 1, "frames_with_masks": 1,
    }  # fmt: skip
    headline = stats.headline()
    assert headline["mask_states_trained_on"] == "accepted, edited"
    assert headline["captions"] == {"global": 3, "region": 0}
    assert sum(headline["not_accepted"].values()) == stats.exclusions["frames"].sum() > 0


def test_captions_by_tier(stats: Statistics) -> None:
    assert stats.captions.to_dict("records")[0] == {
        "template": "t", "level": "global", "full": 2, "partial": 0, "label": 1,
    }  # fmt: skip
    assert stats.caption_tokens["median"] == 11


def test_as_dict_is_json_without_nan(stats: Statistics) -> None:
    assert json.loads(json.dumps(stats.as_dict(), allow_nan=False))["ga_weeks"] == {
        "22": 2,
        "23": 0,
        "24": 1,
    }


def test_a_study_where_nothing_was_accepted_still_counts() -> None:
    bad = from_rows(
        IMAGES, [{"source_id": "s", "frame": 0, "status": "error", "reasons": ["corrupt"]}]
    )
    stats = compute_statistics(bad, empty_table(MASKS), empty_table(CAPTIONS), TABLE)
    assert stats.frames["accepted"] == 0
    assert stats.ga_weeks == {}
    assert stats.plane["frames"].sum() == 0
    assert json.dumps(stats.as_dict(), allow_nan=False)


def test_a_status_without_a_reason_is_still_an_exclusion() -> None:
    images = from_rows(IMAGES, [{"source_id": "s", "frame": 0, "status": "rejected"}])
    stats = compute_statistics(images, empty_table(MASKS), empty_table(CAPTIONS), TABLE)
    assert isinstance(stats.exclusions, pd.DataFrame)
    assert stats.exclusions["frames"].tolist() == [1]


def test_an_unknown_plane_and_no_standard_plane_have_names_of_their_own(stats: Statistics) -> None:
    assert stats.plane["name"].tolist()[-2:] == ["no standard plane", "plane unknown"]
    assert [TABLE.title(plane) for plane in ("femur", "other", None, float("nan"))] == [
        "femur",
        "no standard plane",
        "plane unknown",
        "plane unknown",
    ]
