"""Which frames are evaluated: none that training has seen, unless a user allows it."""

import pandas as pd
import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, from_rows
from sono.evaluation.selection import (
    Seen,
    Target,
    leaking,
    resolve_target,
    select_frames,
    size_of,
)

SEEN = Seen(frozenset({"old"}), frozenset({"p1"}), frozenset({"i1"}))


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Rows of (image, patient, center, plane, split, duplicate group)."""
    names = ("image_id", "patient_id", "center", "plane", "split", "duplicate_group")
    common = {"frame": 0, "status": "accepted"}
    return from_rows(
        IMAGES,
        [dict(zip(names, row, strict=True)) | {"source_id": row[0]} | common for row in rows],
    )


@pytest.fixture
def images() -> pd.DataFrame:
    return table(
        ("i1", "p1", "old", "femur", "train", "g1"),
        ("i2", "p2", "old", "femur", "test", None),
        ("i3", "p3", "new", "eye", "train", None),
        ("i4", "p1", "new", "eye", None, None),
        ("i5", "p5", "new", "eye", None, "g1"),
        ("i6", "p6", "new", "other", "test", None),
        ("i7", None, "new", None, "test", None),
        ("i8", None, "new", "leg", "test", None),
    )


def test_a_new_center_is_evaluated_in_all_its_splits(images: pd.DataFrame) -> None:
    found = select_frames(images, SEEN, Target("new"))
    assert found.frames["image_id"].tolist() == ["i3", "i8"]
    assert found.excluded == {
        "with plane unknown": 1,
        "of no standard plane": 1,
        "known from training": 2,
    }
    assert (
        found.start_line(Target("new"))
        == "center new: 2 of 6 accepted frames are evaluated; excluded: 1 with plane unknown, 1 of "
        "no standard plane, 2 known from training"
    )
    first = found.first_line(Target("new"))
    assert (
        first
        == "Center new (not seen in training): 2 frames (1 of 1 patient, 1 with patient unknown)"
    )


def test_frames_without_a_patient_are_not_counted_as_patients(images: pd.DataFrame) -> None:
    assert size_of(images) == "8 frames (6 of 5 patients, 2 with patient unknown)"
    assert size_of(images.assign(patient_id=None)) == "8 frames, patient unknown"
    assert size_of(images[:3]) == "3 frames of 3 patients"


def test_a_center_of_the_training_is_refused_unless_insisted(images: pd.DataFrame) -> None:
    with pytest.raises(SonoError, match="center 'old' was in training") as refusal:
        select_frames(images, SEEN, Target("old"))
    assert refusal.value.exit_code == 1
    insisted = Target("old", allow_seen=True)
    first = select_frames(images, SEEN, insisted).first_line(insisted)
    assert first.startswith("Center old (SEEN IN TRAINING") and "1 OF THE FRAMES WERE SEEN" in first


@pytest.mark.parametrize("name", ["OLD", "Old Hospital", "old east"])
def test_a_center_of_the_training_is_refused_in_every_spelling(
    images: pd.DataFrame, name: str
) -> None:
    spelled = images.replace({"center": {"old": name}})
    with pytest.raises(SonoError, match=f"center '{name}' was in training as 'old'"):
        select_frames(spelled, SEEN, Target(name))


def test_a_center_in_another_spelling_is_evaluated_as_that_of_the_table(
    images: pd.DataFrame,
) -> None:
    found = select_frames(images, SEEN, Target("New hospital"))
    assert found.frames["image_id"].tolist() == ["i3", "i8"]
    assert resolve_target(images, Target("NEW")).label == "center new"
    with pytest.raises(SonoError, match="'new' is the name of 2 centers"):
        resolve_target(images.replace({"center": {"new": "NEW", "old": "New"}}), Target("new"))


def test_an_unknown_center_lists_the_centers(images: pd.DataFrame) -> None:
    with pytest.raises(
        SonoError, match=r"unknown center 'nwe'; did you mean 'new'\?; the centers here: new, old"
    ):
        select_frames(images, SEEN, Target("nwe"))


def test_a_split_says_which_centers_training_knew(images: pd.DataFrame) -> None:
    found = select_frames(images, SEEN, Target())
    assert found.frames["image_id"].tolist() == ["i2", "i8"]
    assert "other frames of old were in training" in found.first_line(Target())


def test_a_split_that_training_used_up_is_refused(images: pd.DataFrame) -> None:
    everyone = Seen(patients=frozenset({"p1", "p3"}))
    with pytest.raises(
        SonoError, match=r"none of its 2 accepted frames.*2 known from training.*--allow-seen"
    ):
        select_frames(images, everyone, Target(split="train"))


def test_an_unknown_or_empty_split_is_an_error(images: pd.DataFrame) -> None:
    with pytest.raises(SonoError, match="unknown split 'tset'; did you mean 'test'"):
        select_frames(images, SEEN, Target(split="tset"))
    with pytest.raises(SonoError, match="run `sono split`"):
        select_frames(images, SEEN, Target(split="val"))


def test_a_leak_is_an_image_a_patient_or_a_near_duplicate(images: pd.DataFrame) -> None:
    found = leaking(images, images, SEEN)
    assert images.loc[found, "image_id"].tolist() == ["i1", "i4", "i5"]
    assert not leaking(images, images, Seen()).any()
    # of a segmenter only the frames are recorded: their patients are those of the table
    known = Seen(image_ids=frozenset({"i1"}))
    assert images.loc[leaking(images, images, known), "image_id"].tolist() == ["i1", "i4", "i5"]


@pytest.mark.parametrize(
    ("center", "folder"),
    [
        ("Б" * 99, f"{'%D0%91' * 26}%D0%-8ba9f514"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        ("test", "center test"),
        ("Sant Pau", "Sant Pau"),
    ],
)
def test_a_center_cannot_write_outside_its_run(center: str, folder: str) -> None:
    assert Target(center).folder == folder


def test_frames_of_unknown_patients_are_counted_and_left_out_where_their_exam_was_trained_on() -> (
    None
):
    images = table(
        ("a", None, "new", "femur", "train", None),
        ("b", None, "new", "femur", "test", None),
        ("c", None, "new", "eye", "test", None),
        ("d", "p9", "new", "eye", "test", None),
    ).assign(exam_id=["e1", "e1", "e2", None])
    found = select_frames(images, Seen(image_ids=frozenset({"a"})), Target(split="test"))
    assert found.frames["image_id"].tolist() == ["c", "d"] and found.excluded == {
        "known from training": 1
    }
    assert found.without_patient == {
        "frames": 1,
        "study": 0,
        "name and birth date": 0,
        "exam folder": 0,
        "file": 1,
        "published partition": 0,
        "duplicate": 0,
        "train only": 0,
    }


def test_a_study_without_centers_has_none_to_choose(images: pd.DataFrame) -> None:
    with pytest.raises(SonoError, match="unknown center 'new'; the centers here: none"):
        resolve_target(images.assign(center=None), Target("new"))
