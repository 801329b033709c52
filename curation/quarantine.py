"""Decisions on frames: draw the quarantine, release or reject its frames, exclude others."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sono.curation.core.atomic import write_bytes
from sono.curation.core.console import warn
from sono.curation.core.drawing import contact_sheet
from sono.curation.core.errors import SonoError, counted, typed_name
from sono.curation.core.frame_files import picture_of, quarantined_path, read_stored, stored_path
from sono.curation.core.reasons import NOT_BY_EYE, REASONS
from sono.curation.core.tables import IMAGES, from_rows, rows_of
from sono.curation.core.vault_tables import RELEASED
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.privacy.gate import check_privacy

TILE = 300  # pixels, so that text in a frame is readable on a sheet
TILES, COLUMNS = 20, 5  # of one sheet


@dataclass(frozen=True)
class QuarantineSummary:
    """Counts of quarantined frames by reason, their sheets, and the reasons of each.

    Frames with the same pixels are drawn once, so `drawn` may be less than `frames`.
    """

    frames: int
    drawn: int
    reasons: dict[str, int]
    sheets: tuple[Path, ...]
    pictures: dict[str, str]  # reasons by the name on the sheets
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseSummary:
    """Counts of the frames released, of those accepted now, and of those still in quarantine.

    Of released frames with the same pixels, one is accepted.
    """

    released: int
    accepted: int
    held: int
    private_strings: int


@dataclass(frozen=True)
class RejectSummary:
    """Counts of the frames rejected, and of those still in quarantine."""

    rejected: int
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
    pictures = held.groupby("picture")["reasons"].agg(lambda codes: _why(chain(*codes)))
    there = {
        str(row["picture"]): quarantined_path(workspace, row["file"])
        for row in held.to_dict("records")
        if quarantined_path(workspace, row["file"]).exists()
    }
    sheets = []
    for number, start in enumerate(range(0, len(there), TILES), 1):
        tiles = [
            (read_stored(path), f"{picture}\n{pictures[picture]}")
            for picture, path in list(there.items())[start : start + TILES]
        ]
        sheets.append(workspace.vault / f"quarantine-{number:03}.png")
        write_bytes(sheets[-1], contact_sheet(tiles, COLUMNS, TILE), 0o600)
    counts = Counter(code for codes in held["reasons"] for code in _holding(codes))
    return QuarantineSummary(
        len(held),
        len(there),
        dict(sorted(counts.items())),
        tuple(sheets),
        {str(picture): str(why) for picture, why in pictures.items()},
        tuple(_not_drawn(len(held) - len(pictures), len(pictures) - len(there))),
    )


def _not_drawn(equal: int, lost: int) -> Iterator[str]:
    """Why fewer pictures are drawn than frames are held."""
    if equal:
        frames = counted(equal, "frame has", "frames have")
        yield f"{frames} the same pixels as another one, with which it is drawn"
    if lost:
        pictures = counted(lost, "picture is", "pictures are")
        yield f"{pictures} missing in the vault; run `sono qc` on the folder again"


def release(
    workspace: Workspace, pictures: Sequence[str], reviewer: str, reason: str | None = None
) -> ReleaseSummary:
    """Release frames that `reviewer` has looked at; the vault remembers them for later runs.

    `pictures` are the names on the sheets, or source files, whose frames are all released; another
    crop of the same frame stays in quarantine. `reason` also releases all frames that are held for
    this reason only. SonoError, with nothing released, where a frame is not in the quarantine or
    has a reason that cannot be judged by eye.
    """
    decided, now, searched = _decide(workspace, pictures, reviewer, reason, "released")
    accepted = now["picture"].isin(decided["picture"]) & (now["status"] == "accepted")
    return ReleaseSummary(len(decided), int(accepted.sum()), len(_quarantined(now)), searched)


def reject(
    workspace: Workspace, pictures: Sequence[str], reviewer: str, reason: str | None = None
) -> RejectSummary:
    """Reject frames that `reviewer` has looked at; the vault remembers them for later runs.

    They are chosen as for `release`, which also takes a rejection back. Their pictures stay in the
    vault.
    """
    decided, now, searched = _decide(workspace, pictures, reviewer, reason, "rejected")
    return RejectSummary(len(decided), len(_quarantined(now)), searched)


def _decide(
    workspace: Workspace,
    pictures: Sequence[str],
    reviewer: str,
    reason: str | None,
    decision: Literal["released", "rejected"],
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Write a decision to the vault and build the images table again.

    Returns the frames decided on, all frames afterwards, and how many private strings were searched
    for.
    """
    reviewer = typed_name("--reviewer", reviewer)
    workspace.require_vault()
    with workspace.lock():
        frames, known = _pictured(workspace), workspace.released()
        held = _quarantined(frames)
        known_files = frames[_was_held(frames)]
        named = [name for one in pictures for name in _pictures_of(one, known_files)]
        wanted = list(dict.fromkeys((*named, *_held_only_for(workspace, reason))))
        if not wanted:
            none = f"no frame is held for {reason} only" if reason else "no frame is given"
            raise SonoError(
                f"{none}; name frames or files of the quarantine, or give --reason; `sono "
                "quarantine show` lists them"
            )
        _refuse_unknown(wanted, {*held["picture"], *known["picture"]})
        if decision == "released":
            chosen = held[held["picture"].isin(wanted)]
            _refuse_not_by_eye(chosen)
            _refuse_lost(workspace, chosen)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        # The same decision again, as after a killed command, keeps its first reviewer and time; the
        # other decision replaces it.
        same = known["decision"].fillna("released") == decision
        kept = known[same | ~known["picture"].isin(wanted)]
        fresh = [
            {"picture": name, "reviewer": reviewer, "reviewed_at": time, "decision": decision}
            for name in wanted
            if name not in set(kept["picture"])
        ]
        rows = [*rows_of(kept), *fresh]
        decided = frames[frames["picture"].isin(wanted) & _was_held(frames)]
        workspace.write_vault(workspace.released_path, RELEASED, from_rows(RELEASED, rows))
        build_images(workspace)
        searched = check_privacy(workspace)
        now = _pictured(workspace)
    return decided, now, searched


