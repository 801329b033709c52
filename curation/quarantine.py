"""The quarantine: draw its frames on sheets, and release frames that a person has reviewed."""

import os
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

TILE = 300  # pixels, so that text in a frame is readable on a sheet
TILES, COLUMNS = 20, 5  # of one sheet


@dataclass(frozen=True)
class QuarantineSummary:
    """Counts of quarantined frames by reason, their sheets, and the reasons of each."""

    frames: int
    reasons: dict[str, int]
    sheets: tuple[Path, ...]
    pictures: dict[str, str]  # reasons by the name on the sheets


@dataclass(frozen=True)
class ReleaseSummary:
    """Counts of the frames released, of those accepted now, and of those still in quarantine."""

    released: int
    accepted: int
    held: int
    private_strings: int


def show_quarantine(workspace: Workspace, reason: str | None = None) -> QuarantineSummary:
    """Draw the quarantined frames, of one `reason` or all, on sheets in the vault.

    Raises SonoError if there are none, and for an unknown reason.
    """
    workspace.require_vault()
    held = _held(workspace, reason)
    if reason is None or len(held):  # remove sheets that are out of date
        for old in workspace.vault.glob("quarantine-*.png"):
            old.unlink(missing_ok=True)  # another process may have removed it
    if held.empty:
        which = f" with the reason {reason}" if reason else ""
        raise SonoError(
            f"{workspace.quarantine}: no frame{which} is in quarantine; `sono stats` counts the "
            "frames by status and reason"
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
    pictures = {str(row["picture"]): _why(row["reasons"]) for row in held.to_dict("records")}
    return QuarantineSummary(len(held), dict(sorted(counts.items())), tuple(sheets), pictures)


def release(
    workspace: Workspace, pictures: Sequence[str], reviewer: str, reason: str | None = None
) -> ReleaseSummary:
    """Release frames that `reviewer` has looked at; the vault remembers them for later runs.

    `pictures` are the names on the sheets, or source files, whose frames are all released; another
    crop of the same frame stays in quarantine. `reason` also releases all frames that are held for
    this reason only. SonoError, with nothing released, where a frame is not in the quarantine or
    has a reason that cannot be judged by eye.
    """
    reviewer = typed_name("--reviewer", reviewer)
    workspace.require_vault()
    with workspace.lock():
        held, known = _held(workspace, None), workspace.released()
        named = [name for one in pictures for name in _pictures_of(one, held)]
        wanted = list(dict.fromkeys((*named, *_held_only_for(workspace, reason))))
        if not wanted:
            raise SonoError(
                "no frame is given or held for this reason only; name frames or files, or give "
                "--reason; `sono quarantine show` lists them"
            )
        names = {*held["picture"], *known["picture"]}
        unknown = [name for name in wanted if name not in names]
        if unknown:
            full = next((name for name in sorted(names) if name.startswith(f"{unknown[0]}-")), None)
            near = f" (the name on the sheet is {full})" if full else ""
            raise SonoError(
                f"{_safe_to_show(unknown[0])}{near}: no frame in the quarantine has this name "
                f"({len(unknown)} of {len(wanted)} are unknown); `sono quarantine show` draws the "
                "frames with their names"
            )
        _refuse_not_by_eye(held[held["picture"].isin(wanted)])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = [
            {"picture": name, "reviewer": reviewer, "reviewed_at": now}
            for name in wanted
            if name not in set(known["picture"])  # continue a release that was killed
        ]
        rows = [*rows_of(known), *fresh]
        workspace.write_vault(workspace.released_path, RELEASED, from_rows(RELEASED, rows))
        build_images(workspace)
        searched = check_privacy(workspace)
    left = set(_held(workspace, None)["picture"])
    return ReleaseSummary(len(wanted), len(set(wanted) - left), len(left), searched)


def _pictures_of(name: str, held: pd.DataFrame) -> list[str]:
    """The pictures of the held file that `name` is the path or the end of the path of.

    [name] where it is no such file; SonoError where it is several.
    """
    end = Path(name).parts
    files = held["path"].map(lambda path: Path(os.fsdecode(path)).parts[-len(end) :] == end)
    chosen = held[files.astype(bool)] if end else held[:0]
    if chosen["path"].nunique() > 1:
        raise SonoError(
            f"{chosen['path'].nunique()} quarantined files have this name; give more of the path, "
            "or the names of the frames on the sheets"
        )
    return [str(picture) for picture in chosen["picture"]] or [name]


def _held_only_for(workspace: Workspace, reason: str | None) -> list[str]:
    """The pictures that are held for `reason` and no other."""
    if reason is None:
        return []
    held = _held(workspace, reason)
    return [
        str(row["picture"])
        for row in held.to_dict("records")
        if _holding(row["reasons"]) == [reason]
    ]


def _refuse_not_by_eye(chosen: pd.DataFrame) -> None:
    for row in chosen.to_dict("records"):
        for code in NOT_BY_EYE.intersection(row["reasons"]):
            raise SonoError(
                f"{row['picture']}: {REASONS[code].meaning}; looking at the frame cannot settle "
                "this; correct the records and run `sono qc` again"
            )


def _held(workspace: Workspace, reason: str | None) -> pd.DataFrame:
    """Name, stored file and reasons of the quarantined frames, of one `reason` or all."""
    if reason is not None and (reason not in REASONS or REASONS[reason].status != "quarantined"):
        choices = ", ".join(code for code, one in REASONS.items() if one.status == "quarantined")
        raise SonoError(
            f"unknown reason {_safe_to_show(reason)}; a frame is quarantined for {choices}"
        )
    images = workspace.images(["source_id", "frame", "status", "reasons"])
    images = images[images["status"] == "quarantined"]
    sources = workspace.sources()[["source_id", "frame", "file", "path"]].dropna(subset=["file"])
    held = images.merge(sources, on=["source_id", "frame"]).assign(
        picture=lambda rows: rows["file"].map(picture_of)
    )
    held = held.sort_values("picture").drop_duplicates("picture")
    return held if reason is None else held[held["reasons"].map(lambda codes: reason in codes)]


def _holding(codes: Sequence[str]) -> list[str]:
    """The codes for which a frame is quarantined."""
    return [code for code in codes if REASONS[code].status == "quarantined"]


def _why(codes: Sequence[str]) -> str:
    return ", ".join(
        code + " (cannot be released)" * (code in NOT_BY_EYE) for code in _holding(codes)
    )


def _safe_to_show(text: str) -> str:
    """The text that a user typed, unless it may be a name or a path."""
    return text if re.fullmatch(r"[0-9a-z_-]{1,32}", text) else "that text"
