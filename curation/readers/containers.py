"""Files that may contain frames but that sono does not open, recognized by content."""

import io
import re
import struct
import zipfile
import zlib
from typing import NamedTuple

HEAD = 4096  # bytes of a file, or of what is inside a gzip file, that are looked at


class Format(NamedTuple):
    """A reason code, the name of a format, and what to do with such a file."""

    code: str
    name: str
    advice: str

    @property
    def message(self) -> str:
        """The message for the user, in one line."""
        return f"{self.name}: {self.advice}"


UNPACK = "unpack it and run `sono qc` on the folder"
UNPACK_OR_NAME = "unpack it, or give it a name in .zip, .tar, .tar.gz or .tgz on a local disk"
INSTALL_VIDEO = "pip install 'sono[video]', then run `sono qc` again"
INSTALL_HEIF = "pip install 'sono[heif]', then run `sono qc` again"
EXPORT_SLICES = "export its slices as DICOM or PNG files"
CONVERT = "convert it to PNG"
EXTRACT = "export its pictures as PNG files; give a table of records by --records"

_FORMATS = {
    name: Format(code, name, advice)
    for code, advice, names in (
        (
            "archive",
            UNPACK_OR_NAME,
            (
                "ZIP archive",
                "tar archive",
            ),
        ),
        (
            "archive",
            UNPACK,
            (
                "7z archive",
                "RAR archive",
                "gzip file",
                "bzip2 file",
                "xz file",
                "Zstandard file",
                "ISO disk image",
            ),
        ),
        (
            "video",
            INSTALL_VIDEO,
            (
                "AVI video",
                "MP4 or QuickTime video",
                "Matroska or WebM video",
                "Windows Media video",
                "Flash video",
                "MPEG video",
                "Ogg video",
            ),
        ),
        (
            "volume",
            EXPORT_SLICES,
            (
                "MetaImage file",
                "NIfTI volume",
                "Analyze volume",
                "NRRD volume",
                "NumPy array",
                "NumPy archive",
                "HDF5 file",
                "MATLAB file",
                "VTK file",
            ),
        ),
        (
            "volume",
            ("export its planes as DICOM or PNG files on the machine or in 4D View"),
            ("Kretz volume",),
        ),
        ("needs_extra", INSTALL_HEIF, ("HEIC picture",)),
        (
            "unsupported",
            CONVERT,
            (
                "AVIF picture",
                "WebP picture",
                "JPEG XL picture",
                "Photoshop picture",
                "OpenEXR picture",
            ),
        ),
        (
            "document",
            EXTRACT,
            (
                "PDF document",
                "PostScript document",
                "RTF document",
                "Office document",
                "old Office document",
                "SQLite database",
            ),
        ),
    )
    for name in names
}
MESSAGES = tuple(known.message for known in _FORMATS.values())

# Bytes that a file of a format starts with.
_STARTS = (
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"\xfd7zXZ\0", "xz file"),
    (b"\x28\xb5\x2f\xfd", "Zstandard file"),
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media video"),
    (b"FLV\x01", "Flash video"),
    (b"\0\0\x01\xba", "MPEG video"),
    (b"\0\0\x01\xb3", "MPEG video"),
    (b"OggS", "Ogg video"),
    (b"NRRD000", "NRRD volume"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (b"MATLAB 5.0 MAT-file", "MATLAB file"),
    (b"# vtk DataFile", "VTK file"),
    (b"KRETZFILE", "Kretz volume"),
    (b"8BPS", "Photoshop picture"),
    (b"\0\0\0\x0cJXL ", "JPEG XL picture"),
    (b"\x76\x2f\x31\x01", "OpenEXR picture"),
    (b"%!PS", "PostScript document"),
    (b"{\\rtf", "RTF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office document"),
    (b"SQLite format 3\0", "SQLite database"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_META_IMAGE = re.compile(rb"\s*(ObjectType|NDims|Comment)\s*=")
_NIFTI_BYTES, _NIFTI_2_BYTES = 348, 540  # of their headers
_ISO_MARK = 32769
_TS_PACKET = 188


def format_of(content: bytes) -> Format | None:
    """The format of a file that sono recognizes but does not open; None for any other."""
    name = _name(content)
    return None if name is None else _FORMATS[name]


def _name(content: bytes) -> str | None:
    for start, name in _STARTS:
        if content.startswith(start):
            return name
    for look in (_zip, _gzip, _riff, _boxes, _volume, _transport_stream):
        if (found := look(content)) is not None:
            return found
    if content[257:262] == b"ustar":
        return "tar archive"
    if content[:3] == b"BZh" and content[4:10] == b"1AY&SY":
        return "bzip2 file"
    if content[_ISO_MARK : _ISO_MARK + 5] == b"CD001":
        return "ISO disk image"
    return "PDF document" if b"%PDF-" in content[:1024] else None


def _zip(content: bytes) -> str | None:
    """The kind of a ZIP file: workbooks and NumPy archives are ZIP files too."""
    if not content.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
        return "ZIP archive"
    if "[Content_Types].xml" in names or names[:1] == ["mimetype"]:
        return "Office document"
    return (
        "NumPy archive" if names and all(name.endswith(".npy") for name in names) else "ZIP archive"
    )


def _gzip(content: bytes) -> str | None:
    if not content.startswith(b"\x1f\x8b\x08"):
        return None
    try:
        inside = zlib.decompressobj(31).decompress(content[: 1 << 16], HEAD)
    except zlib.error:
        return "gzip file"
    return _volume(inside) or ("tar archive" if inside[257:262] == b"ustar" else "gzip file")


def _riff(content: bytes) -> str | None:
    if content[:4] != b"RIFF":
        return None
    return {b"AVI ": "AVI video", b"WEBP": "WebP picture"}.get(content[8:12])


def _boxes(content: bytes) -> str | None:
    """Files of the ISO base media format: pictures of phones, and videos."""
    if content[4:8] not in _QUICKTIME or content[:1] not in (b"\0", b"\1"):
        return None
    if content[4:8] != b"ftyp":
        return "MP4 or QuickTime video"
    brands = {
        content[8:12],
        *(content[place : place + 4] for place in range(16, min(64, _box_end(content)), 4)),
    }
    if brands & set(_AVIF):
        return "AVIF picture"
    return "HEIC picture" if brands & set(_HEIC) else "MP4 or QuickTime video"


def _box_end(content: bytes) -> int:
    return int.from_bytes(content[:4], "big")


def _volume(content: bytes) -> str | None:
    """MetaImage, NIfTI and Analyze, which start with text or numbers of their own."""
    if _META_IMAGE.match(content) and b"ElementType" in content[:HEAD]:
        return "MetaImage file"
    for order in ("<", ">"):
        size = struct.unpack_from(f"{order}i", content)[0] if len(content) >= _NIFTI_BYTES else 0
        if size == _NIFTI_BYTES and content[344:348] in (b"n+1\0", b"ni1\0"):
            return "NIfTI volume"
        if size == _NIFTI_2_BYTES and content[4:7] in (b"n+2", b"ni2"):
            return "NIfTI volume"
        if size == _NIFTI_BYTES and content[38:39] == b"r":
            return "Analyze volume"
    return None


def _transport_stream(content: bytes) -> str | None:
    packets = content[: 5 * _TS_PACKET : _TS_PACKET]
    return "MPEG video" if packets == b"G" * 5 else None
