"""The quarantine: sheets to look at, and the frames that a person lets pass after looking."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from sono.curation.assembly import build_images
from sono.curation.drawing import contact_sheet
from sono.curation.errors import SonoError
from sono.curation.privacy import check_privacy
from sono.curation.reasons import NOT_BY_EYE, REASONS
from sono.curation.storage import write_bytes
from sono.curation.stored import quarantined_path, read_stored
from sono.curation.tables import RELEASED, SOURCES, from_rows, read_table, rows_of, write_table
from sono.curation.workspace import Workspace

TILE = 300  # pixels; letters of a frame shall be readable on a sheet
TILES, COLUMNS = 20, 5  # of one sheet


@dataclass(frozen=True)
class Held:
    """Frames in the quarantine by reason, and the sheets that show them; these stay in the vault."""

    frames: int
    reasons: dict[str, int]
    sheets: tuple[Path, ...]


@dataclass(frozen=True)
class Released:
    """How many frames were released, how many of them are accepted now, and how many stay in the quarantine."""

    released: int
    accepted: int
    held: int
    private_strings: int


def show_quarantine(workspace: Workspace, reason: str | None = None) -> Held:
    """Draw the quarantined frames, of one `reason` or all, on sheets in the vault."""
    held = _held(workspace, reason)
    for old in workspace.vault.glob("quarantine-*.png"):
        old.unlink()
    pictures = _pictures(workspace)
    ids = [name for name in held["image_id"] if name in pictures]
    codes = {row["image_id"]: _why(row["reasons"]) for row in held.to_dict("records")}
    sheets = []
    for number, start in enumerate(range(0, len(ids), TILES), 1):
        part = ids[start : start + TILES]
        tiles = [(read_stored(pictures[name]), f"{name}\n{codes[name]}") for name in part]
        sheets.append(workspace.vault / f"quarantine-{number:03}.png")
        write_bytes(sheets[-1], contact_sheet(tiles, COLUMNS, TILE), 0o600)
    counts = Counter(code for codes in held["reasons"] for code in codes if REASONS[code].status == "quarantined")
    return Held(len(held), dict(sorted(counts.items())), tuple(sheets))


def release(workspace: Workspace, image_ids: Sequence[str], reviewer: str) -> Released:
    """Let frames pass that `reviewer` looked at; remembered in the vault, so that the next `sono qc` knows it, too.

    SonoError for an id that is no quarantined frame: nothing is released then.
    """
    with workspace.lock():
        held = _held(workspace, None)
        unknown = [name for name in image_ids if name not in set(held["image_id"])]
        if unknown:
            raise SonoError(
                f"{_shown(unknown[0])}: no frame in the quarantine has this id ({len(unknown)} of {len(image_ids)} are "
                "unknown); `sono quarantine show` draws the frames with their ids"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = [{"image_id": name, "reviewer": reviewer, "reviewed_at": now} for name in dict.fromkeys(image_ids)]
        known = read_table(workspace.released_path, RELEASED)
        rows = [*rows_of(known[~known["image_id"].isin(list(image_ids))]), *fresh]
        write_table(workspace.released_path, from_rows(RELEASED, rows), RELEASED, mode=0o600)
        images = build_images(workspace)
        searched = check_privacy(workspace)
    mine = images[images["image_id"].isin(list(image_ids))]
    accepted = int(mine.loc[mine["status"] == "accepted", "image_id"].nunique())
    return Released(len(fresh), accepted, int((images["status"] == "quarantined").sum()), searched)


def _held(workspace: Workspace, reason: str | None) -> pd.DataFrame:
    """The quarantined frames of the images table, once each, of one `reason` or all."""
    if reason is not None and (reason not in REASONS or REASONS[reason].status != "quarantined"):
        choices = ", ".join(code for code, one in REASONS.items() if one.status == "quarantined")
        raise SonoError(f"unknown reason {_shown(reason)}; a frame is quarantined for {choices}")
    images = workspace.images(["image_id", "status", "reasons", "source_id", "frame"])
    held = images[images["status"] == "quarantined"].drop_duplicates("image_id")
    return held if reason is None else held[held["reasons"].map(lambda codes: reason in codes)]


def _pictures(workspace: Workspace) -> dict[str, Path]:
    """Where the quarantined frames stand, by image id."""
    sources = read_table(workspace.sources_path, SOURCES).dropna(subset=["image_id", "file"])
    places = {row["image_id"]: quarantined_path(workspace, row["file"]) for row in sources.to_dict("records")}
    return {name: place for name, place in places.items() if place.is_file()}


def _why(codes: Sequence[str]) -> str:
    return ", ".join(
        code + " (cannot be released)" * (code in NOT_BY_EYE) for code in codes if REASONS[code].status == "quarantined"
    )


def _shown(text: str) -> str:
    """What a user typed, unless it may be a name or a path."""
    return text if re.fullmatch(r"[0-9a-z_]{1,32}", text) else "that text"
