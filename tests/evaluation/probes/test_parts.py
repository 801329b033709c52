"""How frames are divided: no patient on two sides, no empty side."""

import numpy as np
import pandas as pd
import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, from_rows
from sono.evaluation.probes.parts import Protocol, parts_of, rows_tested


def images(**columns: list[object]) -> pd.DataFrame:
    """24 frames of 12 patients, two each; centers A and B, and the splits of `sono split`."""
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 8
    rows = [
        {
            "image_id": f"{number:016x}",
            "source_id": f"s{number}",
            "frame": 0,
            "patient_id": f"p{number // 2}",
            "center": "AB"[number // 2 % 2],
            "split": splits[number],
            "status": "accepted",
        }
        | {name: values[number] for name, values in columns.items()}
        for number in range(24)
    ]
    return from_rows(IMAGES, rows)


def patients(table: pd.DataFrame, rows: np.ndarray) -> set[str]:
    return set(table["patient_id"].iloc[rows])


def test_the_splits_of_the_study_are_the_default() -> None:
    (part,) = parts_of(images(), images(), Protocol())
    assert [len(rows) for rows in (part.train, part.val, part.test)] == [12, 4, 8]
    assert part.pool.tolist() == list(range(16))


def test_folds_test_every_patient_once_and_never_train_on_them() -> None:
    table = images()
    parts = parts_of(table, table, Protocol(folds=4))
    assert sorted(np.concatenate([part.test for part in parts])) == list(range(24))
    assert rows_tested(parts).tolist() == list(range(24))
    for part in parts:
        sides = [patients(table, rows) for rows in (part.train, part.val, part.test)]
        assert all(sides) and sum(map(len, sides)) == len(set.union(*sides))


def test_a_held_out_center_takes_its_patients_out_of_the_others() -> None:
    table = images()
    # patient p1 of center B was examined in A, too
    table.loc[0, "patient_id"] = "p1"
    frames = table.iloc[::-1]
    (part,) = parts_of(table, frames, Protocol(center="B"))
    assert set(frames["center"].iloc[part.test]) == {"B"} and len(part.test) == 12
    assert set(frames["center"].iloc[part.pool]) == {"A"}
    assert not patients(frames, part.test) & patients(frames, part.pool)


@pytest.mark.parametrize(
    ("protocol", "kept", "words"),
    [
        (Protocol(), slice(0, 16), "split test: no frame to probe is in 'test'; give --folds 5"),
        (Protocol(center="B"), slice(2, 4), "center B, fitted on others: no frame .* in 'train'"),
        (Protocol(folds=3), slice(0, 2), "3 folds by patient: no frame to probe is in"),
    ],
)
def test_an_empty_side_is_an_error(protocol: Protocol, kept: slice, words: str) -> None:
    with pytest.raises(SonoError, match=words):
        parts_of(images(), images().iloc[kept], protocol)


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(SonoError, match="13 folds of 12 patients"):
        parts_of(images(), images(), Protocol(folds=13))


def test_one_patient_cannot_be_divided() -> None:
    table = images(patient_id=["p1"] * 24)
    with pytest.raises(SonoError, match=r"2 folds of 1 patients .*: one cannot be split"):
        parts_of(table, table, Protocol(folds=2))


def test_frames_that_may_be_of_the_held_out_center_are_not_fitted_on() -> None:
    centers: list[object] = ["AB"[number // 2 % 2] for number in range(24)]
    centers[0] = None  # of p0
    centers[4] = "Hospital B"  # of p2
    table = images(center=centers)
    protocol = Protocol(center="b").spelled_as_in(table)
    assert protocol.name == "B" and Protocol(folds=3).spelled_as_in(table) == Protocol(folds=3)
    (part,) = parts_of(table, table, protocol)
    assert set(table["center"].iloc[part.test]) == {"B"} and len(part.test) == 12
    # frame 1 is of the patient of frame 0, of whom nothing says a center; frame 5 of that of 4
    assert not {0, 4, 5} & set(part.pool.tolist()) and 1 in part.pool
