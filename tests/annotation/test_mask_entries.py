"""One bad entry never stops the others; labels are mapped or skipped.

LabelMe files and tables of boxes are read.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_studies import SOURCE, frame_row, make_study, png, stored

from sono.annotation.exchange.shapes import draw_box, draw_circle, draw_polygons
from sono.annotation.import_options import ImportOptions
from sono.annotation.import_summary import REFUSALS
from sono.annotation.mask_import import import_masks
from sono.annotation.mask_labels import structure_name
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace

RING = [[8, 10, 30, 10, 30, 16, 8, 16]]
SIZE = (540, 720)


def three(folder: Path) -> Workspace:
    """Three frames that are stored whole."""
    whole = {
        "height": SOURCE[0],
        "width": SOURCE[1],
        "crop_x0": 0,
        "crop_y0": 0,
        "crop_x1": 40,
        "crop_y1": 30,
    }
    return make_study(
        folder, [f"/raw/{n}.png" for n in "abc"], [frame_row(n, **whole) for n in range(3)]
    )


def coco(folder: Path, third: Any, label: str = "femur") -> Path:
    """Two good annotations of frames a and b, and a `third` of c."""
    good = [{"id": n, "image_id": n, "category_id": 1, "segmentation": RING} for n in range(2)]
    content = {
        "images": [
            {"id": n, "file_name": f"{'abc'[n]}.png", "height": 30, "width": 40} for n in range(3)
        ],
        "categories": [{"id": 1, "name": "femur"}, {"id": 2, "name": label}],
        "annotations": [*good, third],
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return path


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 2, "category_id": 2, "segmentation": RING} | changes


@pytest.mark.parametrize(
    ("third", "words"),
    [
        (annotation(segmentation=[[8, 10, 9, 10]]), "no ring"),
        (annotation(segmentation=[RING[0], [8, 10, 9, 10]]), "no ring"),
        (annotation(segmentation=[], bbox=[8, 10, 22, 6]), "only a box"),
        (annotation(segmentation=None, bbox=[8, 10, 22, 6]), "NoneType"),
        (annotation(segmentation=[[1000, 400, 200]]), "no ring"),
        (annotation(segmentation=[[[8, 10], [30, 10], [30, 16]]]), "no ring"),
        (annotation(segmentation=[{"x": 1}]), "no list of numbers"),
        (annotation(segmentation=[[0.2, 0.3, 0.6, 0.3, 0.6, 1]]), "shares of the picture"),
        (annotation(segmentation={"size": [30, 40], "counts": [10, 5000]}), "sum to 5010"),
        (annotation(segmentation={"size": [30, 40], "counts": [-5, 1205]}), "1200"),
        (annotation(segmentation={"size": [30, 40], "counts": [10**4000]}), "sum to 1000"),
        (annotation(segmentation={"size": [30, 40], "counts": [10**4299] * 20}), "damaged"),
        (annotation(segmentation={"size": [30, 40], "counts": "\u0444\ud800"}), "damaged"),
        (annotation(image_id=77), "image 77 is not in the file"),
        (annotation(category_id="x"), "category x is not in the file"),
        (annotation(image_id=None), "image_id"),
        ({"id": 9}, "field required"),
        ("text", "annotations.2"),
    ],
)
def test_a_bad_annotation_is_refused_and_the_others_are_imported(
    tmp_path: Path, third: Any, words: str
) -> None:
    workspace, path = three(tmp_path), coco(tmp_path, third)
    summary = import_masks(workspace, path)
    assert (summary.imported, summary.refused) == (2, {"broken": 1})
    assert words in summary.examples[0] and len(summary.examples[0]) < 1500
    (workspace.root / "masks.parquet").unlink()
    with pytest.raises(IssuesError, match="nothing was imported"):
        import_masks(workspace, path, ImportOptions(strict=True))
    assert workspace.masks().empty


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"height": None}, "images.1.height"),
        ({"file_name": 3}, "images.1.file_name"),
        ({"id": None}, "images.1.id"),
    ],
)
def test_a_bad_image_takes_only_its_own_annotations_along(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    path = coco(tmp_path, annotation(category_id=1))
    content = json.loads(path.read_text())
    content["images"][1] |= changes
    path.write_text(json.dumps(content))
    summary = import_masks(three(tmp_path), path)
    assert (summary.imported, summary.refused) == (2, {"broken": 2})
    assert any(word in example for example in summary.examples)


def test_a_label_that_no_plane_knows_is_refused_mapped_or_skipped(tmp_path: Path) -> None:
    workspace, path = three(tmp_path), coco(tmp_path, annotation(), label="Head")
    summary = import_masks(workspace, path)
    assert (summary.imported, summary.refused) == (2, {"unknown_label": 1})
    (advice,) = summary.unknown_labels
    assert '--label "Head=fetal head"' in advice and '--skip-label "Head"' in advice
    skipped = import_masks(workspace, path, ImportOptions(skipped=["head"], strict=True))
    assert (skipped.imported, skipped.refused, skipped.skipped) == (2, {}, {"Head": 1})
    mapped = import_masks(
        workspace, path, ImportOptions(labels={"head": "fetal head"}, strict=True)
    )
    assert mapped.structures == {"femur": 2, "fetal head": 1}


def test_a_mapping_goes_before_a_structure_of_that_name(tmp_path: Path) -> None:
    path = coco(tmp_path, annotation(), label="aorta")
    summary = import_masks(
        three(tmp_path), path, ImportOptions(labels={"aorta": "descending aorta"})
    )
    assert summary.structures == {"descending aorta": 1, "femur": 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ImportOptions(labels={"Head": "fetal hed"}),
            "unknown structure 'fetal hed'; did you mean 'fetal head'",
        ),
        (ImportOptions(labels={"Head": "femur"}, skipped=["HEAD"]), "both name 'HEAD'"),
        (
            ImportOptions(structure="femur"),
            "labels Head, femur, but --structure would name all of them 'femur'",
        ),
    ],
)
def test_labels_that_cannot_be_meant_are_an_error(
    tmp_path: Path, options: ImportOptions, words: str
) -> None:
    with pytest.raises(SonoError, match=words):
        import_masks(three(tmp_path), coco(tmp_path, annotation(), label="Head"), options)


def test_a_structure_that_contradicts_the_only_label_is_an_error(tmp_path: Path) -> None:
    workspace, path = three(tmp_path), coco(tmp_path, annotation(category_id=1))
    with pytest.raises(SonoError, match="masks have the label 'femur', but --structure"):
        import_masks(workspace, path, ImportOptions(structure="fetal head"))
    assert import_masks(workspace, path, ImportOptions(structure="femur")).imported == 3


def test_masks_of_images_that_were_rotated_by_exif_are_remarked(tmp_path: Path) -> None:
    path = coco(tmp_path, annotation(category_id=1))
    plain = import_masks(three(tmp_path / "plain"), path)
    workspace = three(tmp_path / "rotated")
    images = workspace.images()
    images["reasons"] = [["rotated_by_exif"], [], ["rotated_by_exif"]]
    workspace.write(IMAGES, images)
    rotated = import_masks(workspace, path)
    assert plain.remarks == () and rotated.imported == 3
    assert len(rotated.remarks) == 1 and "2 masks are on 2 images" in rotated.remarks[0]


def test_a_label_that_no_mask_has_is_remarked(tmp_path: Path) -> None:
    options = ImportOptions(labels={"Hed": "fetal head"}, skipped=["blur"])
    summary = import_masks(three(tmp_path), coco(tmp_path, annotation(category_id=1)), options)
    assert summary.remarks == ("no mask has the label 'blur'", "no mask has the label 'hed'")


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("Head", "'fetal head'"),
        ("VENTRICLE", "'lateral ventricle' or 'left ventricle'"),
        ("femurr", "'femur'"),
    ],
)
def test_suggestions_contain_the_word(label: str, wanted: str) -> None:
    with pytest.raises(SonoError, match=f"did you mean {wanted}"):
        structure_name(label, PlaneTable())


def test_a_misspelled_label_is_offered_with_its_structure(tmp_path: Path) -> None:
    summary = import_masks(three(tmp_path), coco(tmp_path, annotation(), label="raduis"))
    assert '--label "raduis=radius"' in " ".join(summary.unknown_labels)


def labelme(folder: Path, shapes: list[Any], name: str = "a.json", **changes: Any) -> Path:
    content = {
        "version": "5",
        "shapes": shapes,
        "imagePath": "a.png",
        "imageHeight": 30,
        "imageWidth": 40,
    } | changes
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def shape(kind: str | None, points: Any, label: str = "femur") -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points}


@pytest.mark.parametrize(
    ("kind", "points", "area", "source"),
    [
        ("polygon", [[8, 10], [30, 10], [30, 16], [8, 16]], 132, "import"),
        (None, [[8, 10], [30, 10], [30, 16], [8, 16]], 132, "import"),
        ("rectangle", [[8, 10], [30, 16]], 132, "box"),
        ("rectangle", [[30, 16], [8, 10]], 132, "box"),
        ("rectangle", [[8, 10], [30, 10], [30, 16], [8, 16]], 132, "box"),
        ("circle", [[20, 15], [20, 21]], 113, "import"),
    ],
)
def test_labelme_shapes_are_drawn(
    tmp_path: Path, kind: str | None, points: Any, area: int, source: str
) -> None:
    workspace = three(tmp_path)
    import_masks(workspace, labelme(tmp_path, [shape(kind, points)]))
    masks = workspace.masks()
    assert masks["source"].tolist() == [source]
    assert masks["area"].iloc[0] == pytest.approx(area, abs=4)


@pytest.mark.parametrize(
    "bad",
    [
        shape("point", [[8, 10]]),
        shape("linestrip", [[8, 10], [30, 10]]),
        shape("polygon", [[8, 10], [30, 10]]),
        shape("polygon", [[8, 10], [float("nan"), 10], [30, 16]]),
        shape("circle", [[8, 10]]),
        shape("rectangle", [[8, 10], [30, 10], [30, 16]]),
        shape("rectangle", [[800, 100], [900, 160]]),
        {"label": 3, "points": []},
        "text",
    ],
)
def test_a_bad_shape_is_refused_and_the_others_are_imported(tmp_path: Path, bad: Any) -> None:
    good = shape("polygon", [[8, 10], [30, 10], [30, 16]])
    summary = import_masks(three(tmp_path), labelme(tmp_path, [bad, good]))
    assert (summary.imported, summary.refused) == (1, {"broken": 1})


def test_a_folder_may_hold_labelme_files_next_to_the_frames(tmp_path: Path) -> None:
    ring = shape("polygon", [[8, 10], [30, 10], [30, 16], [8, 16]])
    labelme(tmp_path / "work", [ring], "a.json")
    labelme(tmp_path / "work", [ring], "b.json", imagePath="..\\raw\\b.png")
    labelme(tmp_path / "work", [ring], "broken.json", imagePath=7)
    (tmp_path / "work" / "settings.json").write_text("{}")
    summary = import_masks(three(tmp_path), tmp_path / "work")
    assert (summary.imported, summary.refused) == (2, {"broken": 2})


def test_a_labelme_file_copied_to_another_name_is_refused(tmp_path: Path) -> None:
    path = labelme(
        tmp_path, [shape("polygon", [[8, 10], [30, 10], [30, 16]])], "b.json", imagePath="a.png"
    )
    assert import_masks(three(tmp_path), path).refused == {"other_name": 1}


@pytest.mark.parametrize("name", ["b_mask.json", "b_seg.json", "1a2b3c4d-b.json"])
def test_nor_is_one_whose_name_means_another_frame(tmp_path: Path, name: str) -> None:
    path = labelme(
        tmp_path, [shape("polygon", [[8, 10], [30, 10], [30, 16]])], name, imagePath="a.png"
    )
    assert import_masks(three(tmp_path), path).refused == {"other_name": 1}


def test_two_labelme_files_of_one_frame_mean_none(tmp_path: Path) -> None:
    ring = shape("polygon", [[8, 10], [30, 10], [30, 16]])
    for name in ("anna/a.json", "ben/a.json"):
        labelme(tmp_path / "work", [ring], name)
    assert import_masks(three(tmp_path), tmp_path / "work").refused == {"two_pictures": 2}


@pytest.mark.parametrize(
    "size", [{"imageHeight": None}, {"imageWidth": "40"}, {"imageHeight": True}]
)
def test_a_labelme_file_without_a_size_is_refused(tmp_path: Path, size: dict[str, Any]) -> None:
    assert import_masks(
        three(tmp_path), labelme(tmp_path, [shape("circle", [[9, 9], [9, 12]])], **size)
    ).refused == {"broken": 1}


SHENZHEN = "fname,structure,h_min,w_min,h_max,w_max\n"


def table(folder: Path, text: str, name: str = "boxes.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_boxes_of_a_table_are_marked_as_boxes(tmp_path: Path) -> None:
    rows = (
        "a.png,NT,10,8,16,30\na.png,nasal bone,2,3,5,9\nb.png,nasal "
        "skin,10,8,16,30\nc.png,NT,24,32,33,42\n"
    )
    workspace = three(tmp_path)
    options = ImportOptions(labels={"NT": "nuchal translucency"}, skipped=["nasal skin"])
    summary = import_masks(workspace, table(tmp_path, SHENZHEN + rows), options)
    assert (summary.imported, summary.sources, summary.skipped) == (
        3,
        {"box": 3},
        {"nasal skin": 1},
    )
    masks = workspace.masks().set_index(["image_id", "structure"])
    assert masks.loc[(f"{0:016x}", "nuchal translucency"), "area"] == 6 * 22
    assert masks.loc[(f"{2:016x}", "nuchal translucency"), "area"] == 6 * 8  # clipped
    assert set(masks["state"]) == {"accepted"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c.png,femur,10,8,x,30", "bottom is 'x'"),
        ("c.png,femur,10,8,,30", "bottom is ''"),
        ("c.png,femur,16,8,10,30", "no area"),
        ("c.png,femur,nan,8,10,30", "top is"),
        ("c.png,femur,100,80,160,300", "outside the picture"),
        (",femur,10,8,16,30", "without file or label"),
        ("c.png,femur,10,8,16", "5 cells under 6 columns"),
    ],
)
def test_a_bad_row_is_refused_and_the_others_are_imported(
    tmp_path: Path, row: str, words: str
) -> None:
    text = f"{SHENZHEN}a.png,femur,10,8,16,30\nb.png,femur,10,8,16,30\n{row}\n"
    summary = import_masks(three(tmp_path), table(tmp_path, text))
    assert (summary.imported, summary.refused) == (2, {"broken": 1})
    assert words in summary.examples[0]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,30,femur,8,10,30,16\n", {}),
        ("Image;Label;Left;Top;Right;Bottom\na.png;femur;8;10;30;16\n", {}),
        (
            "pic,what,x,y,w,h\na.png,femur,8,10,22,6\n",
            {"file": "pic", "label": "what", "left": "x", "top": "y", "width": "w", "height": "h"},
        ),
    ],
)
def test_other_tables_have_other_columns(
    tmp_path: Path, text: str, columns: dict[str, str]
) -> None:
    workspace = three(tmp_path)
    import_masks(workspace, table(tmp_path, text), ImportOptions(columns=columns))
    assert [mask.sum() for mask in stored(workspace)] == [132]


@pytest.mark.parametrize(
    ("header", "cells", "refused"),
    [
        ("width,height", "400,300", {"wrong_size": 1}),
        ("image_width,image_height", "80,60", {"wrong_size": 1}),
        ("width,height", "40,30", {}),
        ("width,height", "22,6", {}),
        ("width,height", ",", {}),
        ("width,height", "x,30", {"broken": 1}),
    ],
)
def test_a_box_drawn_on_a_picture_of_another_size_is_refused(
    tmp_path: Path, header: str, cells: str, refused: dict[str, int]
) -> None:
    path = table(
        tmp_path, f"filename,class,xmin,ymin,xmax,ymax,{header}\na.png,femur,8,10,30,16,{cells}\n"
    )
    summary = import_masks(three(tmp_path), path, ImportOptions(dry_run=True))
    assert (summary.imported, summary.refused) == (1 - len(refused), refused)


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        (
            "pic,what,x,y,w,h\na.png,femur,8,10,22,6\n",
            {},
            "no column for file, label, left, top, right, bottom",
        ),
        (SHENZHEN + "a.png,femur,1,1,2,2\n", {"left": "x_left"}, "no column 'x_left'"),
        (
            SHENZHEN + "a.png,femur,1,1,2,2\n",
            {"lft": "w_min"},
            "not a field of a box; did you mean 'left'",
        ),
        ("file,image,label,left,top,right,bottom\na,a,femur,1,1,2,2\n", {}, "'file' and 'image'"),
        (SHENZHEN + "a.png,femur,0.1,0.1,0.5,0.5\n", {}, "fractions"),
    ],
)
def test_a_table_that_cannot_be_understood_is_an_error(
    tmp_path: Path, text: str, columns: dict[str, str], words: str
) -> None:
    with pytest.raises(SonoError, match=words):
        import_masks(three(tmp_path), table(tmp_path, text), ImportOptions(columns=columns))


def test_a_polygon_that_swings_over_the_picture_60000_times_is_refused() -> None:
    swings = np.empty((60_000, 2))
    swings[:, 0] = np.tile([-3.0, 723.0], 30_000)
    swings[:, 1] = np.linspace(0, 540, 60_000)
    with pytest.raises(SonoError, match="no outline of a structure"):
        draw_polygons([swings.ravel().tolist()], SIZE)


def test_a_polygon_that_goes_beyond_the_picture_is_clipped() -> None:
    mask = draw_polygons([[-3e3, 100, 3e3, 100, 3e3, 200, -3e3, 200]], SIZE)
    assert mask[100:200].all()
    assert mask.sum() == 100 * SIZE[1]


@pytest.mark.parametrize("far", [1e4, 1e6, 1e12, 1e300])
def test_a_polygon_that_is_hardly_in_the_picture_was_drawn_on_another_one(far: float) -> None:
    with pytest.raises(SonoError, match=r"drawn on another one|beyond 1e\+06 pixels"):
        draw_polygons([[-far, 100, far, 100, far, 200, -far, 200]], SIZE)
    with pytest.raises(SonoError, match=r"drawn on another one|beyond 1e\+06 pixels"):
        draw_polygons([[700, 100, far, 100, far, 400, 700, 400]], SIZE)


def test_many_small_rings_are_bounded_too() -> None:
    with pytest.raises(SonoError, match="no outline"):
        draw_polygons([[8, 8, 60, 8, 60, 60]] * 5_000, SIZE)


def test_a_long_outline_of_a_structure_is_drawn() -> None:
    turns = np.linspace(0, 2 * np.pi, 60_000, endpoint=False)
    ring = np.stack([360 + 200 * np.cos(turns), 270 + 150 * np.sin(turns)], axis=1)
    assert draw_polygons([ring.ravel()], SIZE).sum() == pytest.approx(np.pi * 200 * 150, rel=0.01)


def test_circles_and_boxes_end_at_the_picture() -> None:
    with pytest.raises(SonoError, match="0% of the outline"):
        draw_circle(0, 0, 1e6, SIZE)
    with pytest.raises(SonoError, match="25% of the outline"):
        draw_circle(0, 0, 100, SIZE)
    assert draw_circle(360, 270, 100, SIZE).sum() == pytest.approx(np.pi * 1e4, rel=0.01)
    assert draw_box(-2, -2, 10.0, 10.0, SIZE).sum() == 100


def test_a_table_next_to_masks_of_the_same_study_keeps_both(tmp_path: Path) -> None:
    workspace = three(tmp_path)
    mask = np.zeros(SOURCE, np.uint8)
    mask[10:16, 8:30] = 1
    png(tmp_path / "masks" / "a.png", mask)
    import_masks(workspace, tmp_path / "masks", ImportOptions(structure="femur"))
    boxes = table(tmp_path, SHENZHEN + "a.png,femur,10,8,16,30\n")
    summary = import_masks(workspace, boxes)
    assert sorted(workspace.masks()["source"]) == ["box", "import"]
    assert "are kept next to new ones" in summary.remarks[0] and "--replace" in summary.remarks[0]
    import_masks(workspace, boxes, ImportOptions(replace=True))
    assert workspace.masks()["source"].tolist() == ["box"]


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"boxes\.csv: the table is empty"):
        import_masks(three(tmp_path), table(tmp_path, ""))


def test_every_reason_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "masks.md").read_text(encoding="utf-8")
    assert [reason for reason in REFUSALS if f"`{reason}`" not in page] == []
