"""Pictures for people."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from studies import fill_vault

from sono.annotation import overlays
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.overlays import SIDE, choose_frames, write_overlays
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace


def make_study(folder: Path, count: int = 3) -> Workspace:
    workspace = Workspace.create(folder / "study")
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 15:45] = True
    rows, masks = [], []
    for number in range(count):
        gray = np.full((40, 60), 90, np.uint8)
        file = frame_file(f"{number:016x}", gray)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(gray))
        rows.append(
            {
                "image_id": f"{number:016x}",
                "source_id": f"s{number}",
                "frame": 0,
                "status": "accepted",
                "height": 40,
                "width": 60,
                "file": file,
            }
        )
        masks.append(mask_row(rows[-1], mask, "femur" if number else "fetal head", "manual"))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    workspace.write(MASKS, mask_table(masks))
    return workspace


def test_structures_take_turns() -> None:
    masks = pd.DataFrame(
        {"image_id": ["a", "b", "c", "z"], "structure": ["femur"] * 3 + ["fetal head"]}
    )
    assert choose_frames(masks, 3) == ["a", "z", "b"]


def test_the_sheet_shows_the_frames_and_is_the_same_every_time(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    first = write_overlays(workspace, tmp_path / "one").sheet
    assert cv2.imdecode(np.fromfile(first, np.uint8), cv2.IMREAD_COLOR).shape[1] >= 3 * SIDE
    assert first.read_bytes() == write_overlays(workspace, tmp_path / "two").sheet.read_bytes()


def test_each_frame_has_its_structures_and_image_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, list[str]]] = []

    def sheet(
        tiles: list[tuple[object, str]], *_: object, structures: list[list[str]] | None = None
    ) -> bytes:
        assert structures is not None
        drawn.extend((text, names) for (_, text), names in zip(tiles, structures, strict=True))
        return b""

    monkeypatch.setattr(overlays, "contact_sheet", sheet)
    write_overlays(make_study(tmp_path), tmp_path)
    assert drawn == [
        ("0000000000000001", ["femur"]),
        ("0000000000000000", ["fetal head"]),
        ("0000000000000002", ["femur"]),
    ]


def test_more_than_a_row_goes_on_below(tmp_path: Path) -> None:
    sheet = write_overlays(make_study(tmp_path, 7), tmp_path, count=7).sheet
    assert cv2.imdecode(np.fromfile(sheet, np.uint8), cv2.IMREAD_COLOR).shape[1] >= 6 * SIDE


def test_a_sheet_of_some_frames_says_how_many_there_are_and_how_to_draw_all(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, 7)
    some = write_overlays(workspace, tmp_path, count=5)
    assert some.frames == 5
    assert some.remarks == ("5 of 7 frames with masks are drawn; --count 7 draws all",)
    assert write_overlays(workspace, tmp_path, count=7).remarks == ()


def test_without_masks_it_says_how_to_make_some(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    (workspace.root / "masks.parquet").unlink()
    with pytest.raises(SonoError, match="masks propose"):
        write_overlays(workspace, tmp_path)
