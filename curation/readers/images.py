"""PNG, JPEG, JPEG 2000, HEIF, TIFF, BMP and GIF bytes as gray frames.

PNG, JPEG and JPEG 2000 files are checked before they are decoded.
"""

import io
import struct
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sono.curation.core.geometry import turned
from sono.curation.readers.containers import format_of
from sono.curation.readers.heif import heif_texts
from sono.curation.readers.heif import read_pixels as read_heif
from sono.curation.readers.jpeg_2000 import STARTS as JPEG_2000_STARTS
from sono.curation.readers.jpeg_2000 import walk_jpeg_2000
from sono.curation.readers.pillow_pixels import decoding, gif_texts, on_black, values_of
from sono.curation.readers.png_jpeg import (
    Container,
    Texts,
    exif_orientation,
    png_chunks,
    png_texts,
    walk_jpeg,
    walk_png,
)
from sono.curation.readers.source import (
    DEFAULT_LIMITS,
    Frame,
    Header,
    Limits,
    ReadResult,
    UnreadableError,
    Values,
    check_size,
    clean_texts,
    failed,
    quiet_decoders,
    split_color,
    succeeded,
    text_runs,
    to_8_bit,
)
from sono.curation.readers.tiff import read_tiff

EXTENSIONS = {
    "png": (".png", ".apng"),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "jpeg2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "heif": (".heic", ".heif", ".hif"),
    "dicom": (".dcm", ".dicom"),
}

# Size of the file, start of the pixels; size of the header, columns, rows; bits, packing, size.
_BMP = struct.Struct("<2xI4xIIii2xHII")
_BMP_PACKED = (1, 2)  # run lengths
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)


def image_kind(content: bytes) -> str | None:
    """The format of a picture, or None for anything else.

    One of `png`, `jpeg`, `jpeg2000`, `heif`, `tiff`, `bmp`, `gif` and `other` (a picture format
    that is not read).
    """
    starts = {
        "png": (b"\x89PNG\r\n\x1a\n",),
        "jpeg": (b"\xff\xd8\xff",),
        "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "gif": (b"GIF87a", b"GIF89a"),
        "jpeg2000": JPEG_2000_STARTS,
    }
    for kind, magics in starts.items():
        if content.startswith(magics):
            return kind
    if (
        content[:2] == b"BM"
        and len(content) > 18
        and content[14] in _BMP_HEADER_SIZES
        and not any(content[15:18])
    ):
        return "bmp"
    found = format_of(content)
    if found is not None and found.name == "HEIC picture":
        return "heif"
    return "other" if found is not None and found.code == "unsupported" else None


