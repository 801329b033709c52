"""The stage: what is proposed for a study, resumed, and left alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import sono.annotation.propose as stage
from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.propose import MaskConfig, propose_masks, propose_one
from sono.annotation.proposers import Box, OutlineProposer, Proposal
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace

PLANES = ("transthalamic", "femur", "four_chamber", None, "transcerebellar")


def make_study(folder: Path) -> Workspace:
    """Five drawn frames of several planes, and a rejected one."""
    workspace = Workspace.create(folder / "study")
    rows: list[dict[str, Any]] = []
    for number, plane in enumerate(PLANES):
        frame = np.random.default_rng(number).integers(5, 60, (90, 120)).astype(np.uint8)
        cv2.ellipse(frame, (60, 45), (38, 30 - number), 5, 0, 360, 230, 4)
        file = frame_file(f"{number:016x}", frame)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(frame))
        rows.append(
            {
                "image_id": f"{number:016x}",
                "source_id": f"s{number}",
                "frame": 0,
                "status": "accepted",
                "plane": plane,
                "height": 90,
                "width": 120,
                "file": file,
            }
        )
    rows.append(
        {**rows[0], "image_id": "f" * 16, "source_id": "s9", "status": "rejected", "file": None}
    )
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    return workspace


def rows_in_order(workspace: Workspace) -> list[dict[str, object]]:
    """The masks table on the disk, without the mark of its study, which differs between studies."""
    rows: list[dict[str, object]] = pq.read_table(workspace.root / "masks.parquet").to_pylist()
    return rows


def test_accepted_frames_of_known_planes_get_their_outline(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    summary = propose_masks(workspace)
    masks = workspace.masks()
    assert summary.structures == {"femur": 1, "fetal head": 3}
    assert set(masks["image_id"]) == {f"{number:016x}" for number in (0, 1, 3, 4)}
    assert (masks["state"] == "proposed").all()
    assert set(masks["source"]) == {"heuristic"}
    assert masks[["score", "stability"]].stack().between(0, 1).all()


def test_a_structure_without_a_plane_is_marked_and_made_again_when_the_plane_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_study(tmp_path)
    summary = propose_masks(workspace)
    warned = f"warning: 1 of {summary.proposed} proposals are guesses, because the plane"
    assert warned in capsys.readouterr().err
    masks = workspace.masks().set_index("image_id")
    assert summary.by_best_guess == 1
    guessed = json.loads(masks.loc[f"{3:016x}", "prompt"])
    assert guessed["type"] == "hypothesis" and 1 / 3 < guessed["share"] <= 1
    assert masks["prompt"].notna().sum() == 1
    rows = rows_of(workspace.read(IMAGES))
    rows[3]["plane"] = "femur"
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    summary = propose_masks(workspace)
    assert (summary.already_in_table, summary.proposed, summary.by_best_guess) == (3, 1, 0)
    assert "guesses" not in capsys.readouterr().err
    again = workspace.masks()
    assert again[again["image_id"] == f"{3:016x}"]["structure"].tolist() == ["femur"]
    rows[3]["plane"] = "four_chamber"  # of which no outline is known
    workspace.write(MASKS, masks.reset_index())
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    assert propose_masks(workspace).proposed == 0
    assert f"{3:016x}" not in set(workspace.masks()["image_id"])


def test_a_guess_that_a_person_has_accepted_stays(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    propose_masks(workspace)
    workspace.write(MASKS, workspace.masks().assign(state="accepted"))
    rows = [row | {"plane": "four_chamber"} for row in rows_of(workspace.read(IMAGES))]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    propose_masks(workspace)
    assert len(workspace.masks()) == 4


def test_nothing_proposed_says_why_and_what_to_do(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    rows = [row | {"plane": "four_chamber"} for row in rows_of(workspace.read(IMAGES))]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    with pytest.raises(SonoError, match=r"nothing was proposed for 5 frames \(four_chamber 5\)"):
        propose_masks(workspace).refuse_nothing()


def test_a_second_run_finds_nothing_to_do(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    propose_masks(workspace)
    before = rows_in_order(workspace)
    summary = propose_masks(workspace)
    assert (summary.already_in_table, summary.proposed) == (4, 0)
    assert rows_in_order(workspace) == before


def test_the_size_of_batches_does_not_show(tmp_path: Path) -> None:
    one, two = make_study(tmp_path / "one"), make_study(tmp_path / "two")
    propose_masks(one, engine=Engine(batch_size=1))
    propose_masks(two, engine=Engine(batch_size=5))
    assert rows_in_order(one) == rows_in_order(two)


def test_a_plane_of_the_study_gets_the_outline_that_its_planes_file_names(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    rows = rows_of(workspace.read(IMAGES))
    rows[0]["plane"], rows[2]["plane"] = "wide_head", "thigh"
    (workspace.root / "planes.toml").write_text(
        '[wide_head]\nregion = "head"\noutline = "fetal head"\n'
        '[thigh]\nregion = "lower limb"\nstructures = ["femur"]\n'
    )
    text = workspace.config_path.read_text()
    workspace.config_path.write_text(
        text.replace("[study]", '[study]\nplanes_file = "planes.toml"')
    )
    workspace = Workspace(workspace.root)
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    summary = propose_masks(workspace)
    assert summary.structures == {"femur": 1, "fetal head": 3}
    assert summary.passed_over == {"thigh": 1}
    assert summary.model_hash != OutlineProposer().model_hash
    build = build_captions(workspace)
    assert build.refused == 0
    heads = workspace.captions().query("image_id == '0000000000000000' and level == 'region'")
    assert heads["text"].tolist() == [
        "The fetal head in a fetal ultrasound image of the wide head plane."
    ]


def test_a_killed_run_loses_only_the_batch_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean, killed = make_study(tmp_path / "clean"), make_study(tmp_path / "killed")
    propose_masks(clean)
    seen: list[str] = []

    def dies_at_the_third(
        proposer: OutlineProposer, root: Path, job: stage.Job
    ) -> list[dict[str, object]]:
        seen.append(job.image["image_id"])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return propose_one(proposer, root, job)

    monkeypatch.setattr(stage, "propose_one", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        propose_masks(killed, engine=Engine(batch_size=1))
    monkeypatch.setattr(stage, "propose_one", propose_one)
    assert propose_masks(killed).already_in_table == 2
    assert rows_in_order(killed) == rows_in_order(clean)
    assert not (killed.root / ".parts-masks").exists()


def test_reviewed_masks_stay(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    propose_masks(workspace)
    masks = workspace.masks()
    masks["state"] = "rejected"
    masks["model_hash"] = "an older version"
    workspace.write(MASKS, masks)
    propose_masks(workspace)
    assert workspace.masks()["state"].tolist() == ["rejected"] * 4


def test_doubtful_proposals_are_left_out_when_asked(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    workspace.config_path.write_text("[masks]\nmin_score = 1.0\n")
    assert propose_masks(workspace).proposed == 0


class Boxes:
    """Proposes what it is prompted with."""

    source = "sam"
    model_hash = "b" * 16

    def propose(
        self, gray: np.ndarray, plane: str | None, region: str | None, boxes: Sequence[Box]
    ) -> list[Proposal]:
        masks = []
        for box in boxes:
            mask = np.zeros(gray.shape, np.bool_)
            mask[box.y0 : box.y1, box.x0 : box.x1] = True
            masks.append(Proposal(box.structure, mask, 0.5, 0.5, "{}"))
        return masks


def test_a_promptable_model_gets_reviewed_boxes_before_proposed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_study(tmp_path)
    propose_masks(workspace)
    mask = np.zeros((90, 120), np.bool_)
    mask[20:30, 40:60] = True
    image = {"image_id": f"{0:016x}", "height": 90, "width": 120}
    drawn = mask_table([mask_row(image, mask, "thalami", "import", state="accepted")])
    workspace.write(MASKS, stage.replace_masks(workspace.masks(), drawn))
    monkeypatch.setattr(stage, "make_proposer", lambda *given: Boxes())
    propose_masks(workspace, tmp_path / "sam.pth")
    masks = workspace.masks()
    own = masks[masks["source"] == "sam"].set_index("image_id")
    assert own["structure"].to_dict() == {
        f"{0:016x}": "thalami",
        f"{1:016x}": "femur",
        f"{3:016x}": "fetal head",
        f"{4:016x}": "fetal head",
    }
    assert own.loc[f"{0:016x}", "area"] == 200


def test_a_lost_frame_says_what_to_do(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    next(workspace.root.glob(f"frames/00/{0:016x}-*.png")).unlink()
    with pytest.raises(SonoError, match="sono qc"):
        propose_masks(workspace)


def test_the_settings_refuse_a_score_above_one() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        MaskConfig(min_score=2)
