"""Sizes and ages from predicted masks on frames whose bones have known lengths."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sono.annotation.growth import STANDARDS
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.proposers import Box, Proposal
from sono.curation.clinical.dating import days_from_size
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.evaluation.probes.biometry import measure_biometry
from sono.evaluation.probes.parts import Protocol
from sono.evaluation.probes.probe import probe
from sono.evaluation.probes.study import Probe, ProbeOptions, open_probe
from sono.evaluation.selection import Seen

SPACING = 2.0


def bone(pixels: int) -> np.ndarray:
    mask = np.zeros((20, 24), np.bool_)
    mask[9:12, 2 : 2 + pixels] = True
    return mask


@pytest.fixture
def bones(probed: Workspace) -> Workspace:
    """Every femur has an accepted bone of 10 to 19 pixels of 2 mm, by its patient."""
    images = probed.images()
    images["row_spacing_mm"] = images["col_spacing_mm"] = SPACING
    probed.write(IMAGES, images)
    masks = [
        mask_row(row, bone(length_of(row)), "femur", "manual", state="accepted")
        for row in rows_of(images)
        if row["plane"] == "femur"
    ]
    probed.write(MASKS, mask_table(masks))
    return probed


def length_of(row: dict[str, object]) -> int:
    return 10 + int(str(row["patient_id"])[1:]) % 10


class Longer:
    """Proposes a bone of two pixels more than the accepted one; nothing for the patients given."""

    source = "heuristic"
    model_hash = None

    def __init__(self, probe: Probe, nothing: Sequence[str] = ()) -> None:
        self.left = [
            None if row["patient_id"] in nothing else length_of(row) + 2
            for row in rows_of(probe.frames.iloc[probe.parts[0].test])
        ]

    def propose(
        self, gray: np.ndarray, plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        assert plane == "femur" and not boxes  # no mask of a person is shown
        length = self.left.pop(0)
        if length is None:
            return []
        return [
            Proposal("femur", bone(length), 0.9, 1.0),
            Proposal("femur", bone(20), 0.1, 1.0),
            Proposal("fetal head", bone(20), 1.0, 1.0),
        ]


def measured(bones: Workspace, nothing: Sequence[str] = ()) -> dict[str, object]:
    study = open_probe(bones, ProbeOptions("biometry"))
    study.subject.proposers["outlines"] = Longer(study, nothing)
    return measure_biometry(study).metrics


def test_tested_frames_that_a_segmenter_has_seen_are_stated_first(bones: Workspace) -> None:
    study = open_probe(bones, ProbeOptions("biometry"))
    seen = frozenset(study.frames.iloc[study.parts[0].test[:1]]["image_id"])
    known = replace(study.subject, seen=Seen(image_ids=seen))
    line = replace(study, subject=known).first_line
    assert "OF THE TESTED FRAMES WERE IN THE TRAINING OF THE SEGMENTER" in line
    assert "SEGMENTER" not in study.first_line


def test_the_errors_of_predicted_masks_are_those_of_their_lengths(bones: Workspace) -> None:
    metrics = measured(bones)
    found = metrics["sizes"]["fl"]["outlines"]
    assert found["images"] == 8 and found["clusters"] == 8
    assert found["bias"]["point"] == found["mae"]["point"] == pytest.approx(2 * SPACING)
    assert found["sd"] == pytest.approx(0, abs=1e-6)
    truth = np.array([SPACING * (10 + number % 10) for number in range(22, 30)])
    share = metrics["percent"]["fl"]["outlines"]["bias"]["point"]
    assert share == pytest.approx(np.mean(100 * 2 * SPACING / truth))
    assert metrics["not_measured"]["fl"]["outlines"] == {"share": 0.0, "images": 8}


def test_the_median_is_of_the_frames_to_fit_on_and_the_standard_of_the_age(
    bones: Workspace,
) -> None:
    metrics = measured(bones)
    truth = np.array([SPACING * (10 + number % 10) for number in range(22, 30)])
    pool = np.median([SPACING * (10 + number % 10) for number in range(22)])
    rows = metrics["sizes"]["fl"]
    assert rows["median"]["bias"]["point"] == pytest.approx(np.mean(pool - truth))
    days = np.array([140 + number % 5 for number in range(22, 30)])
    wanted = np.array([STANDARDS["fl"][0](day / 7) for day in days])
    assert rows["growth"]["bias"]["point"] == pytest.approx(np.mean(wanted - truth))
    assert set(rows) == {
        name + group
        for name in ("outlines", "median", "growth")
        for group in ("", ", 14 to 27 weeks")
    }
    gain = metrics["gains"]["fl"]["outlines_minus_median"]["mae"]["point"]
    assert gain == pytest.approx(2 * SPACING - np.mean(np.abs(pool - truth)))


def test_frames_without_a_mask_are_counted_not_scored(bones: Workspace) -> None:
    metrics = measured(bones, nothing=("p22", "p23"))
    assert metrics["not_measured"]["fl"]["outlines"]["share"] == 0.25
    assert metrics["sizes"]["fl"]["outlines"]["images"] == 6
    assert metrics["sizes"]["fl"]["median"]["images"] == 8


def test_ages_by_formula_are_held_against_recorded_ones(bones: Workspace) -> None:
    metrics = measured(bones)
    truth = np.array([140 + number % 5 for number in range(22, 30)])
    days = [days_from_size("fl", SPACING * (12 + number % 10)) for number in range(22, 30)]
    kept = [(day, age) for day, age in zip(days, truth, strict=True) if day is not None]
    found = metrics["ages"]["outlines"]
    assert found["images"] == len(kept) == 8
    assert found["bias"]["point"] == pytest.approx(np.mean([day - age for day, age in kept]))
    assert metrics["ages"]["accepted_masks"]["images"] == 8


def test_ages_from_sizes_confirm_nothing(bones: Workspace) -> None:
    images = bones.images()
    images["ga_source"] = "hc"
    bones.write(IMAGES, images)
    metrics = measured(bones)
    assert metrics["ages"] == {} and "growth" not in metrics["sizes"]["fl"]


def test_recorded_sizes_are_a_second_truth_also_without_masks(bones: Workspace) -> None:
    images = bones.images()
    images["fl_mm"] = np.where(images["plane"] == "femur", 30.0, np.nan)
    bones.write(IMAGES, images)
    metrics = measured(bones)
    truth = np.array([SPACING * (10 + number % 10) for number in range(22, 30)])
    rows = metrics["sizes"]["fl_of_record"]
    assert rows["accepted_masks"]["bias"]["point"] == pytest.approx(np.mean(truth - 30))
    assert rows["outlines"]["bias"]["point"] == pytest.approx(np.mean(truth + 4 - 30))
    bones.write(MASKS, bones.masks().iloc[:0])
    assert set(measured(bones)["sizes"]) == {"fl_of_record"}


def test_the_report_is_of_the_proposer_and_needs_no_validation_frames(bones: Workspace) -> None:
    """The frames show noise alone, so the weight-free proposer finds no bone to measure."""
    images = bones.images()
    images.loc[images["split"] == "val", "split"] = "train"
    bones.write(IMAGES, images)
    result = probe(bones, ProbeOptions("biometry"))
    assert result.folder == bones.runs / "weight-free proposer" / "probe" / "biometry" / "test"
    assert result.title.startswith("biometry from masks of the weight-free proposer; split test")
    table = pd.read_csv(result.folder / "tables" / "not_measured.csv").set_index(
        ["measure", "masks"]
    )
    assert table.loc[("fl", "outlines"), "percent"] == 100
    assert "FL: growth" in result.found.sentences[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"run": "clip"}, "biometry is measured on masks without an encoder"),
        ({"mask": "own"}, "biometry is measured on masks without an encoder"),
        ({"protocol": Protocol("Z")}, "unknown center 'Z'"),
        ({"segmenter": Path("gone")}, "no such file; give a run of `sono masks train`"),
    ],
)
def test_bad_options_are_one_clear_line(
    bones: Workspace, options: dict[str, object], words: str
) -> None:
    with pytest.raises(SonoError, match=words):
        open_probe(bones, ProbeOptions("biometry", **options))


def test_nothing_measurable_is_an_error(bones: Workspace) -> None:
    images = bones.images()
    images["row_spacing_mm"] = np.nan
    bones.write(IMAGES, images)
    with pytest.raises(SonoError, match="30 without a pixel spacing"):
        open_probe(bones, ProbeOptions("biometry"))
