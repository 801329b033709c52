"""Stored frames: their names, their bytes, and their places."""

import hashlib
import os
import struct
from pathlib import Path

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from sono.curation.core.atomic import open_regular, read_regular
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
LEFT_DIFFERENCE = 1  # the PNG filter "Sub"
PNG_LEVEL = 1
MAX_STORED_BYTES = 1 << 28


def image_id_of(gray: NDArray[np.uint8]) -> str:
    """16 hexadecimal digits of the SHA-256 over shape and pixels [H, W]."""
    shape = f"{gray.shape[0]}x{gray.shape[1]}:".encode()
    digest = hashlib.sha256(shape)
    digest.update(np.ascontiguousarray(gray).data)
    return digest.hexdigest()[:16]


def frame_file(image_id: str, crop: NDArray[np.uint8]) -> str:
    """The path of the `crop` [H, W] of a frame below the workspace, with forward slashes.

    Copies of one frame may be cropped in different ways, because a DICOM header can name the region
    of tissue.
    """
    return f"frames/{image_id[:2]}/{image_id}-{checksum_of(crop)}.png"


def checksum_of(crop: NDArray[np.uint8]) -> str:
    """The CRC-32 of the pixels of a stored frame [H, W], as its name has it."""
    return f"{isal_zlib.crc32(np.ascontiguousarray(crop)):08x}"


def picture_of(file: str) -> str:
    """The name of the picture in a stored `file`: frame and crop."""
    return Path(file).stem


def encode_png(gray: NDArray[np.uint8]) -> bytes:
    """An 8-bit gray PNG of `gray` [H, W] without ancillary chunks.

    Each pixel is stored as the difference from its left neighbor. ISA-L deflates five times as fast
    as zlib; the bytes may differ between processors and processes, the pixels never do.
    """
    height, width = gray.shape
    lines = np.empty((height, width + 1), np.uint8)
    lines[:, 0] = LEFT_DIFFERENCE
    lines[:, 1] = gray[:, 0]
    np.subtract(gray[:, 1:], gray[:, :-1], out=lines[:, 2:])
    return _png(height, width, isal_zlib.compress(lines, PNG_LEVEL))


def is_whole_png(content: bytes, height: int, width: int) -> bool:
    """Whether `content` is a complete picture of that size as `encode_png` writes it."""
    # after the start, IHDR and 8 bytes of IDAT; before its checksum and IEND
    body = content[41:-16]
    return content == _png(height, width, body)


def _png(height: int, width: int, body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, gray, not interlaced
    return PNG_START + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk: length, kind, body and checksum."""
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", isal_zlib.crc32(kind + body))
    )


def read_stored(path: Path) -> NDArray[np.uint8]:
    """A stored frame [H, W]; raises SonoError if missing, damaged or of other pixels than named."""
    return _checked(path)[1]


def stored_png(path: Path) -> bytes:
    """The bytes of a stored frame, checked as by `read_stored`."""
    return _checked(path)[0]


def _checked(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """The bytes of a stored frame, and its pixels [H, W]."""
    try:
        content = read_regular(path, MAX_STORED_BYTES)
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except (OSError, cv2.error):
        decoded = None
    if decoded is None:
        raise SonoError(
            f"{path}: stored frame missing or damaged; delete it and run `sono qc` on its folder "
            f"again"
        )
    gray = np.asarray(decoded, np.uint8)
    if not picture_of(path.name).endswith(f"-{checksum_of(gray)}"):
        raise SonoError(
            f"{path}: its pixels are not those of the frame with this name; delete it and run "
            f"`sono qc` on its folder again"
        )
    return content, gray


def is_whole(path: Path, height: int, width: int) -> bool:
    """Whether a complete stored frame of that size is at `path`, judged by the ends of the file."""
    try:
        with open_regular(path) as stream:
            head = stream.read(24)
            stream.seek(-len(PNG_END), os.SEEK_END)
            return head[16:] == struct.pack(">II", width, height) and stream.read() == PNG_END
    except (OSError, SonoError):
        return False


def stored_path(workspace: Workspace, file: str) -> Path:
    """The path of an accepted frame."""
    return workspace.root / file


def quarantined_path(workspace: Workspace, file: str) -> Path:
    """The path of a frame that a person must check first."""
    return workspace.quarantine / Path(file).relative_to("frames")
