"""Names of frames in an export: their image ids, or the raw files that they come from."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from sono.annotation.mask_matching import SOURCE
from sono.annotation.picture_names import stem_of
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import picture_of
from sono.curation.core.tables import rows_of
from sono.curation.core.workspace import Workspace


@dataclass(frozen=True)
class SourceNames:
    """The name and the stem of mask files of each frame, by image id."""

    of: Mapping[str, tuple[str, str]]
    remarks: tuple[str, ...] = ()


def frame_names(
    workspace: Workspace, frames: pd.DataFrame, raw: bool, is_source: bool
) -> SourceNames:
    """The names of `frames`: those of stored frames or, with `raw`, of the raw files.

    A name without the raw file says whether masks are in source pixels.
    """
    if raw:
        return _raw_names(workspace, frames)
    names = {}
    for image_id, file in zip(frames["image_id"], frames["file"], strict=True):
        stem = f"{image_id}-{SOURCE}" if is_source else picture_of(file)
        names[image_id] = (f"{stem}.png" if is_source else file, stem)
    return SourceNames(names)


def _raw_names(workspace: Workspace, frames: pd.DataFrame) -> SourceNames:
    """Paths below the folders given to `sono qc`; those of several folders keep their names."""
    sources = workspace.sources(["source_id", "path", "root"])
    paths = {
        key: os.fsdecode(path)
        for key, path in zip(sources["source_id"], sources["path"], strict=True)
    }
    roots = {os.fsdecode(root).rstrip("/") or "/" for root in sources["root"]}
    top = os.path.commonpath(roots) if all(root.startswith("/") for root in roots) else ""
    names: dict[str, str] = {}
    many = 0
    for row in rows_of(frames):
        path = paths[row["source_id"]]
        name = path.removeprefix(top).lstrip("/") if path.startswith(top) else path.lstrip("/")
        if not name.isprintable() or ".." in PurePosixPath(name).parts:
            raise SonoError(
                f"{path!r}: a name that no other tool may read; rename the file, or export without "
                "--source-names"
            )
        if pd.notna(row["source_frames"]) and row["source_frames"] > 1:
            many += 1
            name = _with_frame(name, int(row["frame"]))
        names[row["image_id"]] = name
    remarks = [
        f"{many} frames are of files with several frames; their names end with _frame and the "
        "number, and `sono masks import` does not match them"
    ]
    stems = {image_id: _stem(name) for image_id, name in names.items()}
    shared = {stem for stem, count in Counter(stems.values()).items() if count > 1}
    whole = {
        image_id: (name, name if stems[image_id] in shared else stems[image_id])
        for image_id, name in names.items()
    }
    return SourceNames(whole, tuple(remarks) if many else ())


def _with_frame(name: str, frame: int) -> str:
    stem = _stem(name)
    return f"{stem}_frame{frame:04d}{name[len(stem) :]}"


def _stem(name: str) -> str:
    folders, slash, last = name.rpartition("/")
    return f"{folders}{slash}{stem_of(last)}"
