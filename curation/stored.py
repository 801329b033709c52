"""Stored frames: their names, their bytes, and where they stand."""

import hashlib
import os
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.errors import SonoError
from sono.curation.workspace import Workspace

PNG_END = b"IEND\xaeB`\x82"


def image_id_of(gray: NDArray[np.uint8]) -> str:
    """16 hexadecimal digits of the SHA-256 over shape and pixels [H, W]."""
    shape = f"{gray.shape[0]}x{gray.shape[1]}:".encode()
    return hashlib.sha256(shape + np.ascontiguousarray(gray).tobytes()).hexdigest()[:16]


def frame_file(image_id: str) -> str:
    """Where a stored frame lies below the workspace, with forward slashes."""
    return f"frames/{image_id[:2]}/{image_id}.png"


def encode_png(gray: NDArray[np.uint8]) -> bytes:
    """An 8-bit gray PNG without ancillary chunks."""
    # speckle does not repeat itself: run lengths alone are smaller than a search for repeats, and twice as fast
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    done, encoded = cv2.imencode(".png", gray, how)
    if not done:
        raise ValueError(f"could not encode a frame of shape {gray.shape} as PNG")
    return encoded.tobytes()


def read_stored(path: Path) -> NDArray[np.uint8]:
    """A stored frame [H, W]; SonoError where it is missing or damaged."""
    try:
        decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (OSError, cv2.error):
        decoded = None
    if decoded is None:
        raise SonoError(f"{path}: stored frame missing or damaged; run `sono qc` on its folder again")
    return np.asarray(decoded, np.uint8)


def is_whole(path: Path, height: int, width: int) -> bool:
    """Whether a stored frame of that size stands at `path`, judged by both ends of the file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
            stream.seek(-len(PNG_END), os.SEEK_END)
            return head[16:] == struct.pack(">II", width, height) and stream.read() == PNG_END
    except OSError:
        return False


def stored_path(workspace: Workspace, file: str) -> Path:
    """Where an accepted frame stands."""
    return workspace.root / file


def quarantined_path(workspace: Workspace, file: str) -> Path:
    """Where a frame stands that a person must look at first."""
    return workspace.quarantine / Path(file).relative_to("frames")
