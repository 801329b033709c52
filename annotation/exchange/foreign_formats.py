"""Names of files and JSON contents of other tools that `sono masks import` does not read."""

import re
from typing import Any

from sono.curation.readers.containers import format_of
from sono.curation.readers.dicom import is_dicom
from sono.curation.readers.images import image_kind

HEAD = 4096  # bytes that show what a text is
_XML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<")
# a class number, then 4 or more fractions
_YOLO = re.compile(rb"\s*\d+(?:[ \t]+(?:0?\.\d+|[01](?:\.0*)?)){4,}\s*?(?:\r?\n|$)")


def file_format(raw: bytes) -> str:
    """What the bytes of a file are; "" for a text of an unknown kind."""
    if not raw.strip(b"\0 \t\r\n"):
        return "an empty file"
    if is_dicom(raw):
        return "a DICOM file (segmentations in DICOM are not read)"
    kind = image_kind(raw)
    if kind is not None and kind != "other":
        return f"a {kind.upper()} picture"
    if (known := format_of(raw)) is not None:
        return known.name
    return _text_format(raw[:HEAD])


def _text_format(head: bytes) -> str:
    """What the start of a text is; "" for an unknown kind."""
    if _YOLO.match(head):
        return "a YOLO text (fractions of the picture)"
    if not _XML.match(head):
        return ""
    if b"<annotations" in head:
        return "a CVAT XML"
    return "a Pascal VOC XML (boxes)" if b"<annotation" in head else "an XML"


def json_format(content: Any) -> str:
    """What JSON content of another tool is; "" for anything unknown."""
    keys = content.keys() if isinstance(content, dict) else set()
    first = next(iter(content), None) if isinstance(content, list) else None
    inner = next(iter(content.values()), None) if isinstance(content, dict) else None
    first_keys = first.keys() if isinstance(first, dict) else set()
    kinds = {
        "VGG Image Annotator": "_via_img_metadata" in keys
        or (isinstance(inner, dict) and {"filename", "regions"} <= inner.keys()),
        "COCO results without images and categories": {"image_id", "category_id"} <= first_keys,
        "Datumaro": {"categories", "items"} <= keys,
        "GeoJSON": content["type"] in ("Feature", "FeatureCollection") if "type" in keys else False,
        "Supervisely": {"objects", "size"} <= keys,
        "Labelbox": "data_row" in first_keys or "data_row" in keys,
    }
    return next((name for name, fits in kinds.items() if fits), "")
