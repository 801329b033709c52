"""The formats that masks are written in, by name."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from sono.annotation.exchange import coco_export, cvat, label_studio
from sono.annotation.exchange.frames import Content
from sono.annotation.exchange.label_images import write_segmentations
from sono.annotation.exchange.labelme_export import write_labelme
from sono.annotation.exchange.picture_folders import write_pictures
from sono.annotation.exchange.yolo import write_yolo

FormatName = Literal[
    "coco", "coco-polygons", "cvat", "cvat-polygons", "label-studio", "label-studio-polygons",
    "labelme", "labelme-polygons", "png-binary", "png-indexed", "png-color", "nrrd", "mha", "yolo",
]  # fmt: skip


class Format(NamedTuple):
    """How a format is written: a file that begins with `start`, or a folder (None).

    `exact`: every mask is read back as it is; otherwise holes are lost. `states`: the attributes of
    masks are kept.
    """

    write: Callable[[Content, Path], None]
    start: bytes | None = None
    exact: bool = True
    states: bool = True


FORMATS: Mapping[FormatName, Format] = MappingProxyType(
    {
        "coco": Format(coco_export.write_coco, coco_export.START),
        "coco-polygons": Format(
            partial(coco_export.write_coco, polygons=True), coco_export.START, exact=False
        ),
        "cvat": Format(cvat.write_cvat, cvat.START),
        "cvat-polygons": Format(partial(cvat.write_cvat, polygons=True), cvat.START, exact=False),
        "label-studio": Format(label_studio.write_label_studio, label_studio.START),
        "label-studio-polygons": Format(
            partial(label_studio.write_label_studio, polygons=True), label_studio.START, exact=False
        ),
        "labelme": Format(write_labelme),
        "labelme-polygons": Format(partial(write_labelme, polygons=True), exact=False),
        "png-binary": Format(partial(write_pictures, kind="binary")),
        "png-indexed": Format(partial(write_pictures, kind="indexed")),
        "png-color": Format(partial(write_pictures, kind="color")),
        "nrrd": Format(write_segmentations),
        "mha": Format(partial(write_pictures, kind="mha")),
        "yolo": Format(write_yolo, exact=False, states=False),
    }
)
