"""PNG, JPEG, TIFF, BMP and GIF bytes as gray frames.

The container is checked before anything is decoded.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from sono.curation.core.geometry import turned
from sono.curation.readers.containers import format_of
from sono.curation.readers.source import (
    DECODER_ERRORS,
    DEFAULT_LIMITS,
    MAX_TEXT_BYTES,
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

EXTENSIONS = {
    "png": (".png", ".apng"),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "dicom": (".dcm", ".dicom"),
}
ORIENTATION, EXIF_IFD = 0x0112, 0x8769  # EXIF and TIFF tags

_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME")
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_JPEG_SIZES = (0xC0, 0xC1, 0xC2)  # start of frame: baseline, extended, progressive
# lossless, arithmetic, hierarchical
_JPEG_OTHER_SIZES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_JPEG_TABLES = (0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


@dataclass(frozen=True)
class Container:
    """What a walk over the file tells.

    The bytes to decode, texts, remarks, and what stands after the end.
    """

    payload: bytes
    texts: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    trailing: bytes = b""
    deep_color: bool = False  # 16 bits a channel, which Pillow would cut to the upper 8
    block: tuple[int, int] = (0, 0)  # height and width of a JPEG coding unit in pixels
    orientation: int = 1  # of EXIF, where the payload does not hold it any more


def image_kind(content: bytes) -> str | None:
    """`png`, `jpeg`, `tiff`, `bmp`, `gif`, `other` (a picture format that is not read), or None.

    Not a picture.
    """
    starts = {
        "png": (b"\x89PNG\r\n\x1a\n",),
        "jpeg": (b"\xff\xd8\xff",),
        "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "gif": (b"GIF87a", b"GIF89a"),
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
    return "other" if found is not None and found.code == "unsupported" else None


def read_image(content: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadResult:
    """Read a picture, turned as its orientation tag says.

    A broken one gives a source without frames.
    """
    with quiet_decoders():
        try:
            return _read(content, limits)
        except UnreadableError as error:
            return failed(error, Header(private=clean_texts(_texts_before_the_break(content))))
        except MemoryError:
            return failed(UnreadableError("too_large", "the memory does not hold this picture"))


def _texts_before_the_break(content: bytes) -> list[str]:
    """What a broken PNG or JPEG still says before its pixels."""
    texts: list[str] = []
    kind = image_kind(content)
    if kind == "png":
        with suppress(UnreadableError):
            for chunk, start, end in _png_chunks(content):
                texts += (
                    _png_texts(chunk, content[start + 8 : end - 4]) if chunk in _PNG_TEXTS else []
                )
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
    container = _walk(kind, content, limits)
    picture, orientation, codes, texts = _decode(kind, container, limits)
    if _flat_tail(picture, container):
        raise UnreadableError(
            "truncated", "the JPEG data end early: the rest of the picture is an even gray"
        )
    picture = turned(picture, orientation)
    if container.trailing:
        codes.append("trailing_data")
    texts += [*container.texts, *text_runs(container.trailing)]
    gray, rgb = split_color(picture)
    frame = Frame(0, gray, rgb, None, None, "not_dicom")
    return succeeded((frame,), [*container.codes, *codes], Header(private=clean_texts(texts)))


def _walk(kind: str, content: bytes, limits: Limits) -> Container:
    try:
        if kind == "png":
            return _walk_png(content, limits)
        if kind == "jpeg":
            return walk_jpeg(content, limits)
    except (struct.error, IndexError) as error:
        raise UnreadableError("truncated") from error
    size = int.from_bytes(content[2:6], "little") if kind == "bmp" else 0
    return Container(
        content, trailing=content[size:].strip(b"\0") if 0 < size < len(content) else b""
    )


def _walk_png(content: bytes, limits: Limits) -> Container:
    """Check every chunk; the payload keeps only the chunks that the still picture needs."""
    kept, texts, codes = [content[:8]], [], []
    seen: set[bytes] = set()
    deep_color, orientation = False, 1
    for kind, start, end in _png_chunks(content):
        body = content[start + 8 : end - 4]
        if kind == b"IHDR":
            width, height, bits, colors = struct.unpack_from(">IIBB", body)
            check_size(height, width, limits)
            deep_color = bits == 16 and colors != 0
        if kind in _PNG_NEEDED:
            kept.append(content[start:end])
        if kind in _PNG_TEXTS:
            texts += _png_texts(kind, body)
        if kind == b"acTL":
            codes.append("first_frame_only")
        if kind == b"eXIf":
            orientation = _orientation_of(body)
        seen.add(kind)
    if not {b"IHDR", b"IDAT"} <= seen:
        raise UnreadableError("corrupt", "a PNG file without header or without pixels")
    trailing = content[end:] if content[end:].strip(b"\0") else b""
    return Container(
        b"".join(kept), tuple(texts), tuple(codes), trailing, deep_color, orientation=orientation
    )


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND; raises on a wrong checksum or an early end."""
    start, kind = 8, b""
    while kind != b"IEND":
        if start + 12 > len(content):
            raise UnreadableError("truncated")
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        if end > len(content):
            raise UnreadableError("truncated")
        if isal_zlib.crc32(memoryview(content)[start + 4 : end - 4]) != int.from_bytes(
            content[end - 4 : end], "big"
        ):
            raise UnreadableError(
                "corrupt", f"the checksum of a PNG {_printable(kind)} chunk is wrong"
            )
        yield kind, start, end
        start = end


