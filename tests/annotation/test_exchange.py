"""Every format: masks come back as they were, and what a format cannot hold is named."""

import json
import os
import stat
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from exchange_studies import KEPT, STRUCTURES, hard_masks, two_studies
from PIL import Image
from studies import fill_vault
from typer.testing import CliRunner

import sono.cli
from sono.annotation.commands import export as export_command
from sono.annotation.exchange.formats import FORMATS, FormatName
from sono.annotation.exchange.palette import color_of
from sono.annotation.exchange.rings import joined, trace
from sono.annotation.exchange.shapes import draw_polygons
from sono.annotation.export_masks import ExportOptions, export_masks
from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.rle import decode
from sono.curation.core.tables import IMAGES, MASKS
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

EXACT = [name for name, form in FORMATS.items() if form.exact]
POLYGONS = [name for name, form in FORMATS.items() if not form.exact]


def exported(folder: Path, workspace: Workspace, name: str, **options: Any) -> Any:
    return export_masks(workspace, folder / "out", ExportOptions(format=name, **options))


def given(folder: Path, name: str) -> Path:
    """The export with the suffix by which a file is recognized."""
    out = folder / "out"
    suffix = ".xml" if name.startswith("cvat") else ".json"
    return out if out.is_dir() else out.rename(folder / f"masks{suffix}")


def pixels(workspace: Workspace) -> list[np.ndarray]:
    return [decode(row.counts, row.height, row.width) for row in workspace.masks().itertuples()]


@pytest.mark.parametrize("name", EXACT)
def test_raster_formats_give_back_every_bit_and_attribute(tmp_path: Path, name: str) -> None:
    full, empty = two_studies(tmp_path)
    summary = exported(tmp_path, full, name)
    assert (summary.masks, summary.losses) == (8, ())
    back = import_masks(empty, given(tmp_path, name))
    assert (back.imported, back.refused) == (8, {})
    before = full.masks()[full.masks()["state"] != "rejected"].reset_index(drop=True)
    pd.testing.assert_frame_equal(empty.masks(), before)


@pytest.mark.parametrize("name", EXACT)
def test_square_source_pixels_give_back_every_bit(tmp_path: Path, name: str) -> None:
    full, empty = two_studies(tmp_path)
    summary = exported(tmp_path, full, name, coordinates="source")
    import_masks(empty, given(tmp_path, name))
    before = full.masks()[full.masks()["state"] != "rejected"].set_index("mask_id")
    square = before[before["image_id"] != f"{2:016x}"]
    again = empty.masks().set_index("mask_id")
    pd.testing.assert_frame_equal(again.loc[square.index], square)
    assert any("resampled (nearest pixel)" in remark for remark in summary.remarks)
    assert len(again) == len(before)


@pytest.mark.parametrize("name", POLYGONS)
def test_polygons_fill_holes_and_say_so(tmp_path: Path, name: str) -> None:
    full, empty = two_studies(tmp_path)
    summary = exported(tmp_path, full, name)
    (loss,) = summary.losses
    ring = hard_masks()["hole"]
    share = ring.sum() / hard_masks()["ordinary"].sum()
    assert "fetal abdomen" in loss and f"IoU {share:.4f}"[:9] in loss and "1 hole filled" in loss
    back = import_masks(empty, given(tmp_path, name), ImportOptions(force=True))
    assert (back.imported, back.refused) == (8, {})
    shapes = {(mask.tobytes()) for mask in pixels(empty)}
    assert {n for n, mask in hard_masks().items() if mask.tobytes() in shapes} == KEPT
    if FORMATS[name].states:
        assert sorted(empty.masks()["state"]) == sorted(
            state for state in full.masks()["state"] if state != "rejected"
        )
        assert set(empty.masks()["reviewer"].dropna()) == {"Reader Ä <2>"}
    else:
        assert any("2 of 8 masks are proposals" in remark for remark in summary.remarks)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_tables_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    full, _ = two_studies(tmp_path)
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        exported(folder, full, name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        written.append([(path.relative_to(folder), path.read_bytes()) for path in files])
    assert written[0] == written[1] and written[0]


@pytest.mark.parametrize("name", FORMATS)
def test_private_names_lead_back_from_outside_the_workspace_alone(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    full, empty = two_studies(tmp_path)
    options = ExportOptions(format=name, coordinates="source", source_names=True)
    with pytest.raises(SonoError, match="inside the workspace"):
        export_masks(full, full.root / "out", options)
    summary = export_masks(full, tmp_path / "out", options)
    assert summary.private_strings is None
    assert "names raw files" in capsys.readouterr().err
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    texts = b"".join(
        os.fsencode(path) + (path.read_bytes() if path.is_file() else b"")
        for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))
    )
    assert b"P1/IM_1" in texts and b"frames/" not in texts
    back = import_masks(empty, given(tmp_path, name), ImportOptions(force=True))
    assert (back.imported, back.refused) == (8, {})
    assert not any("image id" in evidence for evidence in back.evidence)
    if FORMATS[name].exact:
        before = full.masks().set_index("mask_id")
        square = before[(before["image_id"] != f"{2:016x}") & (before["state"] != "rejected")]
        pd.testing.assert_frame_equal(empty.masks().set_index("mask_id").loc[square.index], square)


def test_private_names_need_the_vault(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    full.vault.rename(tmp_path / "elsewhere")
    with pytest.raises(SonoError, match="vault"):
        exported(tmp_path, full, "coco", source_names=True, no_vault=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.states])
