"""The source files of a study as candidates for masks: path, hash and frames of each."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from sono.curation.core.tables import Row
from sono.curation.core.workspace import Workspace
from sono.curation.records.table import path_parts


@dataclass(frozen=True)
class SourceFile:
    """A source file of the study, with its frames.

    `depth` is how many of its folders lie below the folder given to `sono qc`, `sha` its SHA-256.
    """

    path: str
    depth: int
    sha: str | None
    frames: int
    rows: tuple[Row, ...]  # of the images table: the frames that were looked at

    @cached_property
    def parts(self) -> list[str]:
        return path_parts(self.path)

    @cached_property
    def key(self) -> str:
        """Equal for files with equal pixels."""
        ids = {row["image_id"] for row in self.rows}
        only = ids.pop() if len(ids) == 1 and len(self.rows) == 1 else None
        return only if isinstance(only, str) else self.path


def source_files(workspace: Workspace, images: pd.DataFrame) -> Iterable[SourceFile]:
    """All files of the vault's sources with their rows of `images`; none without the vault."""
    if not workspace.sources_path.exists():
        return
    sources = workspace.sources(["source_id", "path", "root"])
    rows: dict[str, list[Row]] = {}
    for row in images.to_dict("records"):
        rows.setdefault(row["source_id"], []).append(row)  # type: ignore[arg-type]
    counts = dict(zip(images["source_id"], images["source_frames"].fillna(1), strict=True))
    places = {
        name: (file, root)
        for name, file, root in zip(*(sources[column] for column in sources), strict=True)
    }
    for source_id, (file, root) in places.items():
        if source_id in rows:
            full, top = os.fsdecode(file), os.fsdecode(root).rstrip("/")
            inner = (
                Path(full).relative_to(top) if full.startswith(top + "/") else Path(Path(full).name)
            )
            own = tuple(rows[source_id])
            sha = own[0]["file_sha256"]
            frames = max(len(own), int(counts.get(source_id, 1)))
            yield SourceFile(
                full, len(inner.parts) - 1, sha if isinstance(sha, str) else None, frames, own
            )
