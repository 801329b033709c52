"""Splits do not leak, are balanced, and are stable under new patients and row order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import fill_vault

from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows
from sono.curation.dataset.split_checks import check_splits, split_counts
from sono.curation.dataset.split_stage import checked_splits, split_workspace
from sono.curation.dataset.splits import SplitConfig, assign_splits, earlier_splits, fold_splits
from sono.curation.records.read import RecordsConfig, find_known_table, read_records


def _images(rows: list[dict[str, object]]) -> pd.DataFrame:
    whole = [
        {"frame": 0, "status": "accepted", "source_id": f"s{index}", **row}
        for index, row in enumerate(rows)
    ]
    return from_rows(IMAGES, whole)


def _patients(count: int, frames: int = 4, planes: int = 3) -> pd.DataFrame:
    rows = [
        {
            "patient_id": f"p{patient:04d}",
            "plane": f"plane{(patient * 7 + frame) % planes}",
            "center": "AB"[patient % 2],
        }
        for patient in range(count)
        for frame in range(frames)
    ]
    return _images(rows)


def _placed(images: pd.DataFrame) -> pd.DataFrame:
    return images.assign(split=assign_splits(images, SplitConfig()))


def test_shares_are_met_for_every_plane() -> None:
    counts = split_counts(_placed(_patients(200))).drop(index="patients")
    shares = counts.div(counts.sum(axis=1), axis=0)
    assert np.abs(shares - [0.7, 0.1, 0.2]).to_numpy().max() < 0.03


def test_a_patient_stands_in_one_split() -> None:
    placed = _placed(_patients(200))
    assert placed.groupby("patient_id")["split"].nunique().max() == 1
    check_splits(placed)


def test_three_patients_fill_three_splits() -> None:
    assert set(_placed(_patients(3))["split"]) == {"train", "val", "test"}


def test_a_rare_plane_of_three_patients_stands_in_every_split() -> None:
    images = _patients(100)
    images.loc[images["patient_id"].isin(["p0003", "p0050", "p0077"]), "plane"] = "rare"
    assert (split_counts(_placed(images)).loc["rare"] == 4).all()


def test_only_accepted_rows_get_a_split() -> None:
    images = _patients(10)
    images.loc[::3, "status"] = "rejected"
    placed = _placed(images)
    assert (placed["split"].isna() == (placed["status"] == "rejected")).all()


def test_duplicates_and_files_tie_rows_through_others() -> None:
    chain = [
        {"patient_id": "a", "duplicate_group": "g"},
        {"patient_id": "b", "duplicate_group": "g"},
        {"patient_id": "b", "duplicate_group": "h"},
        {"source_id": "cine", "frame": 0, "duplicate_group": "h"},
        {"source_id": "cine", "frame": 1, "plane": "femur"},
    ]
    for seed in range(20):
        images = pd.concat([_patients(30), _images(chain)], ignore_index=True)
        splits = assign_splits(images, SplitConfig(seed=seed))
        assert splits.iloc[-5:].nunique() == 1


def test_rows_without_a_patient_are_apart_unless_a_study_ties_them() -> None:
    alone = assign_splits(_images([{"exam_id": f"e{index}"} for index in range(40)]), SplitConfig())
    tied = assign_splits(
        _images([{"study_id": f"st{index // 20}"} for index in range(40)]), SplitConfig()
    )
    assert alone.nunique() == 3
    assert tied[:20].nunique() == tied[20:].nunique() == 1


def test_the_order_of_rows_does_not_matter() -> None:
    images = _patients(60)
    shuffled = images.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(
        assign_splits(shuffled, SplitConfig()).sort_index(), assign_splits(images, SplitConfig())
    )


def test_another_key_of_the_study_gives_the_same_splits() -> None:
    images = _patients(40)
    images["image_id"] = [f"{index * 7919 % 100_003:016x}" for index in range(len(images))]
    other = images.assign(
        patient_id=images["patient_id"].map(lambda name: f"q{hash(name) % 1_000_000:06d}{name}"),
        source_id=images["source_id"].map(lambda name: f"{hash(name) % 1_000_000:06d}{name}"),
    ).sort_values("source_id")
    split = assign_splits(other, SplitConfig()).sort_index()
    pd.testing.assert_series_equal(split, assign_splits(images, SplitConfig()))


def test_another_seed_gives_other_splits() -> None:
    images = _patients(60)
    assert (
        assign_splits(images, SplitConfig()) != assign_splits(images, SplitConfig(seed=1))
    ).any()


@pytest.mark.parametrize(("count", "moved"), [(50, 0.25), (200, 0.1), (1000, 0.02)])
def test_a_new_patient_moves_few_others(count: int, moved: float) -> None:
    more = _patients(count + 1)
    before, after = (
        assign_splits(_patients(count), SplitConfig()),
        assign_splits(more, SplitConfig())[: 4 * count],
    )
    assert (before != after).mean() < moved


def test_a_share_of_zero_gets_nothing() -> None:
    splits = assign_splits(_patients(60), SplitConfig(train=0.8, val=0.0, test=0.2))
    assert set(splits) == {"train", "test"}


def test_no_accepted_rows_give_no_splits() -> None:
    assert assign_splits(_images([{"status": "error"}]), SplitConfig()).isna().all()


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(SonoError, match=r"sum to 1.1 instead of 1"):
        override(SplitConfig(), train=0.8)


def test_folds_test_every_row_once() -> None:
    images = _patients(50)
    folds = [fold_splits(images, 5, fold, seed=0) for fold in range(5)]
    assert (sum((splits == "test").astype(int) for splits in folds) == 1).all()
    assert all({"train", "val", "test"} == set(splits) for splits in folds)
    check_splits(images.assign(split=folds[0]))


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_a_fold_that_does_not_exist_is_refused(folds: int, fold: int) -> None:
    with pytest.raises(SonoError, match=f"fold {fold} of {folds}"):
        fold_splits(_patients(5), folds, fold, seed=0)


@pytest.mark.parametrize(
    ("column", "kind"), [("patient_id", "patient"), ("duplicate_group", "duplicate group")]
)
def test_a_leak_is_an_error_that_names_the_pseudonym(column: str, kind: str) -> None:
    images = _images(
        [{column: "abc", "split": "train"}, {column: "abc", "split": "test"}, {"split": "val"}]
    )
    with pytest.raises(SonoError, match=rf"1 {kind} is in more than one split \(abc\)"):
        check_splits(images)


def test_a_held_out_center_takes_its_patients_and_duplicates_with_it() -> None:
    images = _images(
        [
            {"center": "A", "patient_id": "a"},
            {"center": "A", "patient_id": "both"},
            {"center": "A", "patient_id": "c", "duplicate_group": "g"},
            {"center": None, "patient_id": "d"},
            {"center": "B", "patient_id": "both"},
            {"center": "B", "patient_id": "e", "duplicate_group": "g", "status": "rejected"},
        ]
    )
    assert list(training_rows(images, ["B"])["patient_id"]) == ["a"]
    assert len(training_rows(images, [])) == 5


def test_an_unknown_center_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        SonoError, match=r"unknown center 'C'; known: A \(20 frames\), B \(20 frames\)"
    ):
        training_rows(_patients(10), ["C"])
    with pytest.raises(SonoError, match="nothing is left to train on without A, B"):
        training_rows(_patients(10), ["A", "B"])


def test_a_workspace_is_split_again_by_seed_or_fold(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, _placed(_patients(30)))
    again = split_workspace(study, None, 0, None)
    assert (study.images()["split"] == _placed(study.images())["split"]).all()
    fold = split_workspace(study, 5, 1, 3)
    assert fold.pop("test fold") == "1 of 5; --fold takes 0 to 4"
    assert (
        sum(part["frames"] for part in fold.values())
        == sum(part["frames"] for part in again.values())
        == 120
    )
    assert fold["test"] == {"frames": int((study.images()["split"] == "test").sum()), "patients": 6}


def test_runs_of_other_splits_are_named(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, _placed(_patients(30)))
    (study.runs / "old").mkdir(parents=True)
    (study.runs / "old" / "log.csv").touch()
    assert "remark" not in split_workspace(study, None, 0, None)
    assert split_workspace(study, 5, 1, 3)["remark"].startswith("old: trained on other splits")


def test_a_standing_split_is_found_by_patient_then_by_pixels() -> None:
    earlier = _images(
        [
            {"patient_id": "a", "image_id": "old", "split": "test"},
            {"image_id": "alone", "split": "val"},
            {"patient_id": "b", "image_id": "bad", "status": "rejected"},
        ]
    )
    images = _images(
        [{"patient_id": "a", "image_id": "new"}, {"image_id": "alone"}, {"patient_id": "b"}, {}]
    )
    assert earlier_splits(images, earlier).fillna("").tolist() == ["test", "val", "", ""]


def test_a_component_that_stood_in_two_splits_is_drawn_anew() -> None:
    images = _patients(30)
    # frame by frame, as without patient ids
    standing = pd.Series(["train", "test"] * 60, index=images.index)
    pd.testing.assert_series_equal(
        assign_splits(images, SplitConfig(), standing), assign_splits(images, SplitConfig())
    )


def test_who_stands_in_a_split_of_share_zero_stays_and_nobody_joins() -> None:
    images = _patients(30)
    standing = pd.Series(["test"] * 8 + [None] * 112, index=images.index)
    split = assign_splits(images, SplitConfig(train=0.8, val=0.2, test=0), standing)
    assert set(split[:8]) == {"test"}
    assert set(split[8:]) == {"train", "val"}


def test_20_000_rows_are_all_placed() -> None:
    images = _patients(2000, frames=10, planes=24)
    assert assign_splits(images, SplitConfig()).notna().all()


def test_barcelona_keeps_its_patients_together_and_its_planes_in_balance(shared_data: Path) -> None:
    table = find_known_table(shared_data / "barcelona")
    assert table is not None
    records = read_records(table, RecordsConfig(), PlaneTable()).records
    images = _placed(
        _images([{"patient_id": record.patient, "plane": record.plane} for record in records])
    )
    check_splits(images)
    counts = split_counts(images).drop(index="patients")
    assert (counts.loc["other"] > 0).all()
    assert (
        np.abs(counts.div(counts.sum(axis=1), axis=0).drop(index="other") - [0.7, 0.1, 0.2])
        .to_numpy()
        .max()
        < 0.04
    )


def test_every_center_has_its_share_of_every_split() -> None:
    rows = [
        {
            "source_id": f"s{patient}-{n}",
            "frame": 0,
            "status": "accepted",
            "plane": "femur",
            "image_id": f"{patient}-{n}",
        }
        | {"patient_id": f"w{patient}", "center": "AB"[patient % 2]}
        for patient in range(24)
        for n in range(6)
    ]
    images = from_rows(IMAGES, rows)
    for seed in range(5):
        images["split"] = assign_splits(images, SplitConfig(seed=seed))
        shares = images.groupby("center")["split"].value_counts(normalize=True)
        assert all(abs(shares[center, "train"] - 0.7) < 0.15 for center in "AB")
        assert all(shares[center, "test"] > 0 for center in "AB")


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(SonoError, match="5 folds of 3 patients"):
        fold_splits(_patients(3), folds=5, fold=0, seed=0)


@pytest.mark.parametrize(
    ("patients", "settings", "empty"),
    [
        (1, "", "val and test"),
        (2, "", "val"),
        (3, "", ""),
        (2, "train = 0.8\nval = 0\ntest = 0.2", ""),
        (2, 'column = "Train"', ""),
    ],
)
def test_an_empty_split_is_reported_with_what_to_do(
    tmp_path: Path, patients: int, settings: str, empty: str
) -> None:
    study = Workspace.create(tmp_path / "study")
    study.config_path.write_text(f"{study.config_path.read_text()}\n[splits]\n{settings}\n")
    names = ["train", "test", "test"][:patients]
    images = _patients(patients).assign(partition=np.repeat(names, 4))
    study.write(IMAGES, images.assign(reasons=[[]] * len(images)))
    fill_vault(study)
    found = [split_workspace(study, None, 0, None), checked_splits(study)]
    if not empty:
        assert not any("warning" in one for one in found)
        return
    for one in found:
        assert one["warning"].startswith(
            f"no frame is in {empty}, because the study has only {patients} group"
        )
        assert f"raise {empty} under [splits]" in one["warning"]
        assert "a training keeps its last epoch" in one["warning"]


def test_a_fold_without_val_is_reported(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, _patients(2).assign(reasons=[[]] * 8))
    fill_vault(study)
    assert "no frame is in val" in split_workspace(study, 2, 0, None)["warning"]