def apply_verdicts(workspace: Workspace, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the verdicts of a mask review, by image id, and build the images table again.

    A verdict is the code for which the frame is excluded, if any, the remarks that are wrong, the
    reviewer and the time. The workspace is locked by the caller.
    """
    workspace.require_vault()
    known = {str(row["picture"]): row for row in rows_of(workspace.released())}
    sources = workspace.sources(["image_id", "file"]).dropna()
    own = sources[sources["image_id"].isin(set(verdicts))].sort_values("file")
    pictures = dict(zip(own["image_id"], own["file"].map(picture_of), strict=True))
    # the crop of an earlier decision, or the one that the images table has
    stored = workspace.read(IMAGES, ["image_id", "file"]).dropna()
    pictures |= dict(zip(stored["image_id"], stored["file"].map(picture_of), strict=True))
    pictures |= {
        name.rpartition("-")[0]: name for name, row in known.items() if row["reasons"] is not None
    }
    for image_id, verdict in verdicts.items():
        picture = pictures.get(image_id)
        if picture is None:
            warn(f"frame {image_id}: a decision on it is lost, because the vault has no such frame")
            continue
        earlier = known.pop(picture, {"decision": "kept"})
        released = earlier["decision"] not in ("kept", "rejected")
        excluded = verdict["excluded"]
        decision = "rejected" if excluded else "released" if released else "kept"
        if decision == "kept" and not verdict["withdrawn"]:
            continue
        known[picture] = {
            "picture": picture,
            "reviewer": verdict["reviewer"],
            "reviewed_at": verdict["reviewed_at"],
            "decision": decision,
            "reasons": [excluded] if excluded else None,
            "withdrawn": list(verdict["withdrawn"]) or None,
        }
    table = from_rows(RELEASED, list(known.values()))
    workspace.write_vault(workspace.released_path, RELEASED, table)
    build_images(workspace)


def _refuse_unknown(wanted: Sequence[str], names: Collection[str]) -> None:
    """Raise SonoError for a name of no held frame."""
    unknown = [name for name in wanted if name not in names]
    if not unknown:
        return
    full = next((name for name in sorted(names) if name.startswith(f"{unknown[0]}-")), None)
    near = f" (the name on the sheet is {full})" if full else ""
    raise SonoError(
        f"{_safe_to_show(unknown[0])}{near}: no frame in the quarantine has this name or is "
        f"of a file with this name ({len(unknown)} of {len(wanted)} names); `sono quarantine show` "
        "draws the frames with their names, `sono list --status quarantined` lists the files"
    )


def _pictures_of(name: str, held: pd.DataFrame) -> list[str]:
    """The pictures of the held or decided file that `name` is the path or the end of the path of.

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
    return list(dict.fromkeys(map(str, chosen["picture"]))) or [name]


def _refuse_lost(workspace: Workspace, chosen: pd.DataFrame) -> None:
    """Raise SonoError for a frame whose picture is not here, so nobody can have looked at it."""
    for file in map(str, chosen["file"].unique()):
        places = (quarantined_path(workspace, file), stored_path(workspace, file))
        if not any(place.is_file() for place in places):
            raise SonoError(
                f"{picture_of(file)}: the picture is missing in the vault; run `sono qc` on its "
                "folder again"
            )


def _held_only_for(workspace: Workspace, reason: str | None) -> list[str]:
    """The pictures that are held for `reason` and no other."""
    if reason is None:
        return []
    held = _held(workspace, reason)
    alone = held["reasons"].map(lambda codes: _holding(codes) == [reason])
    return [
        str(picture)
        for picture in held["picture"].unique()
        if alone[held["picture"] == picture].all()
    ]


def _refuse_not_by_eye(chosen: pd.DataFrame) -> None:
    for row in chosen.to_dict("records"):
        for code in NOT_BY_EYE.intersection(row["reasons"]):
            raise SonoError(
                f"{row['picture']}: {REASONS[code].meaning}; looking at the frame cannot settle "
                "this; correct the records and run `sono qc` again, or reject the frames"
            )


def _held(workspace: Workspace, reason: str | None) -> pd.DataFrame:
    """Name, stored file and reasons of the quarantined frames, of one `reason` or all."""
    if reason is not None and (reason not in REASONS or REASONS[reason].status != "quarantined"):
        choices = ", ".join(code for code, one in REASONS.items() if one.status == "quarantined")
        raise SonoError(
            f"unknown reason {_safe_to_show(reason)}; a frame is quarantined for {choices}"
        )
    held = _quarantined(_pictured(workspace))
    if reason is None:
        return held
    return held[held["reasons"].map(lambda codes: reason in codes).astype(bool)]


def _pictured(workspace: Workspace) -> pd.DataFrame:
    """Status, reasons, path, stored file and its name of all frames with a stored file."""
    images = workspace.images(["source_id", "frame", "status", "reasons"])
    sources = workspace.sources()[["source_id", "frame", "file", "path"]].dropna(subset=["file"])
    frames = images.merge(sources, on=["source_id", "frame"])
    return frames.assign(picture=frames["file"].map(picture_of))


def _quarantined(frames: pd.DataFrame) -> pd.DataFrame:
    return frames[frames["status"] == "quarantined"].sort_values("picture", ignore_index=True)


def _was_held(frames: pd.DataFrame) -> "pd.Series[bool]":
    """Whether frames are in the quarantine, or left it by a decision."""
    decisions = {"released", "rejected_by_reviewer"}
    decided = frames["reasons"].map(lambda codes: not decisions.isdisjoint(codes))
    return (frames["status"] == "quarantined") | decided.astype(bool)


def _holding(codes: Iterable[str]) -> list[str]:
    """The codes for which a frame is quarantined."""
    return [code for code in dict.fromkeys(codes) if REASONS[code].status == "quarantined"]


def _why(codes: Iterable[str]) -> str:
    return ", ".join(
        code + " (cannot be released)" * (code in NOT_BY_EYE) for code in _holding(codes)
    )


def _safe_to_show(text: str) -> str:
    """The text that a user typed, unless it may be a name or a path."""
    return text if re.fullmatch(r"[0-9a-z_-]{1,32}", text) else "a name that may be private"