def read_image(content: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadResult:
    """Read a picture, turned as its orientation tag says.

    A broken picture gives a result without frames.
    """
    with quiet_decoders():
        try:
            return _read(content, limits)
        except UnreadableError as error:
            return failed(error, Header(private=clean_texts(_texts_before_the_break(content))))
        except MemoryError:
            return failed(UnreadableError("too_large", "this picture does not fit into memory"))


def _texts_before_the_break(content: bytes) -> list[str]:
    """The texts that a broken picture has before its pixels."""
    texts: list[str] = []
    kind = image_kind(content)
    if kind == "png":
        found = Texts()
        with suppress(UnreadableError):
            for chunk, start, end in png_chunks(content):
                found.add(png_texts(chunk, content[start + 8 : end - 4]))
        texts = found.lines
    elif kind == "heif":
        texts = heif_texts(content)
    elif kind == "jpeg":
        texts = text_runs(content.partition(b"\xff\xdb")[0])  # up to the tables
    return texts


def _read(content: bytes, limits: Limits) -> ReadResult:
    kind = image_kind(content)
    if kind not in EXTENSIONS:
        found = format_of(content)
        raise (
            UnreadableError("not_an_image")
            if found is None
            else UnreadableError(found.code, found.message)
        )
    if kind == "tiff":
        return read_tiff(content, limits)
    container = _walk(kind, content, limits)
    picture, orientation, codes, texts = _decode(kind, container, limits)
    if _flat_tail(picture, container):
        raise UnreadableError(
            "truncated", "the JPEG data end early: the rest of the picture is uniform gray"
        )
    picture = turned(picture, orientation)
    if container.trailing:
        codes.append("trailing_data")
    texts += [*container.texts, *text_runs(container.trailing)]
    gray, rgb = split_color(picture)
    frame = Frame(0, gray, rgb, None, None, "not_dicom", is_screen=False)
    return succeeded((frame,), [*container.codes, *codes], Header(private=clean_texts(texts)))


def _walk(kind: str, content: bytes, limits: Limits) -> Container:
    try:
        if kind == "png":
            return walk_png(content, limits)
        if kind == "jpeg":
            return walk_jpeg(content, limits)
        if kind == "jpeg2000":
            texts, trailing = walk_jpeg_2000(content)
            return Container(content, texts, trailing=trailing)
    except (struct.error, IndexError) as error:
        raise UnreadableError("truncated") from error
    if kind == "bmp":
        return _walk_bmp(content)
    return Container(content)


def _walk_bmp(content: bytes) -> Container:
    """The texts of a BMP file around its pixels, and the bytes after its declared end."""
    size, start, header, columns, rows, bits, packing, packed = _BMP.unpack_from(content.ljust(38))
    if header < _BMP_HEADER_SIZES[1]:  # of 12 bytes, without pixels that are packed
        return Container(content)
    stored = packed if packing in _BMP_PACKED else (columns * bits + 31) // 32 * 4 * abs(rows)
    end = size if start + stored < size < len(content) else start + stored
    colors = 14 + header + (4 << bits if bits <= 8 else 0)
    texts = text_runs(content[colors:start]) + text_runs(content[start + stored : end])
    return Container(content, tuple(texts), trailing=content[end:].strip(b"\0"))


def _flat_tail(picture: NDArray[np.uint8], container: Container) -> bool:
    """Whether coding units at the end were never decoded: libjpeg leaves them at 128.

    A gray bar at the bottom of a screenshot is also flat, so the undecoded part must begin inside a
    row of units, unless there are bytes after the end marker.
    """
    high, wide = container.block
    if not high or int(picture[-1, -1].min()) != 128:
        return False
    plane = picture if picture.ndim == 2 else picture.min(axis=2)
    rows, columns = -(-plane.shape[0] // high), -(-plane.shape[1] // wide)
    padded = np.pad(
        plane,
        ((0, rows * high - plane.shape[0]), (0, columns * wide - plane.shape[1])),
        mode="edge",
    )
    units = padded.reshape(rows, high, columns, wide)
    dead = ((units.min(axis=(1, 3)) == 128) & (units.max(axis=(1, 3)) == 128)).ravel()
    alive = np.flatnonzero(~dead)
    first_dead = int(alive[-1]) + 1 if len(alive) else 0
    return dead.size - first_dead >= columns and (
        bool(container.trailing) or first_dead % columns != 0
    )


def _decode(
    kind: str, container: Container, limits: Limits
) -> tuple[NDArray[np.uint8], int, list[str], list[str]]:
    """The stored picture [H, W] or [H, W, 3], its orientation, remarks and texts."""
    if kind == "heif":
        values, codes, texts = read_heif(container.payload, limits)
        return _as_bytes(values, 1, codes, texts)
    with decoding(), Image.open(io.BytesIO(container.payload), formats=[kind.upper()]) as image:
        check_size(image.height, image.width, limits)
        exif = image.info.get("exif", b"") if kind == "jpeg" else b""
        tagged = max(container.orientation, exif_orientation(exif))
        codes = _remarks(kind, image) + ["rotated_by_exif"] * (tagged > 1)
        texts = gif_texts(container.payload) if kind == "gif" else []
        values = _deep_color(container.payload) if container.deep_color else values_of(image)
    return _as_bytes(values, tagged, codes, texts)


def _as_bytes(
    values: Values, orientation: int, codes: list[str], texts: list[str]
) -> tuple[NDArray[np.uint8], int, list[str], list[str]]:
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8), orientation, codes, texts
    return to_8_bit(values), orientation, [*codes, "bit_depth"], texts


def _remarks(kind: str, image: Image.Image) -> list[str]:
    several = kind == "gif" and getattr(image, "is_animated", False)
    return ["first_frame_only"] if several else []


def _deep_color(payload: bytes) -> Values:
    """A PNG with 16 bits per channel as [H, W, 3]."""
    values: Values | None = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise UnreadableError("corrupt")
    if values.ndim == 3 and values.shape[2] == 4:
        values = on_black(values)
    return np.asarray(values[..., ::-1] if values.ndim == 3 else values)
