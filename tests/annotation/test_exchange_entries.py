"""Files of other tools in the exchanged formats: each bad entry is refused, the others are used."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZipFile

import numpy as np
import pytest
from mask_studies import SOURCE, drawn, frame_row, make_study, png, stored
from PIL import Image

from sono.annotation.exchange.brush_rle import decode_brush, encode_brush
from sono.annotation.exchange.row_runs import row_runs, run_mask
from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace

HEIGHT, WIDTH = SOURCE
GOOD_POINTS = "8,10;30,10;30,16;8,16"
MANY_POINTS = ";".join(f"{x % 40},{x % 30}" for x in range(1_000_000))


def study(folder: Path) -> Workspace:
    """Two frames that are stored whole."""
    whole = {"height": HEIGHT, "width": WIDTH, "crop_x0": 0, "crop_y0": 0}
    rows = [frame_row(n, **whole, crop_x1=WIDTH, crop_y1=HEIGHT) for n in range(2)]
    return make_study(folder, ["/raw/a.png", "/raw/b.png"], rows)


# CVAT

MASK = 'label="femur" left="8" top="10" width="22" height="6"'


def cvat(*shapes: str, head: str = "", name: str = "b.png") -> bytes:
    good = f'<polygon label="femur" points="{GOOD_POINTS}"/>'
    image = f'width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'<?xml version="1.0"?>{head}<annotations><version>1.1</version>'
        f'<image id="0" name="a.png" {image}>{good}</image>'
        f'<image id="1" name="{name}" {image}>{"".join(shapes)}</image></annotations>'
    ).encode()


@pytest.mark.parametrize(
    "shape",
    [
        f'<polygon label="femur" points="{GOOD_POINTS}"/>',
        f'<mask {MASK} rle="0, 132"/>',
        '<box label="femur" xtl="8" ytl="10" xbr="30" ybr="16"/>',
        '<polygon label="femur" points="8,10;20,10;20,16;8,16" group_id="3"/>'
        '<polygon label="femur" points="20,10;30,10;30,16;20,16" group_id="3"/>',
    ],
)
def test_shapes_of_cvat_cover_the_same_pixels(tmp_path: Path, shape: str) -> None:
    workspace = study(tmp_path)
    (tmp_path / "a.xml").write_bytes(cvat(shape))
    assert import_masks(workspace, tmp_path / "a.xml").imported == 2
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


def test_the_parts_of_a_group_with_two_labels_are_two_masks(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    shapes = [
        '<polygon label="femur" points="8,10;20,10;20,16;8,16" group_id="3"/>',
        '<polygon label="humerus" points="20,10;30,10;30,16;20,16" group_id="3"/>',
    ]
    (tmp_path / "a.xml").write_bytes(cvat(*shapes))
    assert import_masks(workspace, tmp_path / "a.xml").imported == 3


def test_an_image_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(cvat(f'<mask {MASK} rle="0, 132"/>', name="a.png"))
    summary = import_masks(study(tmp_path), tmp_path / "a.xml")
    assert (summary.imported, summary.refused) == (0, {"two_pictures": 2})


BAD_CVAT = {
    f'<mask {MASK} rle="0, 131"/>': "sum to 131",
    f'<mask {MASK} rle="0, 999999999"/>': "sum to 999999999",
    f'<mask {MASK} rle="0, 9999999999999999999"/>': "not whole numbers",
    f'<mask {MASK} rle="-5, 137"/>': "not whole numbers",
    f'<mask {MASK} rle=""/>': "not whole numbers",
    f'<mask {MASK.replace("8", "-8", 1)} rle="0, 132"/>': "outside the picture",
    f'<mask {MASK.replace("22", "2200000")} rle="0, 132"/>': "outside the picture",
    f'<mask {MASK.replace("22", "nan")} rle="0, 132"/>': "not in whole pixels",
    f'<mask {MASK.replace("22", "0")} rle="0"/>': "outside the picture",
    f'<mask {MASK.replace("22", "x")} rle="0, 132"/>': "width is 'x'",
    '<mask label="femur" rle="0, 132"/>': "left is ''",
    '<polygon label="femur" points="8,10;nan,10;30,16"/>': "no finite number",
    '<polygon label="femur" points="8,10;1e9,10;30,16"/>': "no finite number",
    '<polygon label="femur" points="8,10;30;30,16"/>': "no list of numbers",
    '<polygon label="femur" points="-90,-90;-80,-90;-80,-80"/>': "",
    f'<polygon label="femur" points="{MANY_POINTS}"/>': "no outline of a structure",
    '<polygon label="femur"/>': "no list of numbers",
    f'<polygon points="{GOOD_POINTS}"/>': "without label",
    '<polyline label="femur" points="1,1;5,5"/>': "not an area",
    '<box label="femur" xtl="8" ytl="10" xbr="30" ybr="16" rotation="30"/>': "a turned box",
    '<box label="femur" xtl="8" ytl="10" xbr="30" ybr="16" rotation="abc"/>': "rotation is 'abc'",
    '<ellipse label="femur" cx="8" cy="10" rx="0" ry="5"/>': "half axes 0",
    '<ellipse label="femur" cx="8" cy="10" rx="inf" ry="5"/>': "half axes inf",
}


@pytest.mark.parametrize("number", range(len(BAD_CVAT)))
def test_a_bad_shape_of_cvat_is_refused_alone(tmp_path: Path, number: int) -> None:
    shape, words = list(BAD_CVAT.items())[number]
    (tmp_path / "a.xml").write_bytes(cvat(shape))
    summary = import_masks(study(tmp_path), tmp_path / "a.xml")
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert words in summary.examples[0]


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (cvat(head=BOMB, name="&c;"), "DOCTYPE"),
        (cvat(head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "DOCTYPE"),
        (cvat(head=BOMB).decode().encode("utf-16"), "DOCTYPE"),
        (cvat()[:-20], "not a complete XML"),
        (b"", "not a complete XML"),
        (b"<annotation><object/></annotation>", "an XML of <annotation>"),
        (b'<annotations><track id="0"/></annotations>', "for video"),
        (b'<?xml version="1.0" encoding="none"?><annotations/>', "not a complete XML"),
    ],
)
def test_an_xml_that_is_not_safe_or_not_cvat_is_an_error(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "a.xml").write_bytes(content.replace(b'version="1.0"?>', b'version="1.0"?>'))
    with pytest.raises(SonoError, match=words):
        import_masks(study(tmp_path), tmp_path / "a.xml")


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_zip_of_cvat_is_read_without_its_pictures(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    members = {"annotations.xml": cvat(f'<mask {MASK} rle="0, 132"/>'), "images/a.png": b"none"}
    path = zipped(tmp_path / "task_3.ZIP", members)
    assert import_masks(workspace, path).imported == 2
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"images/a.png": b"none"}, "no annotations.xml in it"),
        ({"annotations.xml": b"<annotations>"}, "not a complete XML"),
        ({"annotations.xml": cvat(head=BOMB, name="&c;")}, "DOCTYPE"),
        ({"annotations.xml": b" " * 3000}, "larger than"),
    ],
)
def test_another_zip_is_an_error(
    tmp_path: Path, members: dict[str, bytes], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sono.annotation.exchange.cvat.MAX_XML", 2000)
    path = zipped(tmp_path / "a.zip", members)
    with pytest.raises(SonoError, match=words) as caught:
        import_masks(study(tmp_path), path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0, 40, -30])
def test_a_damaged_zip_is_an_error(tmp_path: Path, place: int) -> None:
    path = zipped(tmp_path / "a.zip", {"annotations.xml": cvat()})
    content = bytearray(path.read_bytes())
    content[place : place + 12] = b"\xff" * 12
    for damaged in (content, content[: len(content) // 2], b""):
        path.write_bytes(bytes(damaged))
        with pytest.raises(SonoError, match=r"a\.zip"):
            import_masks(study(tmp_path / str(len(damaged))), path)


@pytest.mark.parametrize("method", [ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_a_zip_whose_compressed_text_is_damaged_is_an_error(tmp_path: Path, method: int) -> None:
    with ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("annotations.xml", cvat())
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[70:100] = b"\xff" * 30
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(SonoError, match=r"a\.zip: a ZIP that cannot be read"):
        import_masks(study(tmp_path), tmp_path / "a.zip")


def test_a_zip_with_two_lists_of_annotations_is_an_error(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("a.png", "b.png"):
            archive.writestr("annotations.xml", cvat(name=name))
    with pytest.raises(SonoError, match=r"2 files annotations\.xml in it"):
        import_masks(study(tmp_path), tmp_path / "a.zip")


# Label Studio


def region(kind: str, value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    labels = {f"{kind}labels": ["femur"]}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "r", "type": f"{kind}labels", "value": value | labels} | size | changes


def tasks(folder: Path, *regions: Any, **changes: Any) -> Path:
    path = folder / "tasks.json"
    good = region("polygon", {"points": percent([[8, 10], [30, 10], [30, 16], [8, 16]])})
    content = [
        {"data": {"image": f"/data/upload/3/1a2b3c4d-{name}.png"}, "annotations": [one | changes]}
        for name, one in (("a", {"result": [good]}), ("b", {"result": list(regions)}))
    ]
    path.write_text(json.dumps(content))
    return path


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def brush(**changes: Any) -> dict[str, Any]:
    return region("brush", {"format": "rle", "rle": encode_brush(drawn())} | changes)


BOX = {"x": 20, "y": 100 / 3, "width": 55, "height": 20}


@pytest.mark.parametrize("one", [brush(), region("rectangle", BOX)])
def test_regions_of_label_studio_cover_the_same_pixels(tmp_path: Path, one: Any) -> None:
    workspace = study(tmp_path)
    assert import_masks(workspace, tasks(tmp_path, one)).imported == 2
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


CODE = encode_brush(drawn())
BAD_REGIONS: dict[str, tuple[Any, str]] = {
    "cut": (brush(rle=CODE[:-3]), "ends too early"),
    "empty": (brush(rle=[]), "ends too early"),
    "huge": (brush(rle=[255, 255, 255, 255, *CODE[4:]]), "4294967295 words"),
    "small": (brush(rle=[0, 0, 0, 4, *CODE[4:]]), "a brush of 4 words"),
    "text": (brush(rle="0101"), "without its list of bytes"),
    "large": (brush(rle=[999]), "not a list of bytes"),
    "negative": (brush(rle=[-1]), "not a list of bytes"),
    "overrun": (brush(rle=[*CODE[:7], 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), ""),
    "format": (brush(format="png"), "in the format 'png'"),
    "labels": (region("brush", {}) | {"value": {"brushlabels": ["a", "b"]}}, "2 labels"),
    "no value": ({"type": "brushlabels"}, "missing or damaged"),
    "no size": (brush() | {"original_width": None}, "are 30 and None"),
    "bool size": (brush() | {"original_width": True}, "are 30 and True"),
    "other size": (brush() | {"original_width": 41}, "30 x 41"),
    "rotated": (brush() | {"image_rotation": 90}, "turned picture"),
    "key points": (region("keypoint", {"x": 1, "y": 2}), "not an area"),
    "nan": (region("polygon", {"points": [[1, 1], [float("nan"), 2], [3, 3]]}), "no finite"),
    "flat": (region("polygon", {"points": [1, 2, 3, 4]}), "not 3 or more points"),
    "missing": (region("rectangle", {"x": 1}), ""),
    "not a region": (7, ""),
}


@pytest.mark.parametrize("name", BAD_REGIONS)
def test_a_bad_region_of_label_studio_is_refused_alone(tmp_path: Path, name: str) -> None:
    one, words = BAD_REGIONS[name]
    summary = import_masks(study(tmp_path), tasks(tmp_path, one))
    assert (summary.imported, sum(summary.refused.values())) == (1, 1)
    assert words in summary.examples[0]


def test_what_was_canceled_is_refused(tmp_path: Path) -> None:
    summary = import_masks(study(tmp_path), tasks(tmp_path, brush(), was_cancelled=True))
    assert (summary.imported, summary.refused) == (0, {"broken": 2})
    with pytest.raises(SonoError, match="nothing was imported"):
        summary.refuse_nothing()


@pytest.mark.parametrize("seed", range(8))
def test_brushes_give_back_every_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((random.integers(1, 400), random.integers(1, 300))) < seed / 7
    numbers = encode_brush(mask)
    assert all(0 <= number < 256 for number in numbers)
    np.testing.assert_array_equal(decode_brush(numbers, mask.shape), mask)


def test_a_brush_written_word_by_word_is_read() -> None:
    """Blocks of different words, which begin inside a byte."""
    words = [0, 0, 0, 255, 9, 8, 7, 0, 1, 2, 3, 4]  # RGBA of three pixels
    bits = f"{12:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    bits += f"000{7:03b}" + "".join(f"{word:08b}" for word in words[:8])
    bits += f"001{3:04b}" + "".join(f"{word:08b}" for word in words[8:])
    bits += "0" * (-len(bits) % 8)
    numbers = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert decode_brush(numbers, (1, 3)).tolist() == [[True, False, True]]


@pytest.mark.parametrize("seed", range(4))
def test_runs_of_rows_give_back_every_bit(seed: int) -> None:
    part = np.random.default_rng(seed).random((7, 9)) < 0.3 * seed
    whole = np.zeros((20, 30), np.bool_)
    whole[3:10, 5:14] = part
    np.testing.assert_array_equal(run_mask(row_runs(part), (5, 3, 9, 7), (20, 30)), whole)


# LabelMe


def labelme(folder: Path, *shapes: dict[str, Any]) -> Path:
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None}
    good = {"label": "femur", "points": [[8, 10], [30, 10], [30, 16], [8, 16]]}
    for name, own in (("a", [good]), ("b", list(shapes))):
        content = {"shapes": own, "imagePath": f"{name}.png"} | size
        (folder / "given").mkdir(exist_ok=True)
        (folder / f"given/{name}.json").write_text(json.dumps(content))
    return folder / "given"


def picture(part: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(part).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def hollow_png(side: int) -> str:
    """The base64 of a small PNG whose header gives it many pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"IDAT", b"IEND"]
    parts = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def mask_shape(**changes: Any) -> dict[str, Any]:
    one = {"label": "femur", "shape_type": "mask", "points": [[8, 10], [29, 15]]}
    return one | {"mask": picture(np.ones((6, 22), np.bool_))} | changes


