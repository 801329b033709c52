"""Shares of patients, then of centers and planes, for studies of any size."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sono.curation.core.column_values import SPLITS
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.dataset.split_checks import check_splits
from sono.curation.dataset.splits import SplitConfig, assign_splits, fold_splits

SHARES = np.array([0.7, 0.1, 0.2])


def _study(patients: list[tuple[str, list[str]]]) -> pd.DataFrame:
    """A patient a pair of center and planes, a frame a plane."""
    rows = [
        {
            "source_id": f"{place}-{number}",
            "patient_id": f"w{place:03d}",
            "frame": 0,
            "status": "accepted",
        }
        | {"center": center, "plane": plane}
        for place, (center, planes) in enumerate(patients)
        for number, plane in enumerate(planes)
    ]
    return from_rows(IMAGES, rows)


def _patients(images: pd.DataFrame, seed: int = 0) -> list[int]:
    placed = images.assign(split=assign_splits(images, SplitConfig(seed=seed)))
    check_splits(placed)
    return [placed.loc[placed["split"] == name, "patient_id"].nunique() for name in SPLITS]


@pytest.mark.parametrize(
    ("patients", "parts"),
    [
        (3, [[1, 1, 1]]),  # none is left empty
        (4, [[2, 1, 1]]),
        (5, [[3, 1, 1]]),
        (8, [[5, 1, 2], [6, 1, 1]]),  # of 5.6, 0.8 and 1.6: the first
        (10, [[7, 1, 2]]),
        (12, [[8, 1, 3], [9, 1, 2]]),
        (20, [[14, 2, 4]]),
    ],
)
def test_few_patients_are_shared_out_to_the_nearest(patients: int, parts: list[list[int]]) -> None:
    images = _study(
        [
            ("AB"[patient % 2], [f"plane{(8 * patient + n) % 24}" for n in range(8)])
            for patient in range(patients)
        ]
    )
    assert all(_patients(images, seed) in parts for seed in range(10))


def test_two_patients_go_where_the_shares_are() -> None:
    assert sorted(_patients(_study([("A", ["femur"]), ("A", ["femur"])]))) == [0, 1, 1]


def test_the_only_patient_of_a_plane_or_a_center_is_trained_on() -> None:
    for seed in range(10):
        images = _study(
            [("A", ["femur"] * 4)] * 8 + [("A", ["femur", "eye"]), ("B", ["femur"] * 4)]
        )
        split = assign_splits(images, SplitConfig(seed=seed))
        assert set(split[(images["plane"] == "eye") | (images["center"] == "B")]) == {"train"}


def test_each_plane_of_three_patients_stands_in_every_split_where_patients_allow() -> None:
    images = _study(
        [("A", ["leg"] * 4)] * 3 + [("A", ["eye"] * 4)] * 3 + [("A", ["femur"] * 4)] * 24
    )
    for seed in range(10):
        counts = pd.crosstab(images["plane"], assign_splits(images, SplitConfig(seed=seed)))
        assert (counts > 0).all(axis=None)


def test_a_crowd_tied_by_duplicates_is_trained_on_and_the_others_make_up() -> None:
    images = _study([("A", ["femur"])] * 30)
    images.loc[:14, "duplicate_group"] = "tied"
    for seed in range(10):
        split = assign_splits(images, SplitConfig(seed=seed))
        assert set(split[:15]) == {"train"}
        assert split.value_counts().to_dict() == {"train": 21, "val": 3, "test": 6}


def test_frames_follow_where_patients_differ() -> None:
    images = _study([("A", ["femur"] * (2 + 5 * (patient % 5))) for patient in range(20)])
    for seed in range(10):
        frames = assign_splits(images, SplitConfig(seed=seed)).value_counts(normalize=True)[
            list(SPLITS)
        ]
        assert np.abs(frames - SHARES).max() < 0.05


studies = st.lists(
    st.tuples(
        st.sampled_from("ABC"),
        st.lists(st.sampled_from(["femur", "eye", "leg", "lvot"]), min_size=1),
    ),
    min_size=3,
    max_size=40,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(studies, st.integers(0, 5), st.booleans())
def test_any_study_keeps_its_patients_whole_and_their_shares(
    patients: list, seed: int, reverse: bool
) -> None:
    images = _study(patients)
    config = SplitConfig(seed=seed)
    split = assign_splits(images, config)
    check_splits(images.assign(split=split))
    counts = pd.Series(_patients(images, seed), index=list(SPLITS))
    assert (counts > 0).all()
    if len(patients) >= 5:  # fewer cannot fill three splits and come near
        assert (np.abs(counts - SHARES * len(patients)) < 1).all()
    other_order = images.iloc[::-1] if reverse else images.sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(assign_splits(other_order, config).sort_index(), split)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(studies, studies, st.lists(st.integers(0, 39), max_size=6))
def test_patients_who_stand_in_a_split_stay_and_new_ones_join(
    old: list, new: list, tied: list[int]
) -> None:
    before = _study(old)
    standing = assign_splits(before, SplitConfig(seed=7))
    images = _study(old + new)
    images.loc[
        images["patient_id"].isin([f"w{patient:03d}" for patient in tied]), "duplicate_group"
    ] = "g"
    split = assign_splits(images, SplitConfig(), standing.reindex(images.index))
    assert split.notna().all()
    check_splits(images.assign(split=split))
    free = images["duplicate_group"][: len(before)].isna()
    assert (split[: len(before)][free] == standing[free]).all()


@pytest.mark.parametrize(("patients", "folds"), [(10, 5), (12, 12), (9, 2)])
def test_folds_hold_equally_many_patients(patients: int, folds: int) -> None:
    images = _study([("A", ["femur"] * 3)] * patients)
    tested = [
        images["patient_id"][fold_splits(images, folds, fold, seed=3) == "test"].nunique()
        for fold in range(folds)
    ]
    assert sum(tested) == patients
    assert max(tested) - min(tested) <= 1