def _printable(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else "unnamed"


def _png_texts(kind: bytes, body: bytes) -> list[str]:
    """Texts of a chunk without its keyword, which names what they are.

    Compressed ones are inflated up to a limit.
    """
    if kind == b"tIME" and len(body) == 7:
        return ["{:04d}-{:02d}-{:02d}".format(*struct.unpack_from(">HBB", body))]
    rest = body.partition(b"\0")[2] if kind != b"eXIf" else body
    packed = (
        rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\1" else b""
    )
    if kind in (b"zTXt", b"iTXt") and packed:
        try:
            rest = zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES)
        except zlib.error:
            rest = b""
    if kind == b"tEXt":
        return [rest[:MAX_TEXT_BYTES].decode("latin-1")]
    return text_runs(rest)


def walk_jpeg(content: bytes, limits: Limits) -> Container:
    """Follow the segments of a JPEG file from SOI to EOI; check its size before it is decoded."""
    position, texts, block = 2, [], (0, 0)
    while True:
        found = _JPEG_MARKER.search(content, position)
        if found is None:
            raise UnreadableError("truncated", "the JPEG file has no end marker")
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            break
        if marker in _JPEG_OTHER_SIZES:
            raise UnreadableError(
                "unsupported", "a JPEG process that sono does not read (lossless or arithmetic)"
            )
        if marker not in _JPEG_SIZES and marker not in _JPEG_TABLES:
            raise UnreadableError("corrupt", "an impossible marker inside the JPEG data")
        end = position + struct.unpack_from(">H", content, position)[0]
        body = content[position + 2 : end]
        if marker in _JPEG_SIZES:
            block = _jpeg_block(body, limits)
        if marker == 0xFE or 0xE1 <= marker <= 0xEF:
            texts += _jpeg_texts(body)
        position = end  # after SOS the search runs over the coded data to the next marker
    if block == (0, 0):
        raise UnreadableError("corrupt", "a JPEG file without picture")
    trailing = content[position:] if content[position:].strip(b"\0\xff") else b""
    return Container(content[:position], tuple(texts), (), trailing, block=block)


def _jpeg_block(body: bytes, limits: Limits) -> tuple[int, int]:
    """Height and width of the coding unit, from a start-of-frame segment."""
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    check_size(height, width, limits)
    if bits != 8:
        raise UnreadableError("unsupported", f"a JPEG file with {bits} bits a sample")
    if components == 1:
        return 8, 8  # a single component is not interleaved
    factors = [body[7 + 3 * number] for number in range(components)]
    return 8 * max(factor & 15 for factor in factors), 8 * max(factor >> 4 for factor in factors)


def _jpeg_texts(body: bytes) -> list[str]:
    return [] if body.startswith((b"ICC_PROFILE", b"Adobe")) else text_runs(body)


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
    """The picture [H, W] or [H, W, 3] as stored, the orientation to turn it by, remarks and
    texts.
    """
    try:
        with Image.open(io.BytesIO(container.payload), formats=[kind.upper()]) as image:
            check_size(image.height, image.width, limits)
            tagged = max(container.orientation, _orientation(kind, image))
            codes = _remarks(kind, image) + ["rotated_by_exif"] * (tagged > 1)
            texts = _image_texts(image)
            values = _deep_color(container.payload) if container.deep_color else _values(image)
            # Pillow turns TIFF files itself and drops their tag
            left = _orientation(kind, image) if kind == "tiff" else tagged
    except Image.DecompressionBombError as error:
        raise UnreadableError("too_large") from error
    except DECODER_ERRORS as error:
        code = "truncated" if "truncated" in str(error) else "corrupt"
        raise UnreadableError(code) from error
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8), left, codes, texts
    return to_8_bit(values), left, [*codes, "bit_depth"], texts


def _remarks(kind: str, image: Image.Image) -> list[str]:
    several = kind in ("gif", "tiff") and getattr(image, "is_animated", False)
    return ["first_frame_only"] if several else []


def _orientation(kind: str, image: Image.Image) -> int:
    """The orientation that a JPEG or TIFF file asks for."""
    if kind == "tiff":
        return _known_orientation(_tiff_tags(image).get(ORIENTATION, 1))
    return _orientation_of(image.info.get("exif", b"")) if kind == "jpeg" else 1


def _orientation_of(exif_bytes: bytes) -> int:
    """The orientation in an EXIF block.

    1 is upright, also where there is none or it cannot be read.
    """
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        return _known_orientation(exif.get(ORIENTATION, 1))
    except DECODER_ERRORS:
        return 1


def _known_orientation(value: object) -> int:
    """1 to 8; whatever else a tag says is upright."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _tiff_tags(image: Image.Image) -> dict[int, object]:
    return dict(getattr(image, "tag_v2", {}))


def _image_texts(image: Image.Image) -> list[str]:
    """Texts in the tags of TIFF and the comments of GIF."""
    found: list[str] = []
    nested = image.getexif().get_ifd(EXIF_IFD).values() if image.format == "TIFF" else ()
    for value in (*_tiff_tags(image).values(), *nested, image.info.get("comment")):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, bytes):
            found += text_runs(value)
    return found


def _values(image: Image.Image) -> Values:
    """Decoded values [H, W] or [H, W, 3].

    Transparency is composed on black, as the scanner shows it.
    """
    image.load()
    if image.mode == "F":
        raise UnreadableError(
            "unsupported", "floating point pixels; export the picture with 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        return np.asarray(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_black(np.asarray(image.convert("RGBA")))
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))


def _on_black(rgba: Values) -> Values:
    """Compose RGBA [H, W, 4] on black."""
    top = np.iinfo(rgba.dtype).max
    color, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return np.asarray((color * alpha + top // 2) // top, rgba.dtype)


def _deep_color(payload: bytes) -> Values:
    """A PNG of 16 bits a channel as [H, W, 3]."""
    values: Values | None = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise UnreadableError("corrupt")
    if values.ndim == 3 and values.shape[2] == 4:
        values = _on_black(values)
    return np.asarray(values[..., ::-1] if values.ndim == 3 else values)