def test_a_mask_of_labelme_covers_its_box(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    assert import_masks(workspace, labelme(tmp_path, mask_shape())).imported == 2
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


def test_polygons_of_one_group_are_one_mask(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    parts = [
        {"label": "femur", "points": [[x, 10], [x + 6, 10], [x + 6, 16], [x, 16]], "group_id": 1}
        for x in (8, 20)
    ]
    assert import_masks(workspace, labelme(tmp_path, *parts)).imported == 2
    assert sorted(int(mask.sum()) for mask in stored(workspace)) == [72, 132]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask": None}, "without its picture"),
        ({"mask": "%%%"}, "not a complete PNG"),
        ({"mask": picture(np.ones((6, 22), np.bool_))[:60]}, "not a complete PNG"),
        ({"mask": hollow_png(60_000)}, "not a complete PNG"),
        ({"mask": hollow_png(12_000)}, "12000 x 12000 pixels in a box of 22 x 6"),
        ({"mask": picture(np.ones((5, 22), np.bool_))}, "22 x 5 pixels in a box of 22 x 6"),
        ({"points": [[-1, 10], [20, 15]]}, "outside the picture"),
        ({"points": [[8, 10], [40, 15]]}, "outside the picture"),
        ({"points": [[8, 10], [7, 15]]}, "outside the picture"),
        ({"points": [[8, 10], [float("nan"), 15]]}, "no finite number"),
        ({"points": [[8, 10]]}, "not 2 or more"),
        ({"shape_type": "line"}, "not an area"),
    ],
)
def test_a_bad_mask_of_labelme_is_refused_alone(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    summary = import_masks(study(tmp_path), labelme(tmp_path, mask_shape(**changes)))
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert words in summary.examples[0]


def test_the_message_on_a_damaged_png_names_no_object_in_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(base64.b64decode(hollow_png(0)))
    summary = import_masks(study(tmp_path), tmp_path / "a.png", ImportOptions(structure="femur"))
    assert summary.refused == {"broken": 1} and "not a complete PNG" in summary.examples[0]
    assert "BytesIO" not in summary.examples[0]


# YOLO


def yolo(folder: Path, *lines: str, names: str = "{0: femur}") -> Path:
    top = folder / "given"
    (top / "labels").mkdir(parents=True)
    (top / "data.yaml").write_text(f"names: {names}\n")
    ring = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in ((8, 10), (30, 10), (30, 16), (8, 16)))
    (top / "labels/a.txt").write_text(f"0 {ring}\n")
    (top / "labels/b.txt").write_text("\n".join(lines))
    return top


