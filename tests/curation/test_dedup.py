"""`sono dedup`: pairs, what they cross, their groups, and what is written."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from studies import fill_vault

from sono.curation.core.atomic import write_bytes
from sono.curation.core.engine import Engine
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.tables import DUPLICATES, IMAGES, from_rows
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.split_stage import checked_splits, split_workspace
from sono.curation.dedup import run_dedup
from sono.curation.imaging.perceptual_hash import perceptual_hash
from sono.curation.imaging.sector import find_sector
from sono.curation.qc import QcOptions, run_qc

Gray = NDArray[np.uint8]


def tissue(seed: int) -> Gray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (160, 200)), (0, 0), 6)
    return np.clip(90 + 35 * noise / noise.std(), 1, 255).astype(np.uint8)


def noisy(gray: Gray) -> Gray:
    return np.clip(gray + np.random.default_rng(9).normal(0, 4, gray.shape), 1, 255).astype(
        np.uint8
    )


def study_of(
    root: Path, frames: list[tuple[Gray, dict[str, object]]], stored: bool = True
) -> Workspace:
    """A workspace of accepted frames as `sono qc` leaves it before it searches near duplicates."""
    study = Workspace.create(root / "study")
    rows = []
    for number, (gray, facts) in enumerate(frames):
        image_id, (height, width) = image_id_of(gray), gray.shape
        if stored:
            write_bytes(study.root / frame_file(image_id, gray), encode_png(gray))
        place = {"crop_x0": 0, "crop_y0": 0, "crop_x1": width, "crop_y1": height}
        size = {"height": height, "width": width, "source_height": height, "source_width": width}
        row = {
            "source_id": f"s{number:02}",
            "frame": 0,
            "status": "accepted",
            "reasons": [],
            "image_id": image_id,
        }
        code = perceptual_hash(gray, find_sector(gray))
        rows.append(
            {
                **row,
                **place,
                **size,
                "perceptual_hash": code,
                "file": frame_file(image_id, gray),
                **facts,
            }
        )
    study.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(study)
    return study


def facts(patient: str, split: str, plane: str = "femur", center: str = "A") -> dict[str, object]:
    return {"patient_id": patient, "split": split, "plane": plane, "center": center}


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    return study_of(
        tmp_path,
        [
            (tissue(0), facts("p0", "train")),
            (noisy(tissue(0)), facts("p1", "test", plane="abdomen")),
            (tissue(1), facts("p2", "train")),
            (np.ascontiguousarray(tissue(1)[:, ::-1]), facts("p2", "train", center="B")),
            (tissue(2), facts("p3", "val")),
            (tissue(2), facts("p3", "val")),
            (tissue(3), facts("p4", "train")),
        ],
    )


def test_each_kind_is_found_once_with_what_it_crosses(study: Workspace) -> None:
    summary = run_dedup(study)
    assert summary.pairs == {"exact": 1, "near": 1, "flipped": 1}
    table = study.read(DUPLICATES).set_index("kind")
    assert {kind: list(crossed) for kind, crossed in table["crosses"].items()} == {
        "exact": [],
        "near": ["patient", "plane", "split"],
        "flipped": ["center"],
    }
    assert list(table.loc["near", ["source_id", "other_source_id"]]) == ["s00", "s01"]
    assert table.loc["flipped", "correlation"] > 0.99
    assert summary.crossings["near"] == {"patient": 1, "plane": 1, "center": 0, "split": 1}


def test_a_near_pair_found_later_is_grouped_and_makes_the_split_leak(study: Workspace) -> None:
    checked_splits(study)
    assert run_dedup(study).grouped == 2
    images = study.images().set_index("source_id")
    assert images.loc["s00", "duplicate_group"] == images.loc["s01", "duplicate_group"]
    assert list(images.loc["s00", "reasons"]) == ["near_duplicate"]
    assert images.loc[["s02", "s03"], "duplicate_group"].isna().all()
    with pytest.raises(
        SonoError, match=rf"1 duplicate group is in more .*{images.loc['s00', 'duplicate_group']}"
    ):
        checked_splits(study)
    split_workspace(study, None, 0, None)
    checked_splits(study)
    again = run_dedup(study)
    assert (again.grouped, again.crossings["near"]["split"]) == (0, 0)


def test_strict_refuses_pairs_of_two_patients_or_splits(study: Workspace) -> None:
    with pytest.raises(
        IssuesError, match=r"pairs cross patients \(1\), centers \(1\) or splits \(1\)"
    ):
        run_dedup(study).refuse_findings()


def test_a_csv_and_a_sheet_are_written(study: Workspace, tmp_path: Path) -> None:
    run_dedup(study, tmp_path / "pairs.csv", tmp_path / "pairs.png")
    crosses = pd.read_csv(tmp_path / "pairs.csv").set_index("kind")["crosses"].fillna("").to_dict()
    assert crosses == {"exact": "", "near": "patient plane split", "flipped": "center"}
    sheet = cv2.imdecode(np.fromfile(tmp_path / "pairs.png", np.uint8), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[1] == 4 * (200 + 10) - 10  # two pairs


def test_without_frames_pairs_are_told_but_neither_confirmed_nor_grouped(tmp_path: Path) -> None:
    study = study_of(
        tmp_path, [(tissue(0), facts("p0", "train")), (noisy(tissue(0)), facts("p1", "val"))], False
    )
    summary = run_dedup(study)
    assert (summary.pairs["near"], summary.unconfirmed, summary.grouped) == (1, 1, 0)
    assert any("near by hash only" in remark for remark in summary.remarks())
    with pytest.raises(SonoError, match="nothing to draw"):
        run_dedup(study, sheet=tmp_path / "pairs.png")


def test_unlike_frames_with_near_hashes_are_no_pair(tmp_path: Path) -> None:
    code = perceptual_hash(tissue(0), find_sector(tissue(0)))
    study = study_of(
        tmp_path,
        [(tissue(seed), {**facts("p", "train"), "perceptual_hash": code}) for seed in (5, 6)],
    )
    assert run_dedup(study).pairs == {"exact": 0, "near": 0, "flipped": 0}


def test_real_copies_and_a_real_flip_are_found_among_real_frames(
    shared_data: Path, tmp_path: Path
) -> None:
    full = {path.stem: path for path in (shared_data / "barcelona_head/images").iterdir()}
    both = [
        path for path in sorted((shared_data / "barcelona/Images").iterdir()) if path.stem in full
    ]
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in both:
        (raw / f"{path.stem}-jpeg.jpg").write_bytes(path.read_bytes())
        (raw / f"{path.stem}-png.png").write_bytes(full[path.stem].read_bytes())
    gray = cv2.imdecode(np.fromfile(both[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    (raw / "flip.png").write_bytes(encode_png(np.ascontiguousarray(gray[:, ::-1])))
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(raw), Engine.create(1, None))
    summary = run_dedup(study)
    assert len(both) == 12
    assert summary.pairs["near"] == 12
    assert summary.pairs["flipped"] in {1, 2}  # the flip and its frame, as JPEG or PNG or both
    assert summary.unconfirmed == summary.grouped == 0
