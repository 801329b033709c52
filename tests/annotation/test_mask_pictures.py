"""The pixels of a PNG decide what it shows.

It may show one shape, classes, an alpha channel, or no mask at all.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mask_studies import frame_row, make_study, png, stored
from PIL import Image

from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.annotation.mask_quality import oddity
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import frame_file, image_id_of
from sono.curation.core.rle import encode
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.anatomy import draw_plane
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.physics import render

SIZE = (90, 120)  # height, width
HEAD = ImportOptions(structure="fetal head")


def head() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (60, 45), (40, 28), 10, 0, 360, 1, cv2.FILLED)
    return mask.astype(bool)


HEAD_PIXELS = int(head().sum())


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """An ultrasound frame of the phantom, [90, 120]."""
    rng = np.random.default_rng(3)
    drawn = draw_plane("transthalamic", PROBES["A"], 154, rng)
    whole = render(drawn.scene, PROBES["A"], LOOKS["A"], rng)
    return np.ascontiguousarray(whole[200 : 200 + SIZE[0], 300 : 300 + SIZE[1]])


def one_frame(folder: Path, gray: np.ndarray | None = None) -> Workspace:
    size = {"height": SIZE[0], "width": SIZE[1], "source_height": SIZE[0], "source_width": SIZE[1]}
    box = {"crop_x0": 0, "crop_y0": 0, "crop_x1": SIZE[1], "crop_y1": SIZE[0]}
    own = {}
    if gray is not None:
        own = {
            "image_id": image_id_of(gray),
            "file": frame_file(image_id_of(gray), gray[5:80, 10:100]),
        }
    return make_study(folder, ["/raw/scan.png"], [frame_row(0, **size, **box, **own)])


def imported(
    folder: Path, image: np.ndarray | Image.Image, options: ImportOptions = HEAD
) -> tuple[list[int], str]:
    """Areas of the masks of one picture, and why it was refused."""
    path = folder / "masks" / "scan.png"
    path.parent.mkdir()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    workspace = one_frame(folder)
    summary = import_masks(workspace, folder / "masks", options)
    return [int(mask.sum()) for mask in stored(workspace)], " ".join(
        (*summary.refused, *summary.examples)
    )


def test_a_frame_of_the_study_is_no_mask_whole_or_cropped(
    tmp_path: Path, picture: np.ndarray
) -> None:
    png(tmp_path / "masks" / "scan.png", picture)
    png(tmp_path / "masks" / "other" / "scan.png", picture[5:80, 10:100])
    png(tmp_path / "masks" / "rgb" / "scan.png", np.dstack([picture] * 3))
    png(tmp_path / "masks" / "scan_annotation.png", head().astype(np.uint8) * 255)
    workspace = one_frame(tmp_path, picture)
    summary = import_masks(workspace, tmp_path / "masks", HEAD)
    assert (summary.imported, summary.refused) == (1, {"frame": 3})
    assert int(stored(workspace)[0].sum()) == HEAD_PIXELS


@pytest.mark.parametrize(
    "change", ["as it is", "brighter", "of JPEG", "smoothed", "in color", "of 16 bits"]
)
def test_an_image_is_no_mask_even_if_no_frame_equals_it(
    tmp_path: Path, picture: np.ndarray, change: str
) -> None:
    changed = {
        "as it is": picture,
        "brighter": np.clip(picture.astype(int) * 2, 0, 255).astype(np.uint8),
        "of JPEG": cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_GRAYSCALE),
        "smoothed": cv2.GaussianBlur(picture, (9, 9), 3),
        "in color": np.dstack([picture, picture // 2, picture // 3]),
        "of 16 bits": picture.astype(np.uint16) * 257,
    }[change]
    areas, why = imported(tmp_path, changed)
    assert areas == []
    assert "tones" in why


@pytest.mark.parametrize(
    "kind", ["0 and 255", "0 and 1", "0 and 128", "soft edges", "JPEG", "16 bits", "half size"]
)
def test_one_shape_is_a_mask_however_it_is_written(tmp_path: Path, kind: str) -> None:
    mask = head().astype(np.uint8)
    large = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) * 255
    image = {
        "0 and 255": mask * 255,
        "0 and 1": mask,
        "0 and 128": mask * 128,
        "soft edges": cv2.GaussianBlur(mask * 255, (5, 5), 0),
        "JPEG": cv2.imdecode(cv2.imencode(".jpg", mask * 255)[1], cv2.IMREAD_GRAYSCALE),
        "16 bits": mask.astype(np.uint16) * 65535,
        "half size": cv2.resize(large, SIZE[::-1], interpolation=cv2.INTER_AREA),
    }[kind]
    areas, why = imported(tmp_path, image)
    assert why == ""
    assert areas == [pytest.approx(HEAD_PIXELS, rel=0.02)]


@pytest.mark.parametrize("line", [cv2.LINE_8, cv2.LINE_AA])
def test_an_outline_is_filled(tmp_path: Path, line: int) -> None:
    image = np.zeros(SIZE, np.uint8)
    cv2.ellipse(image, (60, 45), (40, 28), 10, 0, 360, 255, 1, line)
    areas, why = imported(tmp_path, image)
    assert why == ""
    assert areas == [pytest.approx(HEAD_PIXELS, rel=0.04)]


def classes(values: tuple[int, int, int]) -> np.ndarray:
    """A head with a cavum and a line in it, as three values."""
    labels = head().astype(np.uint8) * values[0]
    labels[40:48, 55:70] = values[1]
    labels[30:60, 50:51] = values[2]
    return labels


@pytest.mark.parametrize(
    "values", [(1, 2, 3), (100, 150, 250), (255, 128, 64), (85, 170, 255), (20, 30, 25)]
)
def test_several_values_are_classes_and_are_offered(
    tmp_path: Path, values: tuple[int, int, int]
) -> None:
    areas, why = imported(tmp_path, classes(values))
    assert areas == []
    assert "classes" in why
    assert f'--value {values[0]}="fetal head"' in why


@pytest.mark.parametrize("thin", [200, 255])
def test_a_thin_line_over_an_area_is_a_class_too(tmp_path: Path, thin: int) -> None:
    labels = head().astype(np.uint8) * 100
    labels[44, 30:90] = thin
    areas, why = imported(tmp_path, labels)
    assert (areas, "classes" in why) == ([], True)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_values_name_their_structures(tmp_path: Path, depth: type) -> None:
    labels = classes((1, 2, 3)).astype(depth)
    options = ImportOptions(values={1: "fetal head", 2: "cavum septi pellucidi"})
    path = tmp_path / "masks" / "scan.png"
    path.parent.mkdir()
    Image.fromarray(labels).save(path)
    workspace = one_frame(tmp_path)
    summary = import_masks(workspace, path.parent, options)
    areas = workspace.masks().set_index("structure")["area"].to_dict()
    assert areas == {
        "fetal head": (labels == 1).sum(),
        "cavum septi pellucidi": (labels == 2).sum(),
    }
    assert summary.remarks[:1] == (
        f"values without --value are left out: 3 ({(labels == 3).sum()} pixels)",
    )


def test_values_of_a_palette_are_its_indices(tmp_path: Path) -> None:
    labels = classes((1, 2, 3))
    image = Image.fromarray(labels, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756)
    areas, _ = imported(tmp_path, image, ImportOptions(values={2: "cavum septi pellucidi"}))
    assert areas == [(labels == 2).sum()]


def test_indices_of_one_color_are_classes(tmp_path: Path) -> None:
    image = Image.fromarray(classes((1, 2, 3)), "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0] + [0] * 756)
    areas, why = imported(tmp_path, image)
    assert (areas, "by value: 1 (" in why) == ([], True), why


@pytest.mark.parametrize("values", [(1, 1000, 1000), (1000, 1, 2), (65535, 3000, 65535)])
def test_values_of_16_bits_that_8_bits_would_hide_are_classes(
    tmp_path: Path, values: tuple[int, int, int]
) -> None:
    labels = np.zeros(SIZE, np.uint16)
    labels[head()] = values[0]
    labels[40:48, 55:70] = values[1]
    labels[30:60, 50:51] = values[2]
    areas, why = imported(tmp_path, labels)
    assert (areas, "--value" in why) == ([], True), why


def test_one_value_of_16_bits_is_a_mask(tmp_path: Path) -> None:
    areas, _ = imported(tmp_path, head().astype(np.uint16) * 1000)
    assert areas == [pytest.approx(HEAD_PIXELS, rel=0.04)]


def test_colors_under_one_structure_are_offered_as_colors(tmp_path: Path) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[head()] = (128, 0, 0)
    image[40:48, 55:70] = (0, 128, 0)
    areas, why = imported(tmp_path, image)
    assert areas == []
    assert '--color "#800000=fetal head"' in why


@pytest.mark.parametrize("values", [{9: "femur"}, {2: "femur"}])
def test_a_picture_without_the_named_value_is_refused(
    tmp_path: Path, values: dict[int, str]
) -> None:
    areas, why = imported(tmp_path, head().astype(np.uint8), ImportOptions(values=values))
    assert (areas, "no --value names one" in why) == ([], True)


def test_an_image_has_too_many_values_for_classes(tmp_path: Path, picture: np.ndarray) -> None:
    areas, why = imported(tmp_path, picture, ImportOptions(values={40: "femur"}))
    assert (areas, "tones" in why) == ([], True)


@pytest.mark.parametrize(
    "kind", ["white", "cut out", "red", "black", "half opaque", "gray and alpha", "palette"]
)
def test_the_alpha_channel_is_the_shape_where_it_varies(
    tmp_path: Path, picture: np.ndarray, kind: str
) -> None:
    mask = head().astype(np.uint8)
    full = np.full((*SIZE, 4), 255, np.uint8)
    full[..., 3] = mask * 255
    if kind == "cut out":
        full[..., :3] = picture[..., None]
    if kind in ("red", "black"):
        full[..., :3] = (255, 0, 0) if kind == "red" else 0
    if kind == "half opaque":
        full[..., 3] = mask * 100
    image = Image.fromarray(full)
    if kind == "gray and alpha":
        image = image.convert("LA")
    if kind == "palette":
        image = Image.fromarray(mask, "P")
        image.putpalette([255] * 768)
        image.info["transparency"] = 0
    areas, why = imported(tmp_path, image)
    assert (areas, why) == ([HEAD_PIXELS], "")


def test_an_alpha_channel_that_does_not_vary_says_nothing(tmp_path: Path) -> None:
    full = np.dstack([head().astype(np.uint8) * 255] * 3 + [np.full(SIZE, 255, np.uint8)])
    assert imported(tmp_path, full) == ([HEAD_PIXELS], "")


def test_white_on_black_inside_the_alpha_channel_is_the_white(tmp_path: Path) -> None:
    alpha = np.zeros(SIZE, np.uint8)
    alpha[:, 10:110] = 255
    full = np.dstack([head().astype(np.uint8) * 255] * 3 + [alpha])
    assert imported(tmp_path, full) == ([HEAD_PIXELS], "")


def test_several_opacities_are_classes(tmp_path: Path) -> None:
    full = np.full((*SIZE, 4), 255, np.uint8)
    full[..., 3] = classes((255, 120, 120))
    areas, why = imported(tmp_path, full)
    assert (areas, "classes" in why and "by opacity: 255" in why) == ([], True)


@pytest.mark.parametrize("kind", ["inverted", "everything", "four borders"])
def test_a_mask_that_looks_inverted_needs_force(tmp_path: Path, kind: str) -> None:
    mask = ~head() if kind == "inverted" else np.ones(SIZE, bool)
    if kind == "everything":
        mask[0] = False
    if kind == "four borders":
        mask[:] = False
        mask[45], mask[:, 60] = True, True
        mask[20:70, 30:90] = True
    areas, why = imported(tmp_path, mask.astype(np.uint8) * 255)
    assert (areas, "inverted?" in why) == ([], True)
    forced = ImportOptions(structure="fetal head", force=True)
    assert import_masks(Workspace(tmp_path / "study"), tmp_path / "masks", forced).imported == 1


def test_a_head_that_fills_three_borders_is_fine(tmp_path: Path) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:70] = 255
    areas, _ = imported(tmp_path, mask)
    assert areas == [70 * SIZE[1]]


@pytest.mark.parametrize(
    "options",
    [
        ImportOptions(structure="femur", colors={"red": "femur"}),
        ImportOptions(structure="femur", values={1: "femur"}),
        ImportOptions(colors={"red": "femur"}, values={1: "femur"}),
    ],
)
def test_options_that_contradict_each_other_are_an_error(
    tmp_path: Path, options: ImportOptions
) -> None:
    with pytest.raises(SonoError, match="contradict each other"):
        import_masks(one_frame(tmp_path), tmp_path, options)


def test_files_that_are_no_masks_are_counted(tmp_path: Path) -> None:
    png(tmp_path / "masks" / "scan.png", head().astype(np.uint8))
    for name in ("scan.tif", "notes.txt", "README"):
        (tmp_path / "masks" / name).write_text("x")
    summary = import_masks(one_frame(tmp_path), tmp_path / "masks", HEAD)
    assert summary.remarks[:1] == (
        "files of other kinds were not read: .tif 1, .txt 1, no extension 1",
    )


def framed(width: int) -> np.ndarray:
    mask = ~head()
    mask[:width], mask[-width:], mask[:, :width], mask[:, -width:] = False, False, False, False
    return mask


def gapped() -> np.ndarray:
    line = np.zeros(SIZE, np.uint8)
    cv2.ellipse(line, (60, 45), (40, 28), 10, 0, 350, 1, 1)
    return line.astype(bool)


@pytest.mark.parametrize(
    ("reason", "mask"),
    [
        ("inverted", framed(1)),
        ("inverted", framed(5)),
        ("open_line", gapped()),
        ("pieces", np.pad(np.random.default_rng(0).random((80, 110)) > 0.95, 5)),
        ("cut_away", np.pad(np.ones((88, 12), bool), ((1, 1), (0, 108)))),
        ("tiny", np.pad(np.ones((1, 1), bool), ((40, 49), (60, 59)))),
        ("tiny", np.pad(np.ones((3, 5), bool), ((40, 47), (60, 55)))),
    ],
)
def test_a_mask_of_an_odd_shape_needs_force(tmp_path: Path, reason: str, mask: np.ndarray) -> None:
    size = {"height": 90, "width": 110, "source_height": SIZE[0], "source_width": SIZE[1]}
    box = {"crop_x0": 10, "crop_y0": 0, "crop_x1": SIZE[1], "crop_y1": SIZE[0]}
    workspace = make_study(tmp_path, ["/raw/scan.png"], [frame_row(0, **size, **box)])
    labels = {"categories": [{"id": 1, "name": "fetal head"}]}
    counts = encode(mask)
    image = {"id": 1, "file_name": "scan.png", "height": SIZE[0], "width": SIZE[1]}
    entry = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": SIZE, "counts": counts},
    }
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(labels | {"images": [image], "annotations": [entry]}))
    assert import_masks(workspace, path, ImportOptions(dry_run=True)).refused == {reason: 1}
    assert import_masks(workspace, path, ImportOptions(force=True)).imported == 1


@pytest.mark.parametrize("kind", ["line", "two pieces", "small hole", "long bone"])
def test_shapes_that_are_rare_but_right_are_kept(tmp_path: Path, kind: str) -> None:
    mask = np.zeros(SIZE, np.uint8)
    if kind == "line":
        mask[40:42, 10:100] = 1
    if kind == "two pieces":
        mask[20:30, 10:30], mask[60:70, 80:110] = 1, 1
    if kind == "small hole":
        mask[20:60, 20:80] = 1
        mask[30:33, 30:33] = 0
    if kind == "long bone":
        cv2.line(mask, (10, 20), (100, 60), 1, 5)
    assert imported(tmp_path, mask * 255) == ([int(mask.sum())], "")


def test_a_speck_is_tiny_by_its_share_of_the_frame_and_the_smallest_real_box_is_not() -> None:
    frame = np.zeros((600, 800), bool)
    frame[300:304, 400:410] = True  # 40 pixels, 0.008 %
    assert oddity(frame, frame) == ("tiny", "40 pixels of 600 x 800")
    box = np.zeros((521, 631), bool)
    box[300:305, 400:417] = True  # a nasal tip of Shenzhen
    assert oddity(box, box) is None


def test_rows_read_as_columns_are_many_pieces() -> None:
    large = cv2.resize(head().astype(np.uint8), (480, 360)).astype(bool)
    assert oddity(large, large) is None
    rows = np.pad(large.ravel().reshape(large.shape, order="F")[1:-1, 1:-1], 1)
    assert (oddity(rows, rows) or ("",))[0] == "pieces"


@pytest.mark.parametrize(
    ("first", "second", "paints"),
    [(1, 2, "value 1 in 1, value 2 in 1"), (1, 255, "value 1 in 1, white or gray in 1"),
     ((255, 0, 0), (0, 255, 0), "green in 1, red in 1")],
)  # fmt: skip
def test_classes_that_are_spread_over_pictures_are_not_one_structure(
    tmp_path: Path, first: object, second: object, paints: str
) -> None:
    size = {"height": SIZE[0], "width": SIZE[1], "source_height": SIZE[0], "source_width": SIZE[1]}
    box = {"crop_x0": 0, "crop_y0": 0, "crop_x1": SIZE[1], "crop_y1": SIZE[0]}
    workspace = make_study(
        tmp_path,
        ["/raw/a.png", "/raw/b.png"],
        [frame_row(0, **size, **box), frame_row(1, **size, **box)],
    )
    for name, color in (("a", first), ("b", second)):
        shape = head()[..., None] * np.array(color, np.uint8)
        png(tmp_path / "masks" / f"{name}.png", np.squeeze(shape).astype(np.uint8))
    summary = import_masks(workspace, tmp_path / "masks", HEAD)
    assert (summary.imported, summary.refused) == (
        0,
        {"classes": 2},
    ) and paints in summary.examples[0]
    forced = import_masks(
        workspace, tmp_path / "masks", ImportOptions(structure="fetal head", force=True)
    )
    assert forced.imported == 2 and any(paints in remark for remark in forced.remarks)
    png(
        tmp_path / "masks" / "b.png",
        np.squeeze(head()[..., None] * np.array(first, np.uint8)).astype(np.uint8),
    )
    assert import_masks(workspace, tmp_path / "masks", HEAD).imported == 2
