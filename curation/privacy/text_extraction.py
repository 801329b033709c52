"""Extract the texts of an output file from every encoding, without its pixels and tensors."""

import base64
import binascii
import bz2
import gzip
import html
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS
from sono.curation.privacy.onnx_text import without_tensors
from sono.curation.readers.dicom import is_dicom
from sono.curation.readers.png_jpeg import walk_jpeg
from sono.curation.readers.source import DECODER_ERRORS, DEFAULT_LIMITS, UnreadableError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# pHYs: dots per inch, written by matplotlib
PNG_CHUNKS_OF_PIXELS = {b"IHDR", b"IDAT", b"IEND", b"pHYs"}
MAX_INFLATED = 64 << 20  # bytes of one compressed text
MARKUP = (".html", ".htm", ".xhtml", ".svg")
DESCRIPTION = "the description of the table"
RECORDS = "runs/*/run.json"  # of training runs
MAX_DEPTH = 3  # archives in archives
BATCH_ROWS = 1 << 16  # of a table whose cells are in memory at a time
MAX_KNOWN = 1 << 18  # cells of a column that are not searched again
CLOSED = "an archive that is damaged, locked, too large or too deep, so that it cannot be searched"
ARCHIVE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, OSError,
    EOFError, RuntimeError, ValueError, LookupError, OverflowError,
)  # fmt: skip
OPENERS = ((re.compile(rb"\x1f\x8b\x08"), gzip.open), (re.compile(rb"BZh[1-9]1AY&SY"), bz2.open),
           (re.compile(rb"\xfd7zXZ\0"), lzma.open))  # fmt: skip

_NUMBERS = {(spec.name, field.name) for spec in (IMAGES, MASKS, CAPTIONS) for field in spec.schema
            if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}  # fmt: skip
_PNG_RUN = re.compile(r"iVBORw0KGgo[\w+/]{40,}={0,2}", re.ASCII)  # a PNG in base64
_PICTURE = re.compile(r"data:image/([\w+]+);base64,([\w+/=]+)", re.ASCII)
SVG = "svg+xml"
_STYLE = re.compile(r"<style.*?</style>|<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,500}>")
_TAGS_OF_LETTERS = re.compile(
    r"(?<=[^\W\d_])(?:</?(?:a|abbr|b|big|del|em|font|i|ins|mark|q|s|small|span|strong|su[bp]|tspan|u|wbr)\b[^<>]{0,500}>)+"
    r"(?=[^\W\d_])",
    re.IGNORECASE,
)
_TENSOR = re.compile(r"/data/\d+$", re.ASCII)  # a member of a PyTorch file
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{11,}={0,2}")
# any id may be among such numbers by chance
_TENSOR_SIZES = re.compile(r'"(?:shape|data_offsets)": ?\[[\d, ]*\]')
# Versions may look like days (3.11.14) and processors have names like Gold or Hopper, so these
# values of a run's record are not searched.
_MADE_WITH = re.compile(
    r'"(?:(?:sono|torch|open_clip_torch|timm|numpy|opencv|python)": '
    r'?"[\d.]+(?:\+\w+)?"|(?:cpu|device)": ?"[^"\\]*")'
)
_HEX = re.compile(r"[0-9a-f]+")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
# Tag, VR and length of an element of our DICOM files (Explicit VR Little Endian).
_ELEMENT = re.compile(
    rb"[\x00-\xff]\0[\x00-\xff]{2}"
    rb"(?:(?:AE|AS|CS|DA|DS|DT|FD|FL|IS|LO|LT|PN|SH|SL|SS|ST|TM|UI|UL|US)"
    rb"[\x00-\xff]{2}|(?:OB|OD|OF|OW|SQ|UC|UN|UR|UT)\0\0[\x00-\xff]{4})"
)
_WIDE_TEXT = (
    (re.compile(rb"(?:[\x20-\x7e\xa0-\xff]\0|[\x00-\xff][\x01-\x06]){4,}"), "utf-16-le"),
    (re.compile(rb"(?:\0[\x20-\x7e\xa0-\xff]|[\x01-\x06][\x00-\xff]){4,}"), "utf-16-be"),
)

