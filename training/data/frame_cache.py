"""The frame cache: frames and masks at a model's size, mapped and shared by all processes.

`packed/SIDE/frames.safetensors` in the workspace contains letterboxed gray frames,
`masks.safetensors` the run lengths of the masks. Each has a key of everything that it was made
from, and a checksum; a stale or damaged file is made again. If the workspace cannot hold them,
frames and masks are made in memory. The folder may be deleted at any time.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.atomic import open_lock, remove_leftovers
from sono.curation.core.console import progress, stderr_console
from sono.curation.core.frame_files import read_stored
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.rle import decode
from sono.curation.core.workspace import Workspace
from sono.training.data.mapped_arrays import Arrays, map_arrays, whole_arrays, write_arrays

FOLDER = "packed"
# of the geometry and the format: increase it when `letterbox` or `letterbox_mask` changes
VERSION = 1
AT_A_TIME = 256  # frames read ahead of the writing


@dataclass(frozen=True, eq=False)
class FrameRows:
    """Frames [n, S, S] of a frame cache, read on access.

    A copy in another process maps the same file.
    """

    path: Path
    at: NDArray[np.intp]  # their rows in the store [n]

    @cached_property
    def _stored(self) -> NDArray[np.uint8]:
        frames: NDArray[np.uint8] = map_arrays(self.path)[1]["frames"]
        return frames

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, S, S."""
        return (len(self.at), *self._stored.shape[1:])

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """Frames by number, list or slice, as in an array."""
        frames: NDArray[np.uint8] = self._stored[self.at[rows]]
        return frames

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "at": self.at}

    def mean(self) -> float:
        """The mean of all pixels, exactly."""
        return float(self._counts @ np.arange(256) / self._counts.sum())

    def std(self) -> float:
        """The standard deviation of all pixels, exactly."""
        return float(
            np.sqrt(self._counts @ np.square(np.arange(256) - self.mean()) / self._counts.sum())
        )

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """How many pixels have each value [256]."""
        parts = (
            np.bincount(self[start : start + 64].ravel(), minlength=256)
            for start in range(0, len(self), 64)
        )
        counts: NDArray[np.int64] = np.sum(list(parts), axis=0)
        return counts


def packed_frames(
    workspace: Workspace, files: Sequence[str], side: int
) -> FrameRows | NDArray[np.uint8]:
    """The stored frames `files` letterboxed to `side` [n, side, side], from the frame cache.

    The cache has all accepted frames. The frames are made in memory if there can be no cache, or a
    file does not belong to an accepted frame.
    """
    path, key, every = _frame_store(workspace, side)
    if files and set(every) >= set(files):
        shapes = {"frames": (np.uint8, (len(every), side, side))}
        if (
            _kept(
                path,
                key,
                lambda: write_arrays(path, key, shapes, _letterboxed(workspace, every, side)),
            )
            is not None
        ):
            return _rows_at(path, every, files)
    return np.array(list(_letterboxed(workspace, files, side)), np.uint8).reshape(-1, side, side)


def kept_frames(workspace: Workspace, files: Sequence[str], side: int) -> FrameRows | None:
    """The frames of `packed_frames` from an existing, complete cache.

    The result is None if there is none, or it lacks some of the `files`.
    """
    path, key, every = _frame_store(workspace, side)
    if not set(every) >= set(files) or whole_arrays(path, key) is None:
        return None
    return _rows_at(path, every, files)


def _frame_store(workspace: Workspace, side: int) -> tuple[Path, str, list[str]]:
    """The path of the frame cache, its key, and the accepted files in its order."""
    table = workspace.images(["status", "file"])
    every = sorted(set(table.loc[table["status"] == "accepted", "file"]))
    path = workspace.root / FOLDER / str(side) / "frames.safetensors"
    return (
        path,
        _key("frames", side, every),
        every,
    )  # a file's name identifies the image and its crop


def _rows_at(path: Path, every: Sequence[str], files: Sequence[str]) -> FrameRows:
    row_of = {file: row for row, file in enumerate(every)}
    return FrameRows(path, np.array([row_of[file] for file in files], np.intp))


def packed_masks(
    workspace: Workspace, masks: Sequence[dict[str, Any]], side: int
) -> dict[str, NDArray[np.uint32]]:
    """The run lengths at `side` of rows of the masks table, by mask id.

    Raises SonoError for a mask that is not well-formed.
    """
    masks = sorted(masks, key=lambda mask: str(mask["mask_id"]))
    ids = [str(mask["mask_id"]) for mask in masks]
    if not masks:
        return {}
    path = workspace.root / FOLDER / str(side) / "masks.safetensors"
    key = _key(
        "masks",
        side,
        ([mask[name] for name in ("mask_id", "height", "width", "counts")] for mask in masks),
    )
    arrays = _kept(path, key, lambda: _write_masks(path, key, masks, side))
    if arrays is None:
        return dict(zip(ids, _packed_runs(masks, side), strict=True))
    starts = arrays["starts"].tolist()
    return {
        name: arrays["runs"][start:stop]
        for name, start, stop in zip(ids, starts, starts[1:], strict=False)
    }


def runs_of(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Run lengths [r] of a mask [S, S] along its rows, the first of zeros."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0] * (1 + bool(flat[0])), changes, [flat.size]])
    return np.diff(bounds).astype(np.uint32)


def mask_of(runs: NDArray[np.uint32], side: int) -> NDArray[np.bool_]:
    """The mask [side, side] of run lengths as `runs_of` gives them."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(side, side)


def _key(kind: str, side: int, rows: Iterable[Any]) -> str:
    """32 hexadecimal digits over everything that a file is made from."""
    digest = hashlib.sha256(f"{kind} {side} {VERSION}".encode())
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()[:32]


def _kept(path: Path, key: str, write: Callable[[], None]) -> Arrays | None:
    """The arrays of `key` at `path`, written by one process while the others wait.

    The result is None if they cannot be written.
    """
    found = whole_arrays(path, key)
    if found is not None:
        return found
    try:
        with _alone(path.parent):
            found = whole_arrays(path, key)  # another process may have been quicker
            if found is None:
                remove_leftovers(path.parent)
                write()
                found = whole_arrays(path, key)
    except OSError as error:
        stderr_console.print(
            f"{path}: cannot be written ({error.strerror}), so frames are made in memory for this "
            "run; free some disk space or make the folder writable",
            markup=False,
        )
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process writes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / ".lock") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _letterboxed(
    workspace: Workspace, files: Sequence[str], side: int
) -> Iterator[NDArray[np.uint8]]:
    """The letterboxed frames, one after another.

    Reading and resizing release the interpreter lock, so threads are sufficient.
    """

    def one(file: str) -> NDArray[np.uint8]:
        return letterbox(read_stored(workspace.root / file), side)

    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        progress("frames", len(files)) as advance,
    ):
        for start in range(0, len(files), AT_A_TIME):
            for frame in pool.map(one, files[start : start + AT_A_TIME]):
                advance()
                yield frame


def _packed_runs(masks: Sequence[dict[str, Any]], side: int) -> Iterator[NDArray[np.uint32]]:
    with progress("masks", len(masks)) as advance:
        for mask in masks:
            yield runs_of(
                letterbox_mask(decode(mask["counts"], mask["height"], mask["width"]), side)
            )
            advance()


def _write_masks(path: Path, key: str, masks: Sequence[dict[str, Any]], side: int) -> None:
    runs = list(_packed_runs(masks, side))
    starts = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    shapes = {"starts": (np.int64, (len(starts),)), "runs": (np.uint32, (int(starts[-1]),))}
    write_arrays(path, key, shapes, [starts, *runs])
