"""COCO JSON of the stored frames."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from studies import fill_vault

from sono.annotation.export_masks import ExportOptions, export_masks
from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.proposers import Prompt
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.tables import IMAGES, MASKS, from_rows, read_table, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dedup import run_dedup
from sono.curation.qc_messages import orphaned_masks_remark


def make_study(folder: Path) -> Workspace:
    workspace = Workspace.create(folder / "study")
    rows = [
        {
            "image_id": name * 16,
            "source_id": name,
            "frame": 0,
            "status": status,
            "height": 20,
            "width": 30,
            "file": f"frames/{name}/{name * 16}.png",
        }
        for name, status in (("b", "accepted"), ("a", "accepted"), ("c", "rejected"))
    ]
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
    summary = export_masks(make_study(tmp_path), tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert (summary.images, summary.masks) == (2, 2)
    assert [image["file_name"] for image in content["images"]] == [
        f"frames/{n}/{n * 16}.png" for n in "ab"
    ]
    assert [category["name"] for category in content["categories"]] == ["femur", "fetal head"]
    assert [each["attributes"]["score"] for each in content["annotations"]] == [0.25, None]
    assert {each["image_id"] for each in content["annotations"]} == {2}


# inside pycocotools
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_same_areas(tmp_path: Path) -> None:
    export_masks(make_study(tmp_path), tmp_path / "out.json")
    coco = COCO(tmp_path / "out.json")
    assert [int(coco.annToMask(each).sum()) for each in coco.loadAnns(coco.getAnnIds())] == [
        120,
        120,
    ]


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    first, second = (
        export_masks(workspace, tmp_path / name).path for name in ("one.json", "two.json")
    )
    assert first.read_bytes() == second.read_bytes()


def whole_study(folder: Path) -> Workspace:
    """Two frames named as by `sono qc`, with a reviewed, an imported and a proposed mask."""
    workspace = Workspace.create(folder / "study")
    rows = [
        {
            "image_id": name * 16,
            "source_id": name,
            "frame": 0,
            "status": "accepted",
            "height": 20,
            "width": 30,
            "source_height": 24,
            "source_width": 36,
            "file": f"frames/{name * 2}/{name * 16}-0123abcd.png",
        }
        for name in "ab"
    ]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    mask = np.zeros((20, 30), np.bool_)
    mask[3:9, 5:25] = True
    prompt = Prompt("femur", box=(5, 3, 25, 9)).as_json()
    kept = {"model_hash": "c" * 16, "prompt": prompt, "score": 0.25, "stability": 0.5}
    masks = [
        mask_row(rows[0], mask, "fetal head", "import", state="accepted"),
        mask_row(rows[0], mask, "femur", "heuristic", **kept),
        mask_row(rows[1], mask, "femur", "sam", state="edited"),
        mask_row(rows[1], np.ones((20, 30), np.bool_), "fetal head", "heuristic"),
        mask_row(rows[1], mask, "thalami", "box", state="accepted"),
    ]
    workspace.write(MASKS, mask_table(masks))
    return workspace


@pytest.mark.parametrize("emptied", [True, False])
def test_exported_masks_come_back_as_they_were(tmp_path: Path, emptied: bool) -> None:
    workspace = whole_study(tmp_path)
    before = workspace.masks()
    export_masks(workspace, tmp_path / "out.json")
    if emptied:
        (workspace.root / "masks.parquet").unlink()
    summary = import_masks(workspace, tmp_path / "out.json")
    assert (summary.imported, summary.known, summary.refused) == (5, 0 if emptied else 5, {})
    assert summary.evidence == {"image id": 5}
    pd.testing.assert_frame_equal(workspace.masks(), before)


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        change(annotation)
    path.write_text(json.dumps(content))
    return path


def test_a_tool_that_drops_attributes_does_not_accept_proposals(tmp_path: Path) -> None:
    workspace = whole_study(tmp_path)
    before = workspace.masks()
    path = export_masks(workspace, tmp_path / "out.json").path
    summary = import_masks(
        workspace, changed(path, lambda one: one.pop("attributes")), ImportOptions(force=True)
    )
    assert (summary.imported, summary.known) == (5, 5)
    pd.testing.assert_frame_equal(workspace.masks(), before)


@pytest.mark.parametrize(("moved", "state"), [(0, "proposed"), (0.4, "proposed"), (6, "edited")])
def test_a_proposal_that_comes_back_in_another_shape_is_edited(
    tmp_path: Path, moved: float, state: str
) -> None:
    workspace = whole_study(tmp_path)
    path = export_masks(workspace, tmp_path / "out.json").path
    ring = [5 + moved, 3, 25 + moved, 3, 25 + moved, 9, 5 + moved, 9]
    import_masks(workspace, changed(path, lambda one: one.update(segmentation=[ring])))
    masks = workspace.masks()
    own = masks[(masks["source"] == "heuristic") & (masks["structure"] == "femur")]
    assert set(own["state"]) == {state}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_hash", "Jane Doe"),
        ("prompt", "Jane Doe"),
        ("prompt", '{"x": "Jane Doe"}'),
        ("prompt", '{"type": "box", "xyxy": [1, 2, 3, "Jane Doe"]}'),
        ("prompt", '{"type": "point", "xy": [1, 2], "of": "Jane Doe"}'),
        ("prompt", "[" * 900),
        ("score", float("inf")),
        ("score", 10**400),
        ("stability", "high"),
        ("reviewer", "Jane\nDoe"),
        ("reviewer", "Jane Doe " * 9),
        ("reviewed_at", "1990-01-02"),
    ],
)
def test_only_what_sono_writes_comes_back_with_a_mask(
    tmp_path: Path, name: str, value: Any
) -> None:
    workspace = whole_study(tmp_path)
    path = export_masks(workspace, tmp_path / "out.json").path
    (workspace.root / "masks.parquet").unlink()
    changed(path, lambda one: one["attributes"].update({name: value}))
    summary = import_masks(workspace, path)
    assert summary.imported == 5 and workspace.masks()[name].isna().all()
    assert any(f"not as sono writes them: {name} 5" in remark for remark in summary.remarks)


def test_a_private_reviewer_of_a_file_leaves_nothing(tmp_path: Path) -> None:
    workspace = whole_study(tmp_path)
    path = export_masks(workspace, tmp_path / "out.json").path
    before = workspace.path(MASKS).read_bytes()
    sources = read_table(workspace.sources_path, SOURCES)
    for name in ("private", "persons"):
        sources[name] = [["Zoe Quillfeather"]] * len(sources)
    write_table(workspace.sources_path, sources, SOURCES)
    changed(path, lambda one: one["attributes"].update(reviewer="Quillfeather", state="accepted"))
    with pytest.raises(PrivacyError, match=r"out\.json: 1 private string"):
        import_masks(workspace, path)
    assert workspace.path(MASKS).read_bytes() == before


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        "text",
        {"state": "accepted"},
        {"state": "fine", "source": "sam"},
        {"state": "proposed", "source": "me"},
    ],
)
def test_attributes_that_are_not_ours_do_not_count(tmp_path: Path, attributes: Any) -> None:
    workspace = whole_study(tmp_path)
    path = export_masks(workspace, tmp_path / "out.json").path
    (workspace.root / "masks.parquet").unlink()
    changed(path, lambda one: one.update(attributes=attributes))
    summary = import_masks(workspace, path)
    assert summary.states == {"accepted": 4}
    assert summary.sources == {"import": 4}
    assert summary.refused == {"inverted": 1}


@pytest.mark.parametrize("moved", [0.4, 1, 6])
def test_a_proposal_redrawn_without_attributes_stays_one_unless_it_was_edited(
    tmp_path: Path, moved: float
) -> None:
    workspace = whole_study(tmp_path)
    before = workspace.masks()
    path = export_masks(workspace, tmp_path / "out.json").path
    content = json.loads(path.read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    content["annotations"] = [
        one for one in content["annotations"] if names[one["category_id"]] == "femur"
    ]
    path.write_text(json.dumps(content))
    ring = [5 + moved, 3, 25 + moved, 3, 25 + moved, 9, 5 + moved, 9]
    import_masks(
        workspace,
        changed(path, lambda one: one.pop("attributes") and one.update(segmentation=[ring])),
    )
    if moved < 6:
        pd.testing.assert_frame_equal(workspace.masks(), before)
    else:
        new = workspace.masks()[lambda table: ~table["mask_id"].isin(before["mask_id"])]
        assert (list(new["state"]), list(new["source"])) == (["accepted"] * 2, ["import"] * 2)


def test_a_folder_is_no_place_for_one_file(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"a folder, but coco is one file; name it, as in .*json"):
        export_masks(make_study(tmp_path), tmp_path)


def test_a_study_whose_masks_all_lost_their_frames_can_be_used(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    images = workspace.read(IMAGES)
    images["image_id"] = images["image_id"].str.replace("a", "d").str.replace("b", "e")
    images["file"] = [f"frames/{name[0]}/{name}.png" for name in images["image_id"]]
    workspace.write(IMAGES, images)
    fill_vault(workspace)
    assert (
        "3 masks are not used, because the files"
        in orphaned_masks_remark(workspace.masks(), images)[0]
    )
    assert orphaned_masks_remark(workspace.masks()[:0], images) == []
    with pytest.raises(SonoError, match="no masks yet"):
        export_masks(workspace, tmp_path / "out.json")


@pytest.mark.parametrize(
    "name", ["images.parquet", "sono.toml", "frames/new.json", "../study.vault/sources.parquet"]
)
def test_no_export_takes_the_place_of_a_file_of_the_study(tmp_path: Path, name: str) -> None:
    workspace = make_study(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SonoError, match="of the study itself"):
        export_masks(workspace, workspace.root / name)
    with pytest.raises(SonoError, match="of the study itself"):
        run_dedup(workspace, csv=workspace.root / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_only_an_earlier_export_is_overwritten(tmp_path: Path) -> None:
    workspace, out = make_study(tmp_path), tmp_path / "out.json"
    first = export_masks(workspace, out).path.read_bytes()
    assert export_masks(workspace, out).path.read_bytes() == first
    out.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(SonoError, match=r"out\.json: exists and is not an earlier output"):
        export_masks(workspace, out)
    assert out.read_text().startswith('{"images"')


@pytest.mark.parametrize("name", ["csv", "sheet"])
def test_a_list_of_duplicates_overwrites_no_file_of_another_kind(tmp_path: Path, name: str) -> None:
    workspace, out = make_study(tmp_path), tmp_path / "out"
    for _ in range(2 * (name == "csv")):  # a study without duplicates has no sheet
        run_dedup(workspace, **{name: out})
    out.write_text("patient,plane\n1,femur\n")
    with pytest.raises(SonoError, match="exists and is not an earlier output"):
        run_dedup(workspace, **{name: out})
    assert out.read_text() == "patient,plane\n1,femur\n"


def test_proposals_are_counted_and_left_out_on_request(tmp_path: Path) -> None:
    workspace = make_study(tmp_path)
    whole = export_masks(workspace, tmp_path / "whole.json")
    assert whole.states == {"accepted": 1, "proposed": 1}
    assert whole.table()["states"] == {"accepted": 1, "proposed (not reviewed)": 1}
    assert "1 of 2 masks are proposals that nobody has reviewed; --no-proposed" in whole.remarks[0]
    reviewed = export_masks(workspace, tmp_path / "out.json", ExportOptions(proposed=False))
    assert (reviewed.masks, reviewed.states, reviewed.remarks) == (1, {"accepted": 1}, ())
    content = json.loads((tmp_path / "out.json").read_text())
    assert [one["attributes"]["state"] for one in content["annotations"]] == ["accepted"]
    masks = workspace.masks()
    workspace.write(MASKS, masks[masks["state"] == "proposed"])
    with pytest.raises(SonoError, match="none of the 1 masks is reviewed; run `sono masks review"):
        export_masks(workspace, tmp_path / "none.json", ExportOptions(proposed=False))