# The place in the file ("", "column 'text'" and so on), and its text. The place CLOSED has no text.
Text = tuple[str, str]


def extract_texts(path: Path, suffix: str | None = None) -> Iterator[Text]:
    """Yield every text in the file at `path`; `suffix` is its suffix if the path has another one.

    The bytes of a damaged file are decoded as text.
    """
    suffix = path.suffix if suffix is None else suffix
    if suffix == ".parquet":
        with suppress(pa.ArrowException, OSError):  # no table, or a damaged one: read as bytes
            yield from _table_texts(path, path.stem)
            return
    if suffix == ".safetensors":
        with path.open("rb") as stream:
            # the length of the JSON header comes first; numbers follow it
            header = stream.read(min(int.from_bytes(stream.read(8), "little"), path.stat().st_size))
        yield "", _TENSOR_SIZES.sub("", decoded(header))
        return
    if path.match(RECORDS):
        yield "", _MADE_WITH.sub("", decoded(path.read_bytes()))
        return
    yield from _content_texts(path.read_bytes(), suffix)


def _content_texts(content: bytes, suffix: str, depth: int = 0) -> Iterator[Text]:
    if content.startswith(PNG_SIGNATURE):
        yield "", _png_text(content)
    elif content.startswith(b"\xff\xd8\xff"):
        yield "", _jpeg_text(content)
    elif content.startswith(b"\x93NUMPY"):
        yield "", _array_text(content)
    elif is_dicom(content):
        yield "", _dicom_text(content)
    elif content.startswith(b"PAR1"):  # under another name, or in an archive
        try:
            yield from _table_texts(io.BytesIO(content))
        except (pa.ArrowException, OSError):
            yield from (("", decoded(content)), (CLOSED, ""))
    elif (opened := _archive_texts(content, depth)) is not None:
        yield from opened if depth < MAX_DEPTH else (("", decoded(content)), (CLOSED, ""))
    elif suffix == ".onnx":
        yield "", decoded(without_tensors(content))
    else:
        text, pictures = _without_pictures(decoded(content))
        yield from pictures
        if suffix in MARKUP:
            embedded = [(kind, _unbase64(picture)) for kind, picture in _PICTURE.findall(text)]
            yield from (("a picture", _png_text(one)) for kind, one in embedded if kind != SVG)
            text = _PICTURE.sub(" ", text)
            text += "\n".join(_svg_text(one) for kind, one in embedded if kind == SVG)
            # a cell is a line
            text += "\n" + _TAG.sub(" \n", _TAGS_OF_LETTERS.sub("", text)) + "\n"
        yield "", text


def _svg_text(content: bytes) -> str:
    """The texts of a drawing, one per line, without its tags and their numbers."""
    return "\n".join(["", *re.findall(r">([^<>]*)<", _STYLE.sub("", decoded(content))), ""])


def _without_pictures(text: str) -> tuple[str, list[Text]]:
    """`text` without its PNGs in base64, whose pixels look like letters, and the texts in them."""
    pictures: list[Text] = []

    def taken(run: re.Match[str]) -> str:
        picture = _unbase64(run[0])
        if b"IEND" not in picture:
            return run[0]
        pictures.append(("a picture", _png_text(picture)))
        return " "

    return _PNG_RUN.sub(taken, text), pictures


def _archive_texts(content: bytes, depth: int) -> Iterator[Text] | None:
    """The texts of the archive `content`; None if it is not an archive."""
    if content.startswith(b"PK\x03\x04"):
        return _zip_texts(content, depth)
    if content[257:262] == b"ustar":
        return _tar_texts(content, depth)
    opener = next((one for magic, one in OPENERS if magic.match(content)), None)
    return None if opener is None else _packed_texts(content, opener, depth)


