"""The structure of PNG and JPEG files: sizes, texts and ends, checked before they are decoded."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from isal import isal_zlib
from PIL import Image

from sono.curation.readers.source import (
    DECODER_ERRORS,
    MAX_TEXT_BYTES,
    Limits,
    UnreadableError,
    check_size,
    readable,
    text_runs,
)

MAX_TEXTS_BYTES = 64 * MAX_TEXT_BYTES  # of all texts of a PNG file together
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_KEYED = (b"tEXt", b"zTXt", b"iTXt")
# Chunks that hold no text. Any other, also of a program of its own, is searched.
_PNG_PLAIN = (
    *_PNG_NEEDED, b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"oFFs", b"cICP",
    b"mDCV", b"cLLI", b"acTL", b"fcTL", b"fdAT", b"vpAg", b"caNv", b"orNT",
)  # fmt: skip
# Keywords of the standard (PNG 3, 11.3.3.1) and of ImageMagick. Any other may name a person.
_PNG_KEYWORD = re.compile(
    rb"title|author|description|copyright|creation time|software|disclaimer|warning|source|comment"
    rb"|collection|xml:com\.adobe\.xmp|raw profile type (?:exif|iptc|xmp|icc|icm|8bim|app1)"
    rb"|date:(?:create|modify|timestamp)",
    re.IGNORECASE,
)
_PROFILE_TEXTS = (b"desc", b"cprt", b"dmnd", b"dmdd", b"vued", b"targ")
_MOST_PROFILE_TAGS = 100
_JPEG_SIZES = (0xC0, 0xC1, 0xC2)  # start of frame: baseline, extended, progressive
# lossless, arithmetic, hierarchical
_JPEG_OTHER_SIZES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_JPEG_TABLES = (0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))
# Starts of segments, and where texts may begin in them.
_JFIF, _JFIF_BYTES = b"JFIF\0", 14
_ADOBE, _ADOBE_BYTES = b"Adobe\0", 12
_PROFILE, _PROFILE_BYTES = b"ICC_PROFILE\0", 14
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")


@dataclass(frozen=True)
class Container:
    """The parts of a picture file: the bytes to decode, texts, remarks and trailing bytes."""

    payload: bytes
    texts: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    trailing: bytes = b""
    deep_color: bool = False  # 16 bits a channel, which Pillow would cut to the upper 8
    block: tuple[int, int] = (0, 0)  # height and width of a JPEG coding unit in pixels
    orientation: int = 1  # of EXIF, where the payload does not hold it any more


@dataclass
class Texts:
    """The texts of a file so far; many packed ones could fill the memory."""

    lines: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, more: list[str]) -> None:
        """Add texts; raises UnreadableError beyond MAX_TEXTS_BYTES."""
        self.lines += more
        self.size += sum(map(len, more))
        if self.size > MAX_TEXTS_BYTES:
            raise UnreadableError("inflate_limit", "the texts of this picture exceed the limit")


def walk_png(content: bytes, limits: Limits) -> Container:
    """Check every chunk; the payload keeps only the chunks that the still picture needs."""
    kept, codes = [content[:8]], []
    texts = Texts()
    seen: set[bytes] = set()
    deep_color, orientation = False, 1
    for kind, start, end in png_chunks(content):
        body = content[start + 8 : end - 4]
        if kind == b"IHDR":
            width, height, bits, colors = struct.unpack_from(">IIBB", body)
            check_size(height, width, limits)
            deep_color = bits == 16 and colors != 0
        if kind in _PNG_NEEDED:
            kept.append(content[start:end])
        texts.add(png_texts(kind, body))
        if kind == b"acTL":
            codes.append("first_frame_only")
        if kind == b"eXIf":
            orientation = exif_orientation(body)
        seen.add(kind)
    if not {b"IHDR", b"IDAT"} <= seen:
        raise UnreadableError("corrupt", "a PNG file without header or without pixels")
    trailing = content[end:] if content[end:].strip(b"\0") else b""
    return Container(
        b"".join(kept),
        tuple(texts.lines),
        tuple(codes),
        trailing,
        deep_color,
        orientation=orientation,
    )


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND; raises for a wrong checksum or an early end."""
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
                "corrupt", f"the checksum of a PNG {_printable_name(kind)} chunk is wrong"
            )
        yield kind, start, end
        start = end