def test_polygons_and_boxes_of_yolo_cover_the_same_pixels(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    box = f"0 {19 / WIDTH} {13 / HEIGHT} {22 / WIDTH} {6 / HEIGHT}"
    summary = import_masks(workspace, yolo(tmp_path, box, names="[femur]"))
    assert summary.sources == {"box": 1, "import": 1}
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 0.2 0.3 0.5 0.3 0.5 0.6", "class '1' has no name"),
        ("-1 0.2 0.3 0.5 0.3 0.5 0.6", "class '-1'"),
        ("femur 0.2 0.3 0.5 0.3 0.5 0.6", "class 'femur'"),
        ("0 0.2 0.3 0.5 0.3 0.5", "5 numbers"),
        ("0", "0 numbers"),
        ("0 0.2 0.3 nan 0.3 0.5 0.6", "no finite number"),
        ("0 0.2 0.3 x 0.3 0.5 0.6", "no list of numbers"),
        ("0 8 10 30 10 30 16", "no fractions"),
        ("0 0.2 0.3 0 0", "no area"),
        (f"0 {'0.2 0.3 0.5 0.6 ' * 250_000}", "no outline of a structure"),
    ],
)
def test_a_bad_line_of_yolo_is_refused_alone(tmp_path: Path, line: str, words: str) -> None:
    summary = import_masks(study(tmp_path), yolo(tmp_path, line))
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert words in summary.examples[0]


