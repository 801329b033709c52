"""Label images of MetaImage (.mha) and segmentations of NRRD (.seg.nrrd, 3D Slicer)."""

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.foreign_masks import (
    ForeignMask,
    Found,
    Picture,
    check_size,
    read_file,
    reading,
)
from sono.annotation.exchange.frames import (
    ATTRIBUTES,
    DESCRIPTION,
    Content,
    ExportFrame,
    ExportMask,
    as_texts,
    from_texts,
    place_of,
)
from sono.annotation.exchange.layers import Layer, layers_of, painted
from sono.annotation.exchange.mask_pictures import decoded_reader
from sono.annotation.exchange.palette import color_of
from sono.annotation.exchange.picture_pixels import Pixels, pixels_of_values
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import real_path
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import bounding_box
from sono.curation.readers.source import DEFAULT_LIMITS, UnreadableError
from sono.curation.readers.volume_headers import (
    TIME,
    Volume,
    X,
    Y,
    read_meta_image,
    read_nrrd,
)

Stack = NDArray[np.integer[Any]]  # [layers, H, W]
IMAGES = (".mha", ".nrrd")
SEGMENTATION = ".seg.nrrd"
MAX_LABELS = 255  # of one layer, in 8 bits
MAX_LABEL_IMAGE = 1 << 28  # bytes
_SEGMENT = re.compile(r"Segment(\d{1,5})_(ID|Name|LabelValue|Layer|Tags):=(.*)")
_TAG = "sono."
MAX_VALUE = 2**31 - 1
MAX_SEGMENTS = 4096


def read_label_image(path: Path) -> Pixels:
    """A label image as a picture of values; SonoError for anything else."""
    values = _layers(path)
    if len(values) > 1:
        raise SonoError(f"{len(values)} layers without a list of segments; export it again")
    least, most = int(values.min()), int(values.max())
    if not -MAX_VALUE <= least <= most <= MAX_VALUE:
        raise SonoError(
            f"values from {least} to {most}, but those of labels go to {MAX_VALUE}; save it with "
            "32 bits or fewer"
        )
    return pixels_of_values(values[0].astype(np.int32))


def _layers(path: Path) -> Stack:
    """The values [layers, H, W] of a file."""
    read = read_meta_image if path.suffix.lower() == ".mha" else read_nrrd
    try:
        return _array(read(read_file(path, MAX_LABEL_IMAGE), DEFAULT_LIMITS))
    except UnreadableError as error:
        raise SonoError(f"not a readable label image ({error.fact})") from error
    except (ValueError, OverflowError, MemoryError, struct.error) as error:
        raise SonoError("not a readable label image: its header contradicts itself") from error


def _array(volume: Volume) -> Stack:
    roles = [role for role, _ in volume.axes]
    if sorted(roles) not in (sorted([X, Y]), sorted([X, Y, TIME])):
        shape = " x ".join(str(size) for _, size in volume.axes)
        raise UnreadableError("volume", f"{shape} values; a mask of a frame has two dimensions")
    if volume.dtype.kind not in "iu":
        raise UnreadableError("unsupported", "labels that are not whole numbers")
    values = np.frombuffer(volume.data, volume.dtype)
    values = values.reshape([size for _, size in volume.axes][::-1])
    order = [roles[::-1].index(role) for role in (TIME, Y, X) if role in roles]
    values = values.transpose(order)
    check_size((values.shape[-2], values.shape[-1]))
    return values if TIME in roles else values[np.newaxis]


def read_segmentation(path: Path, folder: Path, found: Found) -> bool:
    """Add the segments of a 3D Slicer file to `found`; a bad one is refused.

    Returns whether it has a list of segments; a plain label image has none.
    """
    segments = _segments(path)
    if not segments:
        return False
    inside = path.relative_to(folder).as_posix()
    name = inside.removesuffix(path.suffix).removesuffix(".seg")
    picture = Picture(name, str(path), str(real_path(folder)))
    found.pictures.append(picture)
    try:
        layers = _layers(path)
    except SonoError as error:
        found.refuse("broken", path, str(error))
        return True
    for number, facts in segments.items():
        place = f"{path}: segment {number}"
        try:
            with reading():
                mask = _segment(layers, facts)
        except SonoError as error:
            found.refuse("broken", place, str(error))
            continue
        label = facts.get("Name") or facts.get("ID", "")
        size = (mask.shape[0], mask.shape[1])
        tags = _tags(facts.get("Tags", ""))
        read = decoded_reader(mask)
        found.masks.append(
            ForeignMask(picture, label, size, place, read, exported=from_texts(tags))
        )
    return True


def is_segmentation(path: Path) -> bool:
    """Whether a label image has a list of segments, which name its values."""
    return path.suffix.lower() != ".mha" and bool(_segments(path))


