"""`sono list`: the status and the reasons of every file, with its path in the vault only."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Group
from rich.text import Text

from sono.curation.clinical.values import shown_name
from sono.curation.core.column_values import STATUSES
from sono.curation.core.csv_files import export_csv
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.frame_files import picture_of
from sono.curation.core.reasons import REASONS
from sono.curation.core.workspace import Workspace

FILE_NAME = "files.csv"
TITLES = ("file", "frame", "status", "reasons", "message", "picture")
SHOWN = TITLES[:5]
EQUAL = frozenset({"exact_duplicate", "duplicate_conflict"})
MAX_ROWS = 50  # of a terminal


@dataclass(frozen=True)
class Listing:
    """The frames of a status and reason, and the table of all frames in the vault.

    Each row has the TITLES; `picture` names the stored frame, as `sono quarantine` does.
    """

    table: Path
    frames: tuple[dict[str, str], ...]

    def __rich__(self) -> Group:
        """One line for each frame, however long, so that no name of a file is cut."""
        rows = [tuple(row[title] for title in SHOWN) for row in self.frames[:MAX_ROWS]]
        widths = [max(map(len, cells)) for cells in zip(SHOWN, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (SHOWN, *rows)
        ]
        more = len(self.frames) - MAX_ROWS
        last = f"{more} more; " * (more > 0) + f"all with paths and messages: {self.table}"
        return Group(Text(lines[0], style="bold"), *map(Text, lines[1:]), Text(last))


def list_files(
    workspace: Workspace, status: str | None = None, reason: str | None = None, names: bool = False
) -> Listing:
    """List the frames of `status` and `reason`, and write all of them to files.csv in the vault.

    Paths are shown by their look, and messages only on records, unless `names` is set. SonoError
    for an unknown status or reason.
    """
    for given, known in ((status, STATUSES), (reason, REASONS)):
        if given is not None and given not in known:
            raise SonoError(f"unknown status or reason{did_you_mean(given, known)}")
    workspace.require_vault()
    sources = workspace.sources(["source_id", "frame", "path", "root", "file", "record_note"])
    images = workspace.images(["source_id", "frame", "image_id", "status", "reasons", "message"])
    rows = list(_rows(images.merge(sources, on=["source_id", "frame"])))
    if not rows:
        raise SonoError(f"{workspace.root}: no files; run `sono qc` first")
    table = workspace.vault / FILE_NAME
    export_csv(table, pd.DataFrame(rows, columns=TITLES), 0o600)
    shown = (
        row if names else row | {"file": shown_name(row["file"], False), "message": row["note"]}
        for row in rows
        if status in (None, row["status"]) and (reason is None or reason in row["reasons"].split())
    )
    return Listing(table, tuple({title: row[title] for title in TITLES} for row in shown))


def _rows(frames: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A row of the TITLES for each frame, and the `note` on its record, which names nothing."""
    files = [
        os.path.relpath(os.fsdecode(path), os.fsdecode(root))
        for path, root in zip(frames["path"], frames["root"], strict=True)
    ]
    frames = frames.assign(name=files)
    equal = frames.groupby("image_id")["name"].unique().to_dict()
    for row in frames.sort_values(["path", "frame"]).to_dict("records"):
        note, name = _text(row["record_note"]), row["name"]
        twins = [] if EQUAL.isdisjoint(row["reasons"]) else equal[row["image_id"]]
        others = ", ".join(other for other in twins if other != name)
        parts = (_text(row["message"]), f"equal to {others}" if others else "", note)
        yield {
            "file": shown_name(name, True),
            "frame": str(row["frame"]),
            "status": row["status"],
            "reasons": " ".join(row["reasons"]),
            "message": "; ".join(filter(None, parts)),
            "picture": picture_of(row["file"]) if isinstance(row["file"], str) else "",
            "note": note,
        }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