@pytest.mark.parametrize(
    "names",
    ["{0: femur, 0: humerus}", "{0: 1}", "femur", "[[a]]", "{x: femur}", "&a [*a]", "{a: [", ""],
)
def test_yolo_without_names_is_an_error(tmp_path: Path, names: str) -> None:
    with pytest.raises(SonoError, match=r"data\.yaml"):
        import_masks(study(tmp_path), yolo(tmp_path, names=names))


def test_a_yolo_text_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    top = yolo(tmp_path, "0 0.5 0.5 0.2 0.2")
    text = (top / "labels/b.txt").rename(tmp_path / "b.txt")
    (top / "labels/b.txt").symlink_to(text)
    summary = import_masks(study(tmp_path), top)
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert "leads out of" in summary.examples[0]


# Legends and label images


def listed(folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    top = folder / "given"
    values = drawn().astype(np.uint8) * 3
    png(top / "a.png", values)
    png(top / "b.png", values)
    entries = [
        {"file": f"{name}.png", "picture": f"{name}.png", "structure": "femur", "value": 3}
        for name in "ab"
    ]
    change(entries)
    (top / "legend.json").write_text(json.dumps({"masks": entries}))
    return top


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one[1].update(file="../a.png"), "leads out"),
        (lambda one: one[1].update(file="/etc/passwd"), "leads out"),
        (lambda one: one[1].update(file="..\\a.png"), "leads out"),
        (lambda one: one[1].update(file="missing.png"), "cannot be read"),
        (lambda one: one[1].update(file="legend.json"), ""),
        (lambda one: one[1].update(file="\ud800.png"), "damaged"),
        (lambda one: one[1].update(file="b" * 5000), ""),
        (lambda one: one[1].update(value=4), "no pixel"),
        (lambda one: one[1].update(value="3"), "is no value"),
        (lambda one: one[1].update(value=True), "is no value"),
        (lambda one: one[1].update(value=None, color="red"), "no color"),
        (lambda one: one[1].pop("structure"), "without file, picture or structure"),
        (lambda one: one[1].update(file=7), "without file, picture or structure"),
        (lambda one: one.__setitem__(1, "b"), "without file, picture or structure"),
        (lambda one: one.__setitem__(1, dict(one[0])), "the second mask"),
    ],
)
def test_a_bad_entry_of_a_legend_is_refused_alone(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    summary = import_masks(study(tmp_path), listed(tmp_path, change))
    assert (summary.imported, summary.refused) == (1, {"broken": 1})
    assert words in summary.examples[0]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    top = listed(tmp_path, lambda one: None)
    (top / "b.png").rename(tmp_path / "b.png")
    (top / "b.png").symlink_to(tmp_path / "b.png")
    summary = import_masks(study(tmp_path), top)
    assert (summary.imported, summary.refused) == (1, {"broken": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("legend.json", '{"3": "femur"}'),
        ("legend.json", '{"labels": [{"id": 3, "name": "femur"}]}'),
        ("legend.csv", "value,structure\n0,background\n3,femur\n"),
        ("legend.csv", "Color,Class\n#c81e1e,femur\n"),
    ],
)
def test_a_legend_names_the_values_of_all_pictures(tmp_path: Path, name: str, text: str) -> None:
    values = drawn().astype(np.uint8) * 3
    if "#" in text:
        values = drawn()[..., None] * np.array([0xC8, 0x1E, 0x1E], np.uint8)
    for one in "ab":
        png(tmp_path / f"given/{one}.png", values)
    (tmp_path / "given" / name).write_text(text)
    workspace = study(tmp_path)
    assert import_masks(workspace, tmp_path / "given").structures == {"femur": 2}
    for mask in stored(workspace):
        np.testing.assert_array_equal(mask, drawn())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("legend.json", "[7]"),
        ("legend.json", "5"),
        ("legend.json", "null"),
        ("legend.json", "true"),
        ("legend.json", "{"),
        ("legend.json", '{"3": "femur", "#ff0000": "humerus"}'),
        ("legend.json", '{"x": "femur"}'),
        ("legend.json", '{"3": 7}'),
        ("legend.csv", "value,structure\n3,femur\n3,humerus\n"),
        ("legend.csv", ""),
    ],
)
def test_an_unclear_legend_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    png(tmp_path / "given/a.png", drawn().astype(np.uint8) * 3)
    (tmp_path / "given" / name).write_text(text)
    with pytest.raises(SonoError, match="legend"):
        import_masks(study(tmp_path), tmp_path / "given")