def _segments(path: Path) -> dict[int, dict[str, str]]:
    """The fields of each segment in the header of an NRRD file."""
    head = read_file(path, MAX_LABEL_IMAGE).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    found: dict[int, dict[str, str]] = {}
    for line in head.decode("utf-8", "replace").split("\n"):
        match = _SEGMENT.fullmatch(line)
        if not match or int(match[1]) >= MAX_SEGMENTS:
            continue
        number, value = int(match[1]), match[3].strip()
        if found.setdefault(number, {}).setdefault(match[2], value) != value:
            raise SonoError(f"{path}: segment {number} has two values of {match[2]}; keep one")
    return found


def _segment(layers: Stack, facts: Mapping[str, str]) -> Mask:
    layer, value = facts.get("Layer", "0"), facts.get("LabelValue", "1")
    whole = all(one.isascii() and one.isdigit() and len(one) < 10 for one in (layer, value))
    if not whole or int(layer) >= len(layers):
        raise SonoError(f"layer '{layer[:20]}' and value '{value[:20]}' of {len(layers)} layers")
    mask = layers[int(layer)] == int(value)
    if not mask.any():
        raise SonoError("no pixel of it is in the picture")
    return np.asarray(mask, np.bool_)


def _tags(text: str) -> dict[str, str]:
    pairs = (tag.partition(":") for tag in text.split("|"))
    return {
        name.removeprefix(_TAG): unquote(value) for name, _, value in pairs if name.startswith(_TAG)
    }


def write_segmentations(content: Content, target: Path) -> None:
    """Write a .seg.nrrd for each frame with masks; overlapping masks are in several layers."""
    for frame in content.frames:
        if frame.masks:
            path = place_of(target, frame.stem, SEGMENTATION)
            path.write_bytes(_nrrd(frame, layers_of(frame.masks, by_structure=False), content))


def _nrrd(frame: ExportFrame, layers: list[Layer], content: Content) -> bytes:
    stack = np.stack([painted(layer, range(1, len(layer) + 1), "uint8") for layer in layers], -1)
    if max(map(len, layers)) > MAX_LABELS:
        raise SonoError(f"{frame.name}: more than {MAX_LABELS} masks; export as COCO")
    down, across = frame.spacing_mm or (1.0, 1.0)
    sizes, several = [frame.size[1], frame.size[0], 1], len(layers) > 1
    steps = [f"({across:.17g},0,0)", f"(0,{down:.17g},0)", "(0,0,1)"]
    lines = [
        "NRRD0005", f"# {DESCRIPTION}", "type: unsigned char", f"dimension: {3 + several}",
        "space: left-posterior-superior",
        "sizes: " + " ".join(map(str, [len(layers)] * several + sizes)),
        "space directions: " + " ".join(["none"] * several + steps),
        "kinds: " + " ".join(["list"] * several + ["domain"] * 3),
        "encoding: gzip", "space origin: (0,0,0)",
    ]  # fmt: skip
    placed = [
        (mask, at, value)
        for at, layer in enumerate(layers)
        for value, mask in enumerate(layer, start=1)
    ]
    for number, (mask, at, value) in enumerate(placed):
        lines += _fields(number, mask, at, value, content.structures.index(mask.structure))
    lines += [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    head = "\n".join(lines).encode("utf-8") + b"\n\n"
    return head + gzip.compress(np.ascontiguousarray(stack).tobytes(), mtime=0)


def _fields(number: int, mask: ExportMask, layer: int, value: int, color: int) -> list[str]:
    left, top, width, height = bounding_box(mask.pixels)
    texts = as_texts({name: mask.attributes.get(name) for name in ATTRIBUTES})
    tags = "|".join(f"{_TAG}{key}:{_quoted(text)}" for key, text in texts.items())
    facts = {
        "ID": f"Segment_{mask.mask_id}",
        "Name": mask.structure,
        "Color": " ".join(f"{channel / 255:.6g}" for channel in color_of(color)),
        "Layer": str(layer),
        "LabelValue": str(value),
        "Extent": f"{left} {left + width - 1} {top} {top + height - 1} 0 0",
        "Tags": f"Segmentation.Status:completed|{tags}|",
    }
    return [f"Segment{number}_{name}:={text}" for name, text in facts.items()]


def _quoted(text: str) -> str:
    """A text without the signs that end a tag or a line."""
    return text.replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")


def meta_image(values: np.ndarray, spacing_mm: tuple[float, float] | None) -> bytes:
    """A label image [H, W] of 8 bits as MetaImage."""
    body = zlib.compress(np.ascontiguousarray(values).tobytes())
    facts = {
        "ObjectType": "Image", "NDims": "2", "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False", "CompressedData": "True",
        "CompressedDataSize": str(len(body)), "Offset": "0 0",
        **({"ElementSpacing": f"{spacing_mm[1]:.17g} {spacing_mm[0]:.17g}"} if spacing_mm else {}),
        "DimSize": f"{values.shape[1]} {values.shape[0]}", "ElementType": "MET_UCHAR",
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    return "".join(f"{name} = {text}\n" for name, text in facts.items()).encode("ascii") + body
