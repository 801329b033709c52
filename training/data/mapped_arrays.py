"""Arrays in one memory-mapped file: safetensors, written as a stream, with a checksum."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from sono.curation.core.atomic import atomic_path, open_regular
from sono.curation.core.console import warn

Arrays = dict[str, NDArray[Any]]
CHECKSUM = "crc32"  # the last array: of the bytes of all others
PART = 1 << 24  # bytes at a time of the checksum
_NAMES = {"U8": np.uint8, "U32": np.uint32, "I64": np.int64, "F32": np.float32}
_KINDS = {np.dtype(kind): name for name, kind in _NAMES.items()}


def write_arrays(
    path: Path,
    key: str,
    shapes: Mapping[str, tuple[Any, tuple[int, ...]]],
    parts: Iterable[NDArray[Any]],
) -> None:
    """Write arrays of `shapes` atomically, as a stream.

    `shapes` are kind and shape by name, in order; `parts` are the rows of the arrays one after
    another. Raises OSError if the disk is full or cannot be written.
    """
    kinds = {name: np.dtype(kind) for name, (kind, _) in shapes.items()}
    sizes = {
        name: kinds[name].itemsize * int(np.prod(shape, dtype=np.int64))
        for name, (_, shape) in shapes.items()
    }
    described: dict[str, Any] = {"__metadata__": {"key": key}}
    start = 0
    for name, (_, shape) in shapes.items():
        described[name] = _entry(kinds[name], shape, start)
        start += sizes[name]
    described[CHECKSUM] = _entry(np.dtype(np.uint32), (1,), start)
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        checksum = 0
        for part in parts:
            content = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            checksum = isal_zlib.crc32(content, checksum)
            stream.write(content.data)
        stream.write(checksum.to_bytes(4, "little"))


def keep_arrays(path: Path, key: str, arrays: Arrays, otherwise: str) -> None:
    """`write_arrays` of complete arrays, for the next command.

    A folder that cannot hold them goes without: a warning says why, and what happens `otherwise`.
    """
    shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, key, shapes, arrays.values())
    except OSError as error:
        warn(f"{path}: cannot be written ({error.strerror}); {otherwise}")


def bytes_of_text(text: str) -> NDArray[np.uint8]:
    """A text of ASCII as an array."""
    return np.frombuffer(text.encode("ascii"), np.uint8)


def text_of_bytes(array: NDArray[Any]) -> str:
    """The text of an array from `bytes_of_text`."""
    return array.tobytes().decode("ascii")


def map_arrays(path: Path) -> tuple[str, Arrays]:
    """The key and the arrays of a file, mapped and not read.

    Raises ValueError or OSError for a file of another kind.
    """
    with open_regular(path) as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("cut short")
        described = json.loads(stream.read(size))
    content = np.memmap(path, np.uint8, "r", offset=8 + size)
    key = str(described.pop("__metadata__")["key"])
    return key, {name: _array(content, entry) for name, entry in described.items()}


def whole_arrays(path: Path, key: str) -> Arrays | None:
    """The arrays of a file that was written under `key`, after a check of its checksum.

    The result is None for a missing, damaged or other file.
    """
    try:
        found, arrays = map_arrays(path)
    # absent, or no header of ours
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if found != key or CHECKSUM not in arrays:
        return None
    checksum = 0
    for name, array in arrays.items():
        content = array.reshape(-1).view(np.uint8)
        for start in range(0, len(content) if name != CHECKSUM else 0, PART):
            checksum = isal_zlib.crc32(content[start : start + PART], checksum)
    return arrays if checksum == int(arrays[CHECKSUM][0]) else None


def _entry(kind: "np.dtype[Any]", shape: tuple[int, ...], start: int) -> dict[str, Any]:
    stop = start + kind.itemsize * int(np.prod(shape, dtype=np.int64))
    return {"dtype": _KINDS[kind], "shape": list(shape), "data_offsets": [start, stop]}


def _array(content: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    start, stop = entry["data_offsets"]
    return content[start:stop].view(_NAMES[entry["dtype"]]).reshape(entry["shape"])
