"""The quarantine: sheets to look at, and the frames that a person lets pass after looking."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import write_bytes
from sono.curation.core.drawing import contact_sheet
from sono.curation.core.errors import SonoError, typed_name
from sono.curation.core.frame_files import picture_of, quarantined_path, read_stored
from sono.curation.core.reasons import NOT_BY_EYE, REASONS
from sono.curation.core.tables import from_rows, rows_of
from sono.curation.core.vault_tables import RELEASED
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.privacy.gate import check_privacy

TILE = 300  # pixels; letters of a frame shall be readable on a sheet
TILES, COLUMNS = 20, 5  # of one sheet


@dataclass(frozen=True)
class QuarantineSummary:
    """Frames in the quarantine by reason, and the sheets that show them.

    These stay in the vault.
    """

    frames: int
    reasons: dict[str, int]
    sheets: tuple[Path, ...]


@dataclass(frozen=True)
class ReleaseSummary:
    """How many frames were released, how many of them are accepted now, and how many stay in
    the quarantine.
    """

    released: int
    accepted: int
    held: int
    private_strings: int


def show_quarantine(workspace: Workspace, reason: str | None = None) -> QuarantineSummary:
    """Draw the quarantined frames, of one `reason` or all, on sheets in the vault.

    SonoError where there is none.
    """
    workspace.require_vault()
    held = _held(workspace, reason)
    if reason is None or len(held):  # a sheet of frames that wait no longer goes
        for old in workspace.vault.glob("quarantine-*.png"):
            old.unlink(missing_ok=True)  # two may look at once
    if held.empty:
        which = f" with the reason {reason}" if reason else ""
        raise SonoError(
            f"{workspace.quarantine}: no frame{which} waits here; `sono stats` counts what does"
        )
    there = [
        row for row in held.to_dict("records") if quarantined_path(workspace, row["file"]).exists()
    ]
    sheets = []
    for number, start in enumerate(range(0, len(there), TILES), 1):
        tiles = [
            (
                read_stored(quarantined_path(workspace, row["file"])),
                f"{row['picture']}\n{_why(row['reasons'])}",
            )
            for row in there[start : start + TILES]
        ]
        sheets.append(workspace.vault / f"quarantine-{number:03}.png")
        write_bytes(sheets[-1], contact_sheet(tiles, COLUMNS, TILE), 0o600)
    counts = Counter(
        code for codes in held["reasons"] for code in codes if REASONS[code].status == "quarantined"
    )
    return QuarantineSummary(len(held), dict(sorted(counts.items())), tuple(sheets))


def release(workspace: Workspace, pictures: Sequence[str], reviewer: str) -> ReleaseSummary:
    """Let frames pass that `reviewer` looked at; remembered in the vault, so that the next `sono
    qc` knows it, too.

    `pictures` are the names on the sheets: another crop of the same frame stays held. SonoError
    where one is not in the quarantine or cannot be judged by eye: nothing is released then.
    """
    reviewer = typed_name("--reviewer", reviewer)
    workspace.require_vault()
    wanted = list(dict.fromkeys(pictures))
    with workspace.lock():
        held, known = _held(workspace, None), workspace.released()
        names = {*held["picture"], *known["picture"]}
        unknown = [name for name in wanted if name not in names]
        if unknown:
            whole = next(
                (name for name in sorted(names) if name.startswith(f"{unknown[0]}-")), None
            )
            near = f" (the name on the sheet is {whole})" if whole else ""
            raise SonoError(
                f"{_shown(unknown[0])}{near}: no frame in the quarantine has this name "
                f"({len(unknown)} of {len(wanted)} are unknown); `sono quarantine show` draws the "
                f"frames with names"
            )
        _refuse_not_by_eye(held[held["picture"].isin(wanted)])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = [
            {"picture": name, "reviewer": reviewer, "reviewed_at": now}
            for name in wanted
            if name not in set(known["picture"])  # a release that was killed goes on
        ]
        rows = [*rows_of(known), *fresh]
        workspace.write_vault(workspace.released_path, RELEASED, from_rows(RELEASED, rows))
        build_images(workspace)
        searched = check_privacy(workspace)
    left = set(_held(workspace, None)["picture"])
    return ReleaseSummary(len(wanted), len(set(wanted) - left), len(left), searched)


def _refuse_not_by_eye(chosen: pd.DataFrame) -> None:
    for row in chosen.to_dict("records"):
        for code in NOT_BY_EYE.intersection(row["reasons"]):
            raise SonoError(
                f"{row['picture']}: {REASONS[code].meaning}, which no look at the frame can "
                f"settle; mend the records "
                "and run `sono qc` again"
            )


def _held(workspace: Workspace, reason: str | None) -> pd.DataFrame:
    """Picture, stored file and reasons of the quarantined frames, a row a picture, of one
    `reason` or all.
    """
    if reason is not None and (reason not in REASONS or REASONS[reason].status != "quarantined"):
        choices = ", ".join(code for code, one in REASONS.items() if one.status == "quarantined")
        raise SonoError(f"unknown reason {_shown(reason)}; a frame is quarantined for {choices}")
    images = workspace.images(["source_id", "frame", "status", "reasons"])
    images = images[images["status"] == "quarantined"]
    sources = workspace.sources()[["source_id", "frame", "file"]].dropna(subset=["file"])
    held = images.merge(sources, on=["source_id", "frame"]).assign(
        picture=lambda rows: rows["file"].map(picture_of)
    )
    held = held.sort_values("picture").drop_duplicates("picture")
    return held if reason is None else held[held["reasons"].map(lambda codes: reason in codes)]


def _why(codes: Sequence[str]) -> str:
    return ", ".join(
        code + " (cannot be released)" * (code in NOT_BY_EYE)
        for code in codes
        if REASONS[code].status == "quarantined"
    )


def _shown(text: str) -> str:
    """What a user typed, unless it may be a name or a path."""
    return text if re.fullmatch(r"[0-9a-z_-]{1,32}", text) else "that text"