def decoded(content: bytes) -> str:
    """Bytes decoded as UTF-8.

    Latin-1 is added if they are not valid UTF-8, and UTF-16 if there are zero bytes.
    """
    parts = [content.decode("utf-8", "replace")]
    if "\ufffd" in parts[0]:
        parts.append(content.decode("latin-1"))
    if b"\0" in content:
        for pattern, encoding in _WIDE_TEXT:
            parts += [run.decode(encoding, "replace") for run in pattern.findall(content)]
    return "\n".join(parts)


def decode_obfuscation(text: str) -> str:
    """The decoded percent signs, HTML entities, escapes and base64 of a text; "" for none."""
    found = []
    if "%" in text:
        found += [unquote(text), unquote(text, encoding="latin-1")]
    if "&" in text:
        found.append(html.unescape(text))
    if "\\" in text:
        found.append(_ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text))
    for run in set(_BASE64.findall(text)):
        if _HEX.fullmatch(run):
            continue  # our own digests
        inner = _unbase64(run).decode("utf-8", "replace")
        if len(inner) >= 6 and inner.isprintable() and "\ufffd" not in inner:
            found.append(inner)
    return "\n".join(one for one in found if one != text)


def _unbase64(text: str) -> bytes:
    whole = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError):
        return b""


def _table_texts(source: Path | io.BytesIO, name: str = "") -> Iterator[Text]:
    """Yield every different cell of every column, then the column names and metadata.

    Columns of numbers of sono's own table `name` are left out. Of pictures in cells only the texts
    around the pixels are searched.
    """
    with pq.ParquetFile(source) as file:
        names, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
        wanted = [column for column in names if (name, column) not in _NUMBERS]
        known: dict[str, set[str]] = {column: set() for column in wanted}
        for rows in file.iter_batches(BATCH_ROWS, columns=wanted):
            for column in wanted:
                for values in _flat(rows.column(column)):
                    cells = _distinct(values)
                    if len(cells) < len(values):  # what repeats in a batch does so in others
                        cells = _unknown(cells, known[column])
                    yield from _cell_texts(f"column '{column}'", cells)
    described = [*names, *(decoded(part) for pair in metadata.items() for part in pair)]
    yield DESCRIPTION, "\n".join(described)


def _flat(values: pa.Array) -> Iterator[pa.Array]:
    """The values of a column, those of lists and structures in arrays of their own."""
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = values.flatten()
    if pa.types.is_struct(values.type):
        for part in values.flatten():
            yield from _flat(part)
    else:
        yield values


def _distinct(values: pa.Array) -> list[object]:
    with suppress(pa.ArrowNotImplementedError):  # of kinds that Arrow cannot compare
        values = values.unique()
    return [value for value in values.to_pylist() if value is not None]


def _unknown(cells: list[object], known: set[str]) -> list[object]:
    """The cells that are not among the `known` texts, to which they are added up to a limit."""
    new = [cell for cell in cells if not isinstance(cell, str) or cell not in known]
    if len(known) < MAX_KNOWN:
        known.update(cell for cell in new if isinstance(cell, str))
    return new


def _cell_texts(place: str, cells: list[object]) -> Iterator[Text]:
    """The texts of the cells of a column, all in one but for those with contents of their own."""
    plain: list[str] = []
    for cell in cells:
        if isinstance(cell, bytes):
            for inner, text in _content_texts(cell, "", 1):
                if inner:
                    yield f"{place}, {inner}" if inner != CLOSED else CLOSED, text
                else:
                    plain.append(text)
        else:
            plain.append(str(cell))
    yield place, "\n".join(plain)


def _png_text(content: bytes) -> str:
    """The text of every PNG chunk except pixels, and of the bytes after the end."""
    position, parts = 8, []
    while position + 8 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        if kind not in PNG_CHUNKS_OF_PIXELS:
            body = content[position + 8 : position + 8 + size]
            parts += [decoded(body), *_unpacked(body)]
        position += size + 12
        if kind == b"IEND":
            break
    if content[position:]:
        parts.append(decoded(content[position:]))
    return "\n".join(parts)


