"""CVAT for images 1.1: masks as runs by rows inside their box, polygons, boxes and ellipses."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, ParseError, SubElement, TreeBuilder, XMLParser, tostring
from zipfile import ZipFile

import numpy as np

from sono.annotation.exchange.foreign_masks import (
    DAMAGED,
    ForeignMask,
    Found,
    Picture,
    Size,
    check_size,
    read_file,
)
from sono.annotation.exchange.frames import (
    ATTRIBUTES,
    DESCRIPTION,
    Content,
    ExportFrame,
    ExportMask,
    as_texts,
    from_texts,
)
from sono.annotation.exchange.grouped import Shape, add_grouped
from sono.annotation.exchange.rings import polygons_of
from sono.annotation.exchange.row_runs import row_runs, run_mask
from sono.annotation.exchange.shapes import draw_box, draw_ellipse, draw_polygons, points_of
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import open_regular, real_path
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import bounding_box

START = f'<?xml version="1.0" encoding="utf-8"?>\n<!-- {DESCRIPTION}'.encode()
MAX_XML = 1 << 28  # bytes: the elements of a file take many times as much memory
ZIPPED = "annotations.xml"  # in the ZIP that CVAT hands out
AREAS = ("mask", "polygon", "box", "ellipse")
OTHERS = ("polyline", "points", "cuboid", "skeleton", "tag")


class _Builder(TreeBuilder):
    def doctype(self, *_: Any) -> NoReturn:
        """Refuse a document type: it may define entities that grow without limit."""
        raise SonoError("a DOCTYPE, which CVAT does not write; export the annotations again")


def read_cvat(path: Path, found: Found) -> None:
    """Add the shapes of a CVAT XML, or of the one in a ZIP of CVAT, to `found`.

    A bad shape is refused. Raises SonoError for a file that is damaged, has a DOCTYPE, or is of
    another kind.
    """
    root = _parsed(path)
    if root.tag != "annotations" or root.find("track") is not None:
        what = "a CVAT XML for video" if root.tag == "annotations" else f"an XML of <{root.tag}>"
        raise SonoError(f"{path}: {what[:80]}; export as 'CVAT for images 1.1'")
    folder = str(real_path(path).parent)
    for number, image in enumerate(root.iter("image")):
        place = f"{path}: image {number}"
        name, size = image.get("name", ""), (_side(image, "height"), _side(image, "width"))
        if not name or not all(size):
            found.refuse("broken", place, "an image without name, width or height")
            continue
        picture = Picture(name, place, folder)
        found.pictures.append(picture)
        add_grouped(_shapes(image, picture, (int(size[0]), int(size[1])), place, found), found)


def _zipped(path: Path) -> bytes:
    """The annotations in a ZIP as CVAT writes it; its pictures are not read."""
    advice = f"give a ZIP of CVAT with {ZIPPED} in it, or that file"
    try:
        with (
            open_regular(path) as file,
            ZipFile(file) as archive,
        ):
            count = archive.namelist().count(ZIPPED)
            if count != 1:
                what = f"{count} files {ZIPPED}" if count else f"no {ZIPPED}"
                raise SonoError(f"{what} in it; {advice}")
            with archive.open(ZIPPED) as stream:
                content = stream.read(MAX_XML + 1)
    except (*DAMAGED, RuntimeError) as error:
        raise SonoError(f"a ZIP that cannot be read ({error}); {advice}") from error
    if len(content) > MAX_XML:
        raise SonoError(f"{ZIPPED} is larger than {MAX_XML >> 20} MB; export a part of the task")
    return content


def _parsed(path: Path) -> Element:
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(_zipped(path) if path.suffix.lower() == ".zip" else read_file(path, MAX_XML))
        root = parser.close()
    except (ParseError, ValueError, LookupError) as error:
        raise SonoError(f"{path}: not a complete XML ({error}); export it again") from error
    except SonoError as error:
        raise SonoError(f"{path}: {error}") from error
    assert isinstance(root, Element)
    return root


def _side(image: Element, name: str) -> int:
    """A side in pixels; 0 if it is none."""
    text = image.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _shapes(
    image: Element, picture: Picture, size: Size, place: str, found: Found
) -> Iterator[Shape]:
    for number, shape in enumerate(one for one in image if one.tag in AREAS + OTHERS):
        where = f"{place}, {shape.tag} {number}"
        label = shape.get("label")
        if shape.tag in OTHERS or label is None:
            what = "without label" if label is None else "is not an area; draw a polygon or mask"
            found.refuse("broken", where, f"a shape '{shape.tag}' {what}")
            continue
        texts = {str(one.get("name")): (one.text or "") for one in shape.iter("attribute")}
        mask = ForeignMask(
            picture,
            label,
            size,
            where,
            partial(_pixels, shape),
            "box" if shape.tag == "box" else "import",
            exported=from_texts(texts),
        )
        group = shape.get("group_id", "0")
        yield Shape(mask, None if group in ("", "0") or shape.tag != "polygon" else group)


def _pixels(shape: Element, size: Size) -> Mask:
    check_size(size)
    if shape.tag == "mask":
        box = [_number(shape, name) for name in ("left", "top", "width", "height")]
        return run_mask(_runs(shape.get("rle", "")), box, size)
    if shape.tag == "polygon":
        points = [pair.split(",") for pair in shape.get("points", "").split(";")]
        return draw_polygons([points_of(points, 3).ravel()], size)
    if shape.get("rotation") and _number(shape, "rotation"):
        raise SonoError(f"a turned {shape.tag}; draw a polygon or mask")
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return draw_box(left, top, right, bottom, size)
    x, y, across, down = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
    return draw_ellipse(x, y, across, down, size)


def _number(shape: Element, name: str) -> float:
    try:
        return float(shape.get(name, ""))
    except ValueError as error:
        raise SonoError(f"{name} is '{shape.get(name, '')[:40]}', not a number") from error


def _runs(text: str) -> list[int]:
    runs = [part.strip() for part in text.split(",")]
    if not all(run.isascii() and run.isdigit() and len(run) < 10 for run in runs):
        raise SonoError("run lengths that are not whole numbers; export it again")
    return [int(run) for run in runs]


def write_cvat(content: Content, target: Path, polygons: bool = False) -> None:
    """Write all frames and masks as CVAT XML for images."""
    frames = 0
    with target.open("w", encoding="utf-8") as file:
        file.write(f"{START.decode()} -->\n<annotations>\n<version>1.1</version>\n")
        file.write(_text(_labels(content.structures)))
        for frames, frame in enumerate(content.frames, start=1):
            file.write(_text(_image(frames - 1, frame, content, polygons)))
        file.write("</annotations>\n")


def _labels(structures: tuple[str, ...]) -> Element:
    meta = Element("meta")
    labels = SubElement(SubElement(meta, "task"), "labels")
    for name in structures:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        attributes = SubElement(label, "attributes")
        for one in ATTRIBUTES:
            attribute = SubElement(attributes, "attribute")
            facts = {"name": one, "mutable": "False", "input_type": "text", "default_value": ""}
            for tag, text in {**facts, "values": ""}.items():
                SubElement(attribute, tag).text = text
    return meta


def _image(number: int, frame: ExportFrame, content: Content, polygons: bool) -> Element:
    height, width = map(str, frame.size)
    image = Element("image", id=str(number), name=frame.name, width=width, height=height)
    for order, mask in enumerate(frame.masks):
        shapes = _polygons(mask, order, content) if polygons else [_mask(mask, order)]
        for shape in shapes:
            for name, text in as_texts(mask.attributes).items():
                SubElement(shape, "attribute", name=name).text = text
            image.append(shape)
    return image


def _mask(mask: ExportMask, order: int) -> Element:
    left, top, width, height = bounding_box(mask.pixels)
    runs = row_runs(mask.pixels[top : top + height, left : left + width])
    box = {"left": left, "top": top, "width": width, "height": height}
    facts = {"label": mask.structure, "source": "manual", "occluded": "0"}
    where = {name: str(number) for name, number in box.items()}
    return Element("mask", facts, rle=", ".join(map(str, runs)), **where, z_order=str(order))


def _polygons(mask: ExportMask, order: int, content: Content) -> Iterator[Element]:
    facts = {"label": mask.structure, "source": "manual", "occluded": "0", "z_order": str(order)}
    rings = polygons_of(mask, content)
    group = {"group_id": str(order + 1)} if len(rings) > 1 else {}
    for ring in rings:
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in np.asarray(ring))
        yield Element("polygon", facts, points=points, **group)


def _text(element: Element) -> str:
    return tostring(element, "unicode") + "\n"