def test_no_format_lets_a_private_reviewer_out(tmp_path: Path, name: str) -> None:
    full, _ = two_studies(tmp_path)
    sources = full.sources()
    sources["private"] = [["Lindqvist"]] * len(sources)
    full.write_vault(full.sources_path, SOURCES, sources)
    masks = full.masks()
    masks["reviewer"] = "Lindqvist"
    full.write(MASKS, masks)
    with pytest.raises(PrivacyError):
        exported(tmp_path, full, name)
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_existing_file_or_folder_is_not_overwritten(tmp_path: Path, name: str) -> None:
    full, _ = two_studies(tmp_path)
    out = tmp_path / "out"
    if FORMATS[name].start is None:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    else:
        out.write_text("mine")
    with pytest.raises(SonoError, match="exists and is not"):
        exported(tmp_path, full, name)
    kept = out / "mine.txt" if out.is_dir() else out
    assert kept.read_text() == "mine"


def test_overlapping_masks_of_pictures_are_in_layers(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    summary = exported(tmp_path, full, "png-indexed")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert any("_layer2" in name for name in files)
    assert any("several pictures" in remark for remark in summary.remarks)
    legend = json.loads((tmp_path / "out/legend.json").read_text())
    for one in legend["masks"]:
        with Image.open(tmp_path / "out" / one["file"]) as picture:
            assert picture.mode == "P" and (np.asarray(picture) == one["value"]).any()


def test_crops_are_shifted_into_the_source_frame(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    exported(tmp_path, full, "coco", coordinates="source")
    content = json.loads((tmp_path / "out").read_text())
    sizes = [(image["height"], image["width"]) for image in content["images"]]
    assert sizes == [(30, 40), (30, 40), (30, 80)]
    names = [image["file_name"] for image in content["images"]]
    assert names == [f"{number:016x}-source.png" for number in range(3)]
    ids = {image["id"] for image in content["images"][:2]}
    for one in content["annotations"]:
        if one["image_id"] in ids:
            mask = decode(one["segmentation"]["counts"], 30, 40)
            stored = full.masks().set_index("mask_id").loc[one["attributes"]["mask_id"]]
            shape = decode(stored["counts"], stored["height"], stored["width"])
            np.testing.assert_array_equal(mask[2:28, 5:35], shape)
            assert mask.sum() == shape.sum()


def test_resampled_masks_name_their_iou(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    images = full.read(IMAGES)
    images.loc[images["image_id"] == f"{2:016x}", ["file_height", "file_width"]] = [23, 40]
    full.write(IMAGES, images)
    fill_vault(full)
    summary = exported(tmp_path, full, "coco", coordinates="source")
    assert summary.losses and all("resampled to the pixels" in loss for loss in summary.losses)
    assert all(0 < float(loss.split("IoU ")[1][:6]) < 1 for loss in summary.losses)


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_any_mask_draw_it_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((23, 31)) < random.uniform(0.1, 0.9)
    mask[0, 0] = False  # alone, it looks like shares of the picture
    outer, holes = trace(mask)
    drawn = np.zeros(mask.shape, np.bool_)
    for ring in outer:
        drawn |= draw_polygons([ring.ravel()], mask.shape)
    for hole in holes:
        inner = draw_polygons([hole.ravel()], mask.shape)
        assert not (inner & mask).all()
    assert not (mask & ~drawn).any()
    areas = sum(area(ring) for ring in outer) - sum(area(hole) for hole in holes)
    assert areas == mask.sum()


def area(ring: np.ndarray) -> float:
    after = np.roll(ring, -1, axis=0)
    return abs(float((ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum()) / 2)


def test_joined_parts_draw_the_same_pixels() -> None:
    mask = hard_masks()["parts"]
    rings, holes = trace(mask)
    assert (len(rings), holes) == (3, [])
    np.testing.assert_array_equal(draw_polygons([joined(rings).ravel()], mask.shape), mask)


def test_colors_of_labels_differ() -> None:
    colors = {color_of(number) for number in range(255)}
    assert len(colors) == 255 and (0, 0, 0) not in colors


def test_the_command_offers_every_format(tmp_path: Path) -> None:
    hints = export_command.__annotations__["format_name"]
    assert get_args(get_args(hints)[0]) == get_args(FormatName) == tuple(FORMATS)
    full, _ = two_studies(tmp_path)
    words = ["masks", "export", str(tmp_path / "out"), "--format", "yolo", "--json"]
    done = CliRunner().invoke(sono.cli.app, [*words, "-w", str(full.root)])
    assert done.exit_code == 0 and "1 hole filled" in json.loads(done.stdout)["losses"][0]
    assert (tmp_path / "out/data.yaml").read_text().count(": ") >= len(set(STRUCTURES.values()))


def test_a_pixel_in_the_corner_is_lost_by_polygons_and_named(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    mask = np.zeros((26, 30), np.bool_)
    mask[0, 0] = True
    row = {"image_id": f"{0:016x}", "height": 26, "width": 30}
    full.write(MASKS, mask_table([mask_row(row, mask, "femur", "import", state="accepted")]))
    (loss,) = exported(tmp_path, full, "coco-polygons").losses
    assert "IoU 0.0000, not read back" in loss


def test_many_losses_are_counted_in_the_terminal_and_listed_in_json(tmp_path: Path) -> None:
    full, _ = two_studies(tmp_path)
    row = {"image_id": f"{0:016x}", "height": 26, "width": 30}
    ring = hard_masks()["hole"]
    rings = [mask_row(row, np.roll(ring, by, 1), "femur", "manual") for by in range(-6, 6)]
    full.write(MASKS, mask_table(rings))
    summary = exported(tmp_path, full, "cvat-polygons")
    assert len(summary.losses) == 12
    shown = summary.table()["losses"]
    assert len(shown) == 11 and shown[-1] == "2 more; --json lists all"