def _unpacked(body: bytes) -> Iterator[str]:
    """Yield the compressed text of a zTXt or iTXt chunk.

    The compressed data begin after one of the first zero bytes.
    """
    for start in [match.end() for match in re.finditer(rb"\0", body[:400])]:
        try:
            yield decoded(zlib.decompressobj().decompress(body[start:], MAX_INFLATED))
        except zlib.error:
            continue


def _jpeg_text(content: bytes) -> str:
    try:
        container = walk_jpeg(content, DEFAULT_LIMITS)
    except (UnreadableError, *DECODER_ERRORS):
        return decoded(content)
    return "\n".join([*container.texts, decoded(container.trailing)])


def _array_text(content: bytes) -> str:
    """The header of a NumPy array, and its values if they are not numbers."""
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError):  # damaged, or pickled
        return decoded(content)
    texts = (
        []
        if values.dtype.kind in "biufc"
        else [
            decoded(value) if isinstance(value, bytes) else str(value)
            for value in values.ravel().tolist()
        ]
    )
    return "\n".join([decoded(content[: len(content) - values.nbytes]), *texts])


def _zip_texts(content: bytes, depth: int) -> Iterator[Text]:
    """Yield the texts of the members of a zip file; the tensors of a PyTorch file are left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield "", "\n".join([*archive.namelist(), decoded(archive.comment)])
            for member in archive.infolist():
                if _TENSOR.search(member.filename):
                    continue
                if member.file_size > MAX_INFLATED:
                    yield CLOSED, ""
                else:
                    yield from _content_texts(
                        archive.read(member), Path(member.filename).suffix, depth + 1
                    )
    except ARCHIVE_ERRORS:
        yield from (("", decoded(content)), (CLOSED, ""))


def _tar_texts(content: bytes, depth: int) -> Iterator[Text]:
    """Yield the texts of the members of a tar file; a damaged one is decoded as text."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                about = (
                    member.name,
                    member.linkname,
                    member.uname,
                    member.gname,
                    *member.pax_headers.values(),
                )
                yield "", "\n".join(map(str, about))
                stream = archive.extractfile(member)
                if stream is not None:
                    yield from _content_texts(stream.read(), Path(member.name).suffix, depth + 1)
            yield "", decoded(content[archive.offset :].rstrip(b"\0"))
    except (*ARCHIVE_ERRORS, KeyError):
        yield from (("", decoded(content)), (CLOSED, ""))


def _packed_texts(content: bytes, opener: Callable[..., Any], depth: int) -> Iterator[Text]:
    """Yield the texts of a gzip, bzip2 or xz file; a damaged one is read as far as possible."""
    whole = bytearray()
    try:
        with opener(io.BytesIO(content)) as stream:
            while len(whole) < MAX_INFLATED and (part := stream.read1(1 << 16)):
                whole += part
    except ARCHIVE_ERRORS:
        yield from (("", decoded(content)), (CLOSED, ""))
    if len(whole) >= MAX_INFLATED:
        yield CLOSED, ""
    yield from _content_texts(bytes(whole), "", depth + 1)


def _dicom_text(content: bytes) -> str:
    """The text of a DICOM file without its pixels, the last element of files that sono writes.

    The codes of value representations (LO, DA) are left out, because they look like short names.
    """
    start = content.rfind(b"\xe0\x7f\x10\x00OW")
    start = max(start, content.rfind(b"\xe0\x7f\x10\x00OB"))
    if start < 0:
        return decoded(_ELEMENT.sub(b"\n", content))
    end = start + 12 + int.from_bytes(content[start + 8 : start + 12], "little")
    return decoded(_ELEMENT.sub(b"\n", content[:start])) + "\n" + decoded(content[end:])