def _printable_name(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else "unnamed"


def png_texts(kind: bytes, body: bytes) -> list[str]:
    """Texts of a chunk, with its keyword unless that is a well-known one.

    Compressed texts are inflated up to a limit.
    """
    if kind in _PNG_PLAIN:
        return []
    if kind == b"iCCP":
        name, _, rest = body.partition(b"\0")
        return [*text_runs(name), *profile_texts(_inflated(rest[1:]))]
    if kind == b"tIME" and len(body) == 7:
        return ["{:04d}-{:02d}-{:02d}".format(*struct.unpack_from(">HBB", body))]
    if kind not in _PNG_KEYED:
        return text_runs(body)
    keyword, _, rest = body.partition(b"\0")
    known = _PNG_KEYWORD.fullmatch(keyword)
    return [*([] if known else [readable(keyword[:MAX_TEXT_BYTES])]), *_values(kind, rest)]


def _values(kind: bytes, rest: bytes) -> list[str]:
    """Texts of a chunk after its keyword; in iTXt also the keyword in another language."""
    if kind == b"tEXt":
        return [rest[:MAX_TEXT_BYTES].decode("latin-1")]
    if kind == b"zTXt":
        return text_runs(_inflated(rest[1:]))
    if rest[:1] != b"\1":
        return text_runs(rest)
    *names, packed = rest[2:].split(b"\0", 2)
    return [*text_runs(b"\n".join(names)), *text_runs(_inflated(packed))]


def _inflated(packed: bytes) -> bytes:
    """A compressed text up to the limit; nothing if it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def profile_texts(profile: bytes) -> list[str]:
    """The descriptions in a color profile (ICC.1:2022), which often name a screen or its owner."""
    count = min(int.from_bytes(profile[128:132], "big"), _MOST_PROFILE_TAGS)
    entries = (profile[132 + 12 * number :][:12] for number in range(count))
    texts: list[str] = []
    for entry in entries:
        if entry[:4] in _PROFILE_TEXTS and len(entry) == 12:
            start, size = struct.unpack_from(">II", entry, 4)
            texts += text_runs(profile[start + 8 : start + size])  # after the kind of the element
    return texts


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
        if marker == 0xFE or 0xE0 <= marker <= 0xEF:
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
        raise UnreadableError("unsupported", f"a JPEG file with {bits} bits per sample")
    if components == 1:
        return 8, 8  # a single component is not interleaved
    factors = [body[7 + 3 * number] for number in range(components)]
    return 8 * max(factor & 15 for factor in factors), 8 * max(factor >> 4 for factor in factors)


def _jpeg_texts(body: bytes) -> list[str]:
    """The texts of a comment or of a segment of a program."""
    if body.startswith(_JFIF):  # a small picture may follow
        rest = body[_JFIF_BYTES:]
        return text_runs(rest[3 * body[12] * body[13] :]) if rest else []
    if body.startswith(_ADOBE):
        return text_runs(body[_ADOBE_BYTES:])
    if body.startswith(_PROFILE):
        return profile_texts(body[_PROFILE_BYTES:])  # its texts are in the first of its segments
    return text_runs(body)


def exif_orientation(exif_bytes: bytes) -> int:
    """The orientation in an EXIF block.

    1 (upright) if there is none or it cannot be read.
    """
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        return valid_orientation(exif.get(ORIENTATION, 1))
    except DECODER_ERRORS:
        return 1


def valid_orientation(value: object) -> int:
    """`value` if it is 1 to 8, otherwise 1 (upright)."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
