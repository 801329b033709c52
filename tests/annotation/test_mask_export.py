"""COCO JSON of the stored frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from studies import fill_vault

from sono.annotation.mask_export import export_coco
from sono.annotation.masks import mask_row, mask_table
from sono.curation.tables import IMAGES, MASKS, from_rows
from sono.curation.workspace import Workspace


def make_study(folder: Path) -> Workspace:
    workspace = Workspace.create(folder / "study")
    rows = [
        {"image_id": name * 16, "source_id": name, "frame": 0, "status": status, "height": 20, "width": 30,
         "file": f"frames/{name}/{name * 16}.png"}
        for name, status in (("b", "accepted"), ("a", "accepted"), ("c", "rejected"))
    ]  # fmt: skip
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    mask = np.zeros((20, 30), np.bool_)
    mask[3:9, 5:25] = True
    masks = [
        mask_row(rows[0], mask, "fetal head", "import", state="accepted"),
        mask_row(rows[0], mask, "femur", "heuristic", score=0.25),
        mask_row(rows[1], mask, "femur", "heuristic", state="rejected"),
    ]
    workspace.write(MASKS, mask_table(masks))
    return workspace


def test_frames_and_masks_that_were_not_rejected_are_written(tmp_path: Path) -> None:
    summary = export_coco(make_study(tmp_path), tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (summary.images, summary.masks) == (2, 2)
    assert [image["file_name"] for image in content["images"]] == [f"frames/{n}/{n * 16}.png" for n in "ab"]
    assert [category["name"] for category in content["categories"]] == ["femur", "fetal head"]
    assert [each["attributes"]["score"] for each in content["annotations"]] == [0.25, None]
    assert {each["image_id"] for each in content["annotations"]} == {2}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside pycocotools
def test_pycocotools_reads_the_same_areas(tmp_path: Path) -> None:
    export_coco(make_study(tmp_path), tmp_path / "out.json")
    coco = COCO(tmp_path / "out.json")
    assert [int(coco.annToMask(each).sum()) for each in coco.loadAnns(coco.getAnnIds())] == [120, 120]


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    first, second = (export_coco(workspace, tmp_path / name).path for name in ("one.json", "two.json"))
    assert first.read_bytes() == second.read_bytes()
