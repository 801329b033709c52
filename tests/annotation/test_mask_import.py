"""Masks from COCO files and PNG folders find their frames, fit, and are cropped."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mask_studies import BOX, SOURCE, coco_file, drawn, frame_row, make_study, png, stored

from sono.annotation.exchange.mask_pictures import match_color
from sono.annotation.export_masks import export_masks
from sono.annotation.import_options import ImportOptions, parse_pairs, parse_values
from sono.annotation.import_summary import Outcome, _unknown_labels
from sono.annotation.mask_import import import_masks
from sono.annotation.mask_labels import Labels, structure_name
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.outlines import fill_outline
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.rle import encode
from sono.curation.core.tables import MASKS


def runs_of(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *ends, flat.size]).tolist()


@pytest.mark.parametrize("kind", ["compressed", "runs", "polygon"])
def test_every_kind_of_coco_mask_arrives_cropped(tmp_path: Path, kind: str) -> None:
    segmentation = {
        "compressed": {"size": list(SOURCE), "counts": encode(drawn())},
        "runs": {"size": list(SOURCE), "counts": runs_of(drawn())},
        "polygon": [[8, 10, 30, 10, 30, 16, 8, 16]],
    }[kind]
    workspace = make_study(tmp_path, ["/export/scan.png"])
    summary = import_masks(workspace, coco_file(tmp_path, segmentation))
    assert (summary.imported, summary.refused) == (1, {})
    assert np.array_equal(stored(workspace)[0], drawn()[BOX[1] : BOX[3], BOX[0] : BOX[2]])
    assert workspace.masks()[["structure", "source", "state"]].to_numpy().tolist() == [
        ["femur", "import", "accepted"]
    ]


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/export/scan.png"])
    path = coco_file(tmp_path, {"size": list(SOURCE), "counts": encode(drawn())})
    import_masks(workspace, path)
    before = (workspace.root / "masks.parquet").read_bytes()
    import_masks(workspace, path)
    assert (workspace.root / "masks.parquet").read_bytes() == before


@pytest.mark.parametrize("replace", [None, False, True])
def test_another_mask_of_a_frame_and_structure_replaces_the_first_or_is_kept_and_it_is_said(
    tmp_path: Path, replace: bool | None
) -> None:
    keep_both = replace is False
    workspace = make_study(tmp_path, ["/export/scan.png"])
    import_masks(workspace, coco_file(tmp_path, {"size": list(SOURCE), "counts": encode(drawn())}))
    corrected = np.roll(drawn(), 1, axis=0)
    path = coco_file(tmp_path, {"size": list(SOURCE), "counts": encode(corrected)})
    tried = import_masks(workspace, path, ImportOptions(replace=replace, dry_run=True))
    assert len(stored(workspace)) == 1
    summary = import_masks(workspace, path, ImportOptions(replace=replace))
    assert tried.remarks == summary.remarks and len(summary.remarks) == 1
    assert summary.remarks[0].startswith("1 earlier accepted masks (femur 1, on 1 frames) ")
    assert ("are kept" if keep_both else "are replaced") in summary.remarks[0]
    assert ("--replace" if keep_both else "--keep-both") in summary.remarks[0]
    expected = [corrected] if not keep_both else [drawn(), corrected]
    kept = sorted(mask.tobytes() for mask in stored(workspace))
    assert kept == sorted(mask[BOX[1] : BOX[3], BOX[0] : BOX[2]].tobytes() for mask in expected)


def test_what_sono_exports_comes_back(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/export/scan.png"])
    import_masks(workspace, coco_file(tmp_path, {"size": list(SOURCE), "counts": encode(drawn())}))
    before = stored(workspace)[0]
    export_masks(workspace, tmp_path / "out.json")
    (workspace.root / "masks.parquet").unlink()
    assert import_masks(workspace, tmp_path / "out.json").imported == 1
    assert np.array_equal(stored(workspace)[0], before)


def test_an_unknown_category_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/export/scan.png"])
    summary = import_masks(workspace, coco_file(tmp_path, [], category="femurr"))
    assert summary.refused == {"unknown_label": 1}
    assert "unknown structure 'femurr'; did you mean 'femur'" in summary.unknown_labels[0]
    assert summary.examples == ()  # unknown labels have a list of their own


def test_names_may_be_spelled_freely() -> None:
    assert structure_name("Fetal_Head", PlaneTable()) == "fetal head"


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": list(SOURCE), "counts": [5, 6]}, "sum to 11"),
        ({"size": [40, 30], "counts": [1200]}, "the image is"),
        ({"size": None, "counts": [1200]}, "the runs are for None"),
        ({"size": list(SOURCE), "counts": "zz~~"}, "COCO"),
        ({"size": list(SOURCE), "counts": [0.5]}, "whole numbers"),
        ([[1, 2, 3]], "no ring"),
        ([[0, 0, float("nan"), 0, 5, 5]], "no finite number"),
        ([[0, 0, 1e999, 0, 5, 5]], "no finite number"),
        ([[1e5, 1e5, 2e5, 1e5, 2e5, 2e5]], "outside the picture"),
        ([[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]], "beyond 1e+06 pixels"),
        ([], "no polygon"),
        ([["a", "b"]], "could not convert"),
        (None, "NoneType"),
        (7, "int"),
    ],
)
def test_a_bad_segmentation_is_refused_with_its_reason(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    workspace = make_study(tmp_path, ["/export/scan.png"])
    summary = import_masks(workspace, coco_file(tmp_path, segmentation))
    assert summary.refused == {"broken": 1}
    assert "annotation 3" in summary.examples[0]
    assert message in summary.examples[0]
    assert workspace.masks().empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations/>", "XML"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('[{"data": 7, "annotations": []}]', "of an unknown format"),
    ],
)
def test_other_dialects_are_told_to_export_as_coco(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "masks.json"
    path.write_text(text)
    with pytest.raises(SonoError, match=message) as caught:
        import_masks(make_study(tmp_path, ["/export/scan.png"]), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"II*\0" + bytes(200), "contains a TIFF picture"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "a JPEG picture"),
        (bytes(128) + b"DICM" + bytes(100), "a DICOM file"),
        (b"NRRD0004\n", "NRRD volume"),
    ],
)
def test_a_file_that_is_no_text_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "masks.seg"
    path.write_bytes(content)
    with pytest.raises(SonoError, match=message):
        import_masks(make_study(tmp_path, ["/export/scan.png"]), path)


def test_refusals_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [frame_row(0), frame_row(1, status="rejected"), frame_row(2, source_height=31)]
    workspace = make_study(tmp_path, ["/a/scan.png", "/a/dark.png", "/a/tall.png"], rows)
    masks = tmp_path / "masks"
    corner = np.zeros(SOURCE, np.uint8)
    corner[0, 0] = 255
    for stem, picture in {
        "scan_Mask": corner,
        "dark": drawn() * 255,
        "tall": drawn() * 255,
        "who": corner,
    }.items():
        png(masks / f"{stem}.png", picture.astype(np.uint8))
    summary = import_masks(workspace, masks, ImportOptions(structure="femur"))
    assert summary.imported == 0
    assert summary.refused == {"empty": 1, "not_accepted": 1, "unmatched": 1, "wrong_size": 1}
    assert any("30 x 40 against 31 x 40" in example for example in summary.examples)
    with pytest.raises(SonoError, match=r"nothing was imported .*looked for who"):
        summary.refuse_nothing()


def test_a_stem_of_a_cine_does_not_say_which_frame(tmp_path: Path) -> None:
    rows = [frame_row(0), frame_row(1, source_id="source0", frame=1)]
    workspace = make_study(tmp_path, ["/a/cine.dcm"] * 2, rows)
    png(tmp_path / "masks" / "cine.png", drawn().astype(np.uint8))
    assert import_masks(
        workspace, tmp_path / "masks", ImportOptions(structure="femur")
    ).refused == {"many_frames": 1}


def test_names_may_be_of_any_bytes(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, [os.fsdecode(b"/a/\xff.png"), "/a/scan.png"])
    png(tmp_path / "masks" / os.fsdecode(b"\xff.png"), drawn().astype(np.uint8))
    assert (
        import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur")).imported == 1
    )


def test_a_cut_png_is_refused_and_the_others_are_used(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/a/scan.png", "/a/other.png"])
    png(tmp_path / "masks" / "other.png", drawn().astype(np.uint8))
    path = png(
        tmp_path / "masks" / "scan.png",
        np.random.default_rng(0).integers(0, 255, SOURCE).astype(np.uint8),
    )
    path.write_bytes(path.read_bytes()[:-200])
    summary = import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur"))
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert "not a complete PNG" in summary.examples[0]


def test_a_gray_mask_needs_a_structure(tmp_path: Path) -> None:
    png(tmp_path / "masks" / "scan.png", drawn().astype(np.uint8) * 255)
    summary = import_masks(make_study(tmp_path, ["/a/scan.png"]), tmp_path / "masks")
    assert summary.refused == {"no_structure": 1}
    assert "--structure" in summary.examples[0]


def test_colors_become_structures_and_holes_under_others_are_filled(tmp_path: Path) -> None:
    picture = np.zeros((*SOURCE, 3), np.uint8)
    picture[6:24, 10:30] = (128, 0, 0)
    picture[10:14, 15:20] = (128, 128, 0)
    png(tmp_path / "masks" / "scan.png", picture)
    workspace = make_study(tmp_path, ["/a/scan.png"])
    summary = import_masks(workspace, tmp_path / "masks")
    assert summary.structures == {"cavum septi pellucidi": 1, "fetal head": 1}
    assert workspace.masks().set_index("structure")["area"].to_dict() == {
        "fetal head": 360,
        "cavum septi pellucidi": 20,
    }


def test_a_color_without_structure_is_an_error(tmp_path: Path) -> None:
    picture = np.zeros((*SOURCE, 3), np.uint8)
    picture[6:24, 10:30] = (0, 0, 200)
    png(tmp_path / "masks" / "scan.png", picture)
    summary = import_masks(make_study(tmp_path, ["/a/scan.png"]), tmp_path / "masks")
    assert summary.refused == {"no_structure": 1}
    assert "#0000c8 covers 360 pixels" in summary.examples[0]


def test_a_color_of_ones_own_is_found(tmp_path: Path) -> None:
    picture = np.zeros((*SOURCE, 3), np.uint8)
    picture[6:24, 10:30] = (10, 20, 200)
    png(tmp_path / "masks" / "scan.png", picture)
    workspace = make_study(tmp_path, ["/a/scan.png"])
    assert import_masks(
        workspace, tmp_path / "masks", ImportOptions(colors={"#0a14c8": "femur"})
    ).structures == {"femur": 1}


@pytest.mark.parametrize("color", ["redd", "#12345g", "#123"])
def test_a_color_that_is_none_is_an_error(color: str) -> None:
    with pytest.raises(SonoError, match="color"):
        match_color(np.zeros((2, 2, 3), np.uint8), color)


def test_options_are_pairs() -> None:
    assert parse_pairs("--color", ["red=fetal head", "#00ff00 = stomach"], "") == {
        "red": "fetal head",
        "#00ff00": "stomach",
    }
    assert parse_values(["1=femur", "255=fetal head"]) == {1: "femur", 255: "fetal head"}


@pytest.mark.parametrize("option", ["red", "red=", "=femur", ""])
def test_half_a_pair_is_an_error(option: str) -> None:
    with pytest.raises(SonoError, match="NAME=VALUE"):
        parse_pairs("--color", [option], "red=femur")


@pytest.mark.parametrize("option", ["x=femur", "-1=femur", "1.5=femur", "²=femur", "1234567=femur"])
def test_a_value_is_a_whole_number(option: str) -> None:
    with pytest.raises(SonoError, match="not a whole number"):
        parse_values([option])


def test_one_name_with_two_meanings_is_an_error() -> None:
    with pytest.raises(SonoError, match="both 'femur' and 'fetal head'"):
        parse_values(["1=femur", "1=fetal head"])


def test_masks_may_be_imported_as_proposals(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/a/scan.png"])
    png(tmp_path / "masks" / "scan.png", drawn().astype(np.uint8))
    import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur", state="proposed"))
    assert workspace.masks()["state"].tolist() == ["proposed"]
    with pytest.raises(SonoError, match="unknown mask state 'fine'"):
        import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur", state="fine"))


def test_a_closed_outline_is_filled_and_a_ring_is_not() -> None:
    outline, ring = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    cv2.ellipse(outline, (30, 30), (24, 18), 0, 0, 360, 1, 1)
    cv2.circle(ring, (30, 30), 20, 1, 14)
    assert fill_outline(outline.astype(bool)).sum() == pytest.approx(np.pi * 24 * 18, rel=0.08)
    assert fill_outline(ring.astype(bool)).sum() == ring.sum()


def test_an_outline_that_leaves_the_picture_gets_its_hull() -> None:
    outline = np.zeros((60, 60), np.uint8)
    cv2.circle(outline, (30, 5), 25, 1, 1)
    inside = (np.hypot(*np.mgrid[-5:55, -30:30]) <= 25).sum()
    assert fill_outline(outline.astype(bool)).sum() == pytest.approx(inside, rel=0.08)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="not found"):
        import_masks(make_study(tmp_path, ["/a/scan.png"]), tmp_path / "none.json")


def few_masks(folder: Path, target: Path, count: int) -> list[str]:
    """Copy the first `count` mask files; returns their stems."""
    target.mkdir()
    for path in sorted(folder.glob("*.png"))[:count]:
        (target / path.name).write_bytes(path.read_bytes())
    return sorted(path.stem for path in target.iterdir())


def uncropped(number: int, height: int, width: int) -> dict[str, Any]:
    size = {"source_height": height, "source_width": width, "height": height, "width": width}
    return frame_row(number, **size, crop_x0=0, crop_y0=0, crop_x1=width, crop_y1=height)


def test_real_head_masks_with_their_published_names(tmp_path: Path, shared_data: Path) -> None:
    few_masks(shared_data / "nijmegen" / "masks", tmp_path / "masks", 4)
    frame = shared_data / "nijmegen" / "training_set" / "001_HC.png"
    workspace = make_study(tmp_path, [str(frame)], [uncropped(0, 540, 800)])
    summary = import_masks(workspace, tmp_path / "masks", ImportOptions(structure="fetal head"))
    assert (summary.imported, summary.refused) == (1, {"unmatched": 3})
    assert 0.05 < workspace.masks()["area"].iloc[0] / (540 * 800) < 0.1


def test_the_color_masks_of_barcelona_need_no_options(tmp_path: Path, shared_data: Path) -> None:
    stems = few_masks(shared_data / "barcelona_head" / "masks", tmp_path / "masks", 3)
    rows = [uncropped(number, 661, 959) for number in range(3)]
    workspace = make_study(tmp_path, [f"/x/{stem}.png" for stem in stems], rows)
    summary = import_masks(workspace, tmp_path / "masks")
    assert summary.structures == {
        "cavum septi pellucidi": 1,
        "fetal head": 3,
        "lateral ventricle": 3,
    }


def test_a_mask_that_qc_has_seen_as_a_picture_still_finds_its_frame(tmp_path: Path) -> None:
    rows = [frame_row(0), frame_row(1, status="rejected", file=None)]
    workspace = make_study(tmp_path, ["/raw/001_HC.png", "/raw/masks/001_HC_Mask.png"], rows)
    png(tmp_path / "masks" / "001_HC_Mask.png", drawn().astype(np.uint8) * 255)
    summary = import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur"))
    assert (summary.imported, dict(summary.refused)) == (1, {})
    assert list(workspace.masks()["image_id"]) == [rows[0]["image_id"]]


def test_without_the_vault_names_cannot_be_matched_and_the_message_says_so(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["raw/scan.png"])
    workspace.sources_path.unlink()
    with pytest.raises(SonoError, match="put the vault back"):
        import_masks(workspace, coco_file(tmp_path, [[8, 10, 30, 10, 30, 16, 8, 16]]))
    assert workspace.masks().empty


def test_a_mask_fits_a_resampled_frame_as_stored_in_the_file_and_as_shown(tmp_path: Path) -> None:
    shown = {"source_height": 2 * SOURCE[0], "crop_y0": 2 * BOX[1], "crop_y1": 2 * BOX[3]}
    row = frame_row(
        0, **shown, height=2 * (BOX[3] - BOX[1]), file_height=SOURCE[0], file_width=SOURCE[1]
    )
    for name, mask in (("file", drawn()), ("shown", np.repeat(drawn(), 2, axis=0))):
        (tmp_path / name).mkdir()
        workspace = make_study(tmp_path / name, ["/export/scan.dcm"], [row])
        png(tmp_path / name / "masks" / "scan.png", mask.astype(np.uint8) * 255)
        assert (
            import_masks(workspace, tmp_path / name / "masks", ImportOptions("femur")).imported == 1
        )
        expected = np.repeat(drawn()[BOX[1] : BOX[3], BOX[0] : BOX[2]], 2, axis=0)
        assert np.array_equal(stored(workspace)[0], expected)


def test_a_mask_of_the_turned_size_does_not_fit_a_frame_that_is_not_turned(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/export/scan.png"])
    png(tmp_path / "masks" / "scan.png", np.rot90(drawn()).astype(np.uint8) * 255)
    assert dict(import_masks(workspace, tmp_path / "masks", ImportOptions("femur")).refused) == {
        "wrong_size": 1
    }


def test_unknown_labels_are_listed_once_with_count_and_what_to_do() -> None:
    detail = "unknown structure"
    found = [
        Outcome("m", label=label, reason="unknown_label", detail=detail)
        for label in ("hed", "spin", "hed", "hed")
    ]
    assert _unknown_labels(found) == (f"'hed' of 3 masks: {detail}", f"'spin' of 1 masks: {detail}")
    assert _unknown_labels([Outcome("m", label="x", reason="empty")]) == ()


def test_the_known_structures_are_listed_once() -> None:
    found = [
        Outcome(
            "m", label=label, reason="unknown_label", detail=f"{why}; known: a, b Name it {label}"
        )
        for label, why in (("Kopf", "first"), ("Kinn", "second"))
    ]
    assert _unknown_labels(found) == (
        "'Kopf' of 1 masks: first; known: a, b Name it Kopf",
        "'Kinn' of 1 masks: second. Name it Kinn",
    )


@pytest.mark.parametrize("option", ["--structure", "--label"])
@pytest.mark.parametrize("name", ["fetal hed", "femurr", "abdomn"])
def test_an_unknown_structure_names_the_option_and_the_list(option: str, name: str) -> None:
    given = (name, {}) if option == "--structure" else (None, {"x": name})
    with pytest.raises(
        SonoError, match=f"{option}: unknown structure '{name}'.*; did you mean .*planes_file"
    ):
        Labels.create(PlaneTable(), *given, ())


def test_structures_that_the_plane_does_not_have_are_remarked(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/a/scan.png"], [frame_row(0, plane="four_chamber")])
    summary = import_masks(
        workspace, png(tmp_path / "m" / "scan.png", drawn() * 255), ImportOptions(structure="femur")
    )
    assert (
        "1 masks show a structure that the plane of their frame does not have (femur on "
        "four_chamber 1)" in (" ".join(summary.remarks))
    )
    row = workspace.masks().iloc[0]
    assert f"{row.mask_id} of frame {row.image_id}" in " ".join(summary.remarks)
    assert summary.other_planes == (
        {
            "mask_id": row.mask_id,
            "image_id": row.image_id,
            "structure": "femur",
            "plane": "four_chamber",
        },
    )
    again = ImportOptions(structure="left ventricle")
    assert import_masks(workspace, tmp_path / "m" / "scan.png", again).remarks == ()


def test_open_proposals_next_to_imported_masks_are_counted(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, [f"/a/{name}.png" for name in ("one", "two", "three")])
    for name in ("one", "two"):
        png(tmp_path / "masks" / f"{name}.png", drawn().astype(np.uint8))
    whole = drawn()[BOX[1] : BOX[3], BOX[0] : BOX[2]]
    rows = [mask_row(frame_row(number), whole, "femur", "heuristic") for number in (0, 2)]
    workspace.write(MASKS, mask_table(rows))
    options = ImportOptions(structure="femur")
    tried = import_masks(workspace, tmp_path / "masks", replace(options, dry_run=True))
    summary = import_masks(workspace, tmp_path / "masks", options)
    assert tried.remarks == summary.remarks and len(summary.remarks) == 1
    assert summary.remarks[0].startswith(
        "1 proposals (femur 1, on 1 frames) stay open next to imported masks of the same structure"
    )
    assert "sono masks review --reviewer NAME" in summary.remarks[0]
    assert sorted(workspace.masks()["state"]) == ["accepted", "accepted", "proposed", "proposed"]


def test_frames_that_still_lack_a_mask_are_counted(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/a/one.png", "/a/two.png", "/a/three.png"])
    png(tmp_path / "masks" / "one.png", drawn().astype(np.uint8))
    summary = import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur"))
    assert (summary.frames, summary.frames_without_mask) == (3, 2)
    assert summary.table()["without_a_mask"] == "2 of the 3 accepted frames"


def test_one_example_shows_each_kind_of_name_that_no_frame_has(tmp_path: Path) -> None:
    workspace = make_study(tmp_path, ["/a/one.png"])
    names = ("one", *(f"a_{number}" for number in range(8)), "b_1", "c")
    for name in names:
        png(tmp_path / "masks" / f"{name}.png", drawn().astype(np.uint8))
    summary = import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur"))
    assert summary.refused == {"unmatched": 10}
    shown = [example.partition(":")[0].rpartition("/")[2] for example in summary.examples]
    assert shown[:3] == ["a_0.png", "b_1.png", "c.png"] and len(shown) == 5