def test_an_option_replaces_the_legend(tmp_path: Path) -> None:
    top = listed(tmp_path, lambda one: None)
    (top / "legend.csv").write_text("damaged")
    workspace = study(tmp_path)
    summary = import_masks(workspace, top, ImportOptions(values={3: "humerus"}))
    assert (summary.structures, summary.refused) == ({"humerus": 2}, {})


def nrrd(folder: Path, head: dict[str, str], *segments: str, values: Any = None) -> Path:
    path = folder / "given/b.seg.nrrd"
    path.parent.mkdir(exist_ok=True)
    data = drawn().astype(np.uint8) if values is None else values
    fields = {
        "type": "unsigned char", "dimension": "3", "sizes": f"{WIDTH} {HEIGHT} 1",
        "kinds": "domain domain domain", "encoding": "raw",
    } | head  # fmt: skip
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items()), *segments]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + data.tobytes())
    return path.parent


FEMUR = ("Segment0_Name:=femur", "Segment0_LabelValue:=1", "Segment0_Layer:=0")


def test_a_segment_of_slicer_is_read(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    assert import_masks(workspace, nrrd(tmp_path, {}, *FEMUR)).imported == 1
    np.testing.assert_array_equal(stored(workspace)[0], drawn())


@pytest.mark.parametrize(
    ("head", "segments"),
    [
        ({"sizes": f"{WIDTH} {HEIGHT} 9"}, FEMUR),
        ({"sizes": "999999999 999999999 1"}, FEMUR),
        ({"sizes": f"-{WIDTH} {HEIGHT} 1"}, FEMUR),
        ({"sizes": f"{WIDTH} {HEIGHT}"}, FEMUR),
        ({"sizes": f"{HEIGHT} {WIDTH} 1"}, FEMUR),
        ({"type": "float"}, FEMUR),
        ({"encoding": "gzip"}, FEMUR),
        ({"data file": "/etc/passwd"}, FEMUR),
        ({}, (FEMUR[0], "Segment0_LabelValue:=2")),
        ({}, (FEMUR[0], "Segment0_LabelValue:=-1")),
        ({}, (FEMUR[0], "Segment0_LabelValue:=\u00b2")),
        ({}, (FEMUR[0], "Segment0_Layer:=\u00b2")),
        ({}, (FEMUR[0], f"Segment0_LabelValue:={'9' * 5000}")),
        ({}, (*FEMUR, "Segment0_Name:=humerus")),
        ({}, (FEMUR[0], "Segment0_LabelValue:=1", "Segment0_Layer:=7")),
        ({}, ()),
    ],
)
def test_a_bad_segmentation_is_refused(
    tmp_path: Path, head: dict[str, str], segments: tuple[str, ...]
) -> None:
    summary = import_masks(study(tmp_path), nrrd(tmp_path, head, *segments))
    assert summary.imported == 0
    assert sum(summary.refused.values()) == 1
    assert "/etc/passwd" not in summary.examples[0]


def mha(folder: Path, values: Any = None, **changes: str) -> Path:
    facts = {
        "ObjectType": "Image", "NDims": "2", "BinaryData": "True", "CompressedData": "True",
        "DimSize": f"{WIDTH} {HEIGHT}", "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
    } | changes  # fmt: skip
    path = folder / "given/b.mha"
    path.parent.mkdir(exist_ok=True)
    body = zlib.compress((drawn().astype(np.uint8) if values is None else values).tobytes())
    lines = "".join(f"{name} = {text}\n" for name, text in facts.items())
    path.write_bytes(lines.encode() + body)
    return path.parent


@pytest.mark.parametrize("option", [{"values": {1: "femur"}}, {"structure": "femur"}])
def test_a_label_image_is_read_by_value_or_structure(tmp_path: Path, option: Any) -> None:
    workspace = study(tmp_path)
    import_masks(workspace, mha(tmp_path), ImportOptions(**option))
    np.testing.assert_array_equal(stored(workspace)[0], drawn())


def test_values_name_the_classes_of_a_single_label_image(tmp_path: Path) -> None:
    workspace, options = study(tmp_path), ImportOptions(values={1: "femur"})
    assert import_masks(workspace, mha(tmp_path) / "b.mha", options).imported == 1
    np.testing.assert_array_equal(stored(workspace)[0], drawn())
    with pytest.raises(SonoError, match="--value are for pictures"):
        import_masks(workspace, nrrd(tmp_path, {}, *FEMUR) / "b.seg.nrrd", options)


@pytest.mark.parametrize("high", [2**31, 2**32 + 1, -(2**32) + 1])
def test_values_that_do_not_fit_are_refused_and_do_not_become_others(
    tmp_path: Path, high: int
) -> None:
    path = mha(tmp_path, drawn().astype(np.int64) * high, ElementType="MET_LONG_LONG")
    summary = import_masks(study(tmp_path), path, ImportOptions(values={1: "femur"}))
    assert (summary.imported, summary.refused) == (0, {"broken": 1})
    assert str(high) in summary.examples[0]


def test_negative_values_are_no_part_of_a_shape(tmp_path: Path) -> None:
    values = np.where(drawn(), 1, -200).astype(np.int16)
    path = mha(tmp_path, values, ElementType="MET_SHORT")
    workspace = study(tmp_path)
    import_masks(workspace, path, ImportOptions(structure="femur"))
    np.testing.assert_array_equal(stored(workspace)[0], drawn())


@pytest.mark.parametrize(
    "changes",
    [
        {"DimSize": f"{WIDTH} 99999"},
        {"DimSize": "0 0"},
        {"DimSize": f"{WIDTH} {HEIGHT} 2", "NDims": "3"},
        {"ElementType": "MET_FLOAT"},
        {"ElementDataFile": "/etc/passwd"},
        {"CompressedData": "False"},
    ],
)
def test_a_bad_label_image_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    options = ImportOptions(values={1: "femur"})
    summary = import_masks(study(tmp_path), mha(tmp_path, **changes), options)
    assert (summary.imported, summary.refused) == (0, {"broken": 1})
