"""`sono list`: the status and the reasons of every file, with its path in the vault only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from sono.curation.clinical.values import shown_name
from sono.curation.core.column_values import STATUSES
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.frame_files import picture_of
from sono.curation.core.reasons import REASONS
from sono.curation.core.tables import export_csv
from sono.curation.core.workspace import Workspace

FILE_NAME = "files.csv"
TITLES = ("file", "frame", "status", "reasons", "message", "picture")
MAX_ROWS = 50  # of a terminal


@dataclass(frozen=True)
class Listing:
    """The frames of a status and reason, and the table of all frames in the vault.

    Each row has the TITLES; `picture` names the stored frame, as `sono quarantine` does.
    """

    table: Path
    frames: tuple[dict[str, str], ...]

    def __rich__(self) -> Table:
        shown = Table(*TITLES[:4], box=None, pad_edge=False, header_style="bold")
        for row in self.frames[:MAX_ROWS]:
            shown.add_row(*(Text(row[title]) for title in TITLES[:4]))
        more = len(self.frames) - MAX_ROWS
        shown.caption = f"{more} more; " * (more > 0) + f"all with paths and messages: {self.table}"
        shown.caption_justify = "left"
        return shown


def list_files(
    workspace: Workspace, status: str | None = None, reason: str | None = None, names: bool = False
) -> Listing:
    """List the frames of `status` and `reason`, and write all of them to files.csv in the vault.

    Paths are shown by their look, unless `names` is set. SonoError for an unknown status or reason.
    """
    for given, known in ((status, STATUSES), (reason, REASONS)):
        if given is not None and given not in known:
            raise SonoError(f"unknown status or reason{did_you_mean(given, known)}")
    workspace.require_vault()
    sources = workspace.sources(["source_id", "frame", "path", "root", "file"])
    images = workspace.images(["source_id", "frame", "status", "reasons", "message"])
    rows = list(_rows(images.merge(sources, on=["source_id", "frame"])))
    if not rows:
        raise SonoError(f"{workspace.root}: no files; run `sono qc` first")
    table = workspace.vault / FILE_NAME
    export_csv(table, pd.DataFrame(rows, columns=TITLES), 0o600)
    chosen = (
        row | {"file": shown_name(row["file"], names)}
        for row in rows
        if status in (None, row["status"]) and (reason is None or reason in row["reasons"].split())
    )
    return Listing(table, tuple(chosen if names else (row | {"message": ""} for row in chosen)))


def _rows(frames: pd.DataFrame) -> Iterator[dict[str, str]]:
    for row in frames.sort_values(["path", "frame"]).to_dict("records"):
        yield {
            "file": os.path.relpath(os.fsdecode(row["path"]), os.fsdecode(row["root"])),
            "frame": str(row["frame"]),
            "status": row["status"],
            "reasons": " ".join(row["reasons"]),
            "message": row["message"] if isinstance(row["message"], str) else "",
            "picture": picture_of(row["file"]) if isinstance(row["file"], str) else "",
        }
