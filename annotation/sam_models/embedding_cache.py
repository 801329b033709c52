"""Embeddings of frames on disk, by model and frame, so that a frame is encoded once.

`packed/embeddings/MODEL/FRAME.safetensors` in the workspace. A damaged file is made again, the
files that were unused for longest go when the folder grows too large, and it may be deleted at any
time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sono.annotation.sam_models.model import Embedding
from sono.curation.core.atomic import read_regular, remove_leftovers, sha256, write_bytes
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError

CHECKSUM = "sha256"  # of the bytes of all arrays; safetensors has none


def frame_key(gray: NDArray[np.uint8]) -> str:
    """A digest of the pixels and the size of a frame [H, W]."""
    return sha256(f"{gray.shape}".encode() + gray.tobytes())[:32]


@dataclass
class EmbeddingCache:
    """A folder of embeddings of at most `limit` bytes."""

    folder: Path
    limit: int

    def read(self, model: str, frame: str) -> Embedding | None:
        """The embedding of a frame, or None if it is not there or damaged."""
        path = self._path(model, frame)
        try:
            arrays = load(read_regular(path))
            checksum = arrays.pop(CHECKSUM).tobytes()
            os.utime(path)  # used now
        except (OSError, SonoError, SafetensorError, KeyError, ValueError):
            return None
        return arrays if checksum == _checksum(arrays) else None

    def write(self, model: str, frame: str, embedding: Embedding) -> None:
        """Keep an embedding; if the disk cannot hold it, warn once and keep none from now on."""
        arrays = {name: np.ascontiguousarray(value) for name, value in embedding.items()}
        checksum = np.frombuffer(_checksum(arrays), np.uint8)
        content = save({**arrays, CHECKSUM: checksum})
        if len(content) > self.limit:
            return
        path = self._path(model, frame)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._shrink(self.limit - len(content))
            write_bytes(path, content, durable=False)
        except OSError as error:
            self.limit = 0
            warn(f"{path.parent}: cannot keep what the encoder found ({error}); it runs each time")

    def _shrink(self, limit: int) -> None:
        """Delete the files that were unused for longest until the rest has `limit` bytes."""
        found = [(path, path.stat()) for path in self.folder.glob("*/*.safetensors")]
        size = sum(stat.st_size for _, stat in found)
        for path, stat in sorted(found, key=lambda one: (one[1].st_mtime_ns, one[0])):
            if size <= limit:
                return
            path.unlink(missing_ok=True)
            size -= stat.st_size

    def _path(self, model: str, frame: str) -> Path:
        return self.folder / model / f"{frame}.safetensors"


def _checksum(arrays: Embedding) -> bytes:
    parts = [f"{name} {value.dtype} {value.shape}" for name, value in sorted(arrays.items())]
    content = b"".join(value.tobytes() for _, value in sorted(arrays.items()))
    return bytes.fromhex(sha256("\n".join(parts).encode() + content))
