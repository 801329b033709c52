"""Folders of mask pictures with a legend: one file a mask, values, colors, or MetaImage labels."""

from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from sono.annotation.exchange.frames import DESCRIPTION, Content, ExportFrame, json_text, place_of
from sono.annotation.exchange.label_images import MAX_LABELS, meta_image
from sono.annotation.exchange.layers import Layer, layers_of, painted
from sono.annotation.exchange.legends import LEGENDS
from sono.annotation.exchange.palette import color_of
from sono.curation.core.errors import SonoError

Kind = Literal["binary", "indexed", "color", "mha"]


def write_pictures(content: Content, target: Path, kind: Kind) -> None:
    """Write the pictures and legend.json, which lists every mask with its file.

    Masks that overlap in a frame are in several files, whose names end with _layer2 and so on.
    """
    if kind != "binary" and len(content.structures) > MAX_LABELS:
        raise SonoError(f"more than {MAX_LABELS} structures; export as png-binary or COCO")
    listed: list[dict[str, Any]] = []
    layered = 0
    for frame in content.frames:
        if kind == "binary":
            listed += _separate(frame, target)
            continue
        layers = layers_of(frame.masks, by_structure=True)
        layered += len(layers) > 1
        for number, layer in enumerate(layers, start=1):
            stem = frame.stem + (f"_layer{number}" if number > 1 else "")
            listed += _layer(frame, layer, content, place_of(target, stem, _suffix(kind)), kind)
    if layered:
        content.remarks.append(
            f"{layered} frames have several pictures (_layer2 ...), because their masks overlap or "
            "a structure has several masks; legend.json names the file of each"
        )
    labels = [
        {"value": number + 1, "color": _hex(number), "structure": name}
        for number, name in enumerate(content.structures)
    ]
    for one in listed:
        one["file"] = Path(one["file"]).relative_to(target).as_posix()
    legend = {"info": {"description": DESCRIPTION}, "labels": labels, "masks": listed}
    (target / LEGENDS[0]).write_text(json_text(legend), encoding="utf-8")


def _suffix(kind: Kind) -> str:
    return ".mha" if kind == "mha" else ".png"


def _hex(number: int) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color_of(number))


def _entry(frame: ExportFrame, path: Path, structure: str, attributes: Any) -> dict[str, Any]:
    facts = {"file": str(path), "picture": frame.name, "structure": structure}
    return {**facts, "attributes": dict(attributes)}


def _separate(frame: ExportFrame, target: Path) -> list[dict[str, Any]]:
    """One black and white picture for each mask."""
    listed = []
    for number, mask in enumerate(frame.masks, start=1):
        name = f"{frame.stem}_{mask.structure.replace(' ', '-').replace('/', '-')}_{number}"
        path = place_of(target, str(PurePosixPath(name)), ".png")
        Image.fromarray(np.where(mask.pixels, 255, 0).astype(np.uint8)).save(path)
        listed.append(_entry(frame, path, mask.structure, mask.attributes))
    return listed


def _layer(
    frame: ExportFrame, layer: Layer, content: Content, path: Path, kind: Kind
) -> list[dict[str, Any]]:
    numbers = [content.structures.index(mask.structure) for mask in layer]
    values = painted(layer, [number + 1 for number in numbers], "uint8")
    if kind == "mha":
        path.write_bytes(meta_image(values, frame.spacing_mm))
    else:
        picture = Image.fromarray(values, "P")
        picture.putpalette([0, 0, 0, *(c for n in range(MAX_LABELS) for c in color_of(n))])
        (picture.convert("RGB") if kind == "color" else picture).save(path)
    key = "color" if kind == "color" else "value"
    return [
        {
            **_entry(frame, path, mask.structure, mask.attributes),
            key: _hex(number) if kind == "color" else number + 1,
        }
        for mask, number in zip(layer, numbers, strict=True)
    ]
