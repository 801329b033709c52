"""The remarks that `sono qc` prints at its end."""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sono.curation.clinical.values import shown_name
from sono.curation.core.errors import counted
from sono.curation.core.reasons import CONTAINERS
from sono.curation.core.tables import Row
from sono.curation.dataset.exams import BY_FILE, PLACED, orphan_counts, orphan_sentence
from sono.curation.dataset.split_checks import possible_counts
from sono.curation.records.column_looks import column_lines
from sono.curation.records.join_messages import EXAMPLES, Joined, join_remarks, shown_path
from sono.curation.records.layouts import PUBLISHED_TABLES
from sono.curation.records.table import RecordsTable
from sono.curation.records.table_reading import TableReading


def text_search_remark(text: str) -> list[str]:
    """A remark where text on the tissue was not searched with the detector; [] where it was."""
    if text == "detector":
        return []
    if text == "off":
        return [
            'text on the tissue was not searched ([qc] text = "off"): names, dates and ids in the '
            "pixels stay in accepted frames"
        ]
    return [
        "text on the tissue was searched by rules, which miss turned lines and read nothing; "
        "for the text detector: pip install 'sono[ocr]', then run sono qc again"
    ]


def moved_frames_remark(before: pd.DataFrame, images: pd.DataFrame) -> list[str]:
    """A remark where frames of earlier runs moved to another split; [] where none did."""
    earlier = before.dropna(subset=["split"]).set_index("image_id")["split"]
    now = images.dropna(subset=["split"]).set_index("image_id")["split"]
    both = earlier.index.intersection(now.index)
    moved = int((earlier[both] != now[both]).sum())
    if not moved:
        return []
    return [
        f"{counted(moved, 'frame')} moved to another split: a shared patient or a duplicate is "
        "now linked to other frames"
    ]


def orphaned_masks_remark(masks: pd.DataFrame, images: pd.DataFrame) -> list[str]:
    """A remark on masks whose frames are no longer in the images table; [] where there are none."""
    count = int((~masks["image_id"].isin(images["image_id"])).sum())
    if not count:
        return []
    return [
        f"{counted(count, 'mask is', 'masks are')}"
        " not used, because the files of the frames were replaced or removed; "
        "put the files back, or import masks of the new frames"
    ]


def found_table_remark(raw: Path | str, found: TableReading | None, names: bool) -> list[str]:
    """A remark on the table that was `found` in the folder `raw`; [] where none was."""
    if found is None:
        return []
    shown = shown_name(os.path.relpath(found.path, raw), names)
    if found.path.name in PUBLISHED_TABLES:
        shown = found.path.name
    return [
        f"no --records is given, so the table {shown} of the folder is used, because its titles "
        f"are those of {found.layout.name}; give --records to use another table"
    ]


def frame_remarks(
    images: pd.DataFrame, own: pd.DataFrame, records: RecordsTable | None, joined: Joined
) -> list[str]:
    """The remarks on the frames `own` of this run and their records, the most important first.

    `images` are the frames of all runs.
    """
    accepted = own[own["status"] == "accepted"]
    remarks = [] if records is None else _no_match(accepted, records)
    remarks += [*_patient_remarks(images, own, records), *_missing_remarks(accepted, records)]
    if records is not None:
        remarks += _records_remarks(accepted, records, joined)
    if contradicting := _with_reason(accepted, "report_conflict"):
        remarks.append(
            f"{counted(contradicting, 'accepted frame has', 'accepted frames have')}"
            " a structured report of the study that is not "
            "applied, because its header names another person or exam; correct the header of the "
            "report or of the frame"
        )
    held = int((own["status"] == "quarantined").sum())
    if held:
        remarks.append(
            f"{counted(held, 'frame is', 'frames are')}"
            " in the vault's quarantine; `sono quarantine show` draws what is held, and "
            "`sono quarantine release` accepts the frames that you have reviewed"
        )
    remarks += _containers(own)
    return remarks


def _with_reason(frames: pd.DataFrame, code: str) -> int:
    return int(frames["reasons"].map(lambda codes: code in codes).sum())


def _patient_remarks(
    images: pd.DataFrame, own: pd.DataFrame, records: RecordsTable | None
) -> list[str]:
    """Remarks on frames without a patient and on patients that may be one person."""
    remarks = []
    counts = orphan_counts(own)
    orphans = orphan_sentence(counts)
    if orphans and counts[PLACED] == counts["frames"]:
        remarks.append(orphans)
    elif orphans:
        give = (
            "give --records with a patient column"
            if records is None
            else "correct the records, so that a row with a patient matches"
        )
        by_file = (
            ""
            if counts[PLACED] + counts[BY_FILE] == counts["frames"]
            else ", or, if every file is of a patient of its own, set "
            'without_patient = "file" under [splits] in sono.toml'
        )
        remarks.append(f"{orphans}; {give}{by_file}")
    if possible := possible_counts(images, own.index):
        remarks.append(
            f"{counted(possible['patients'], 'patient')}"
            f" ({counted(possible['frames'], 'frame')}) may be fewer: their "
            "ids differ only in leading zeros, they share one OtherPatientID, frames without a "
            "hospital have a number that two hospitals use, one number in two centers has one "
            "name, birth date or hospital, or two ids have one name and birth date; such patients "
            "stay in one split; correct the ids, or give --center"
        )
    return remarks


def _missing_remarks(accepted: pd.DataFrame, records: RecordsTable | None) -> list[str]:
    """Remarks where no accepted frame has a plane, or a center."""
    remarks = []
    if len(accepted) and accepted["plane"].isna().all():
        remarks.append(
            "no plane labels: captions stay general and zero-shot evaluation has no target; "
            + ("no record with a plane was applied" if records is not None else "give --records")
        )
    if len(accepted) and accepted["center"].isna().all():
        remarks.append(
            "no center: `sono train --hold-out` and `sono eval --center` cannot be used; "
            + _center_advice(records)
        )
    return remarks


def _records_remarks(accepted: pd.DataFrame, records: RecordsTable, joined: Joined) -> list[str]:
    """Remarks on the records table and on how its rows joined the accepted frames."""
    remarks = list(join_remarks(joined, Counter(accepted["reasons"].explode())))
    if datings := _with_reason(accepted, "ga_conflict"):
        remarks.append(
            f"{counted(datings, 'accepted frame has', 'accepted frames have')}"
            " a gestational age that disagrees with a date, CRL or "
            "HC of the record or with a structured report; `sono records check` names the rows"
        )
    remarks += records.doubts
    if records.unused:
        remarks.append(
            f"unused columns: {', '.join(records.unused)}; {_suggested(records)}the privacy gate "
            "does not search for their cells; if they name persons or contain facts, set them in "
            "[records.columns]"
        )
    problems = records.remarks()
    remarks += problems[:5]
    if len(problems) > 5:
        remarks.append(
            f"... and {len(problems) - 5} more about the records table; `sono records check` lists "
            "all"
        )
    return remarks


def duplicate_conflicts_remark(
    own: pd.DataFrame, rows: Sequence[Row], root: bytes, names: bool
) -> list[str]:
    """A remark on frames of equal pixels whose records differ; [] where there are none.

    `rows` are all rows of the study, whose files are named in pairs.
    """
    held = own[own["reasons"].map(lambda codes: "duplicate_conflict" in codes)]
    if held.empty:
        return []
    ids, files = set(held["image_id"]), dict[str, dict[bytes, None]]()
    for row in rows:
        if row["image_id"] in ids:
            files.setdefault(row["image_id"], {})[row["path"]] = None
    pairs = (
        " and ".join(shown_path(path, root, names) for path in sorted(paths)[:EXAMPLES])
        for paths in list(files.values())[:EXAMPLES]
    )
    shown = "; ".join(dict.fromkeys(pairs))
    return [
        f"{counted(len(held), 'frame has', 'frames have')}"
        " the same pixels as another frame, but the records differ in a "
        "fact (patient, center, machine, plane, age, side, findings, structures, sizes or "
        f"spacing), so none of them is accepted (for example {shown}); correct the records; `sono "
        "list --reason duplicate_conflict --names` names all pairs"
    ]


def _no_match(accepted: pd.DataFrame, records: RecordsTable) -> list[str]:
    """A remark where no row of the table is applied to an accepted frame; [] otherwise."""
    if accepted.empty or _with_reason(accepted, "no_record") < len(accepted):
        return []
    return [
        f"no row of the table is applied to any accepted frame ({len(accepted)}); "
        f"{_suggested(records)}`sono records check TABLE --raw FOLDER` shows why"
    ]


def _suggested(records: RecordsTable) -> str:
    """The lines for `sono.toml` that the contents of unused columns suggest, as a clause."""
    lines = ", ".join(column_lines(records.suggested))
    return f"contents of columns suggest {lines} in [records.columns]; " if lines else ""


def _center_advice(records: RecordsTable | None) -> str:
    """What to do where no frame has a center."""
    if records is None:
        return "give --center"
    if any(record.center for record in records.records):
        return "no record with a center was applied; see the remarks on records"
    title = records.center_column
    return f"give --center-from {shlex.quote(title)}" if title else "give --center"


def studies_remark(studies: Mapping[bytes, int], root: bytes, names: bool) -> list[str]:
    """A remark on workspaces and vaults in the raw folder, with their numbers of files."""
    if not studies:
        return []
    shown = "; ".join(
        f"{shown_path(place, root, names)} ({counted(count, 'file')})"
        for place, count in list(studies.items())[:EXAMPLES]
    )
    return [
        f"{counted(len(studies), 'workspace or vault', 'workspaces and vaults')} of sono in the "
        f"raw folder or its archives {'is' if len(studies) == 1 else 'are'} left out: {shown}"
        f"{'' if names else '; --names shows the paths'}; their frames are cropped and renamed "
        "already; to use them, run sono with --workspace on the unpacked workspace"
    ]


def unread_files_remark(rows: Sequence[Row], root: bytes, names: bool) -> list[str]:
    """A remark on the files that could not be read, with the first ones and their reasons."""
    failed = {
        row["path"]: row["message"]
        for row in rows
        if row["status"] == "error" and set(CONTAINERS).isdisjoint(row["reasons"])
    }
    shown = "; ".join(
        f"{shown_path(path, root, names)}: {message}"
        for path, message in list(failed.items())[:EXAMPLES]
    )
    return (
        [
            f"{counted(len(failed), 'file')} could not be read (for example "
            f"{shown}{'' if names else '; --names shows the paths'})"
        ]
        if failed
        else []
    )


def _containers(own: pd.DataFrame) -> list[str]:
    """A remark on containers that were not opened, with advice; [] where there are none."""
    closed = own[
        own["reasons"].map(lambda codes: not set(CONTAINERS).isdisjoint(codes))
        & own["file_sha256"].notna()
    ]
    kinds = Counter(closed["message"].dropna())
    if not kinds:
        return []
    listed = "; ".join(f"{count} {message}" for message, count in sorted(kinds.items()))
    return [
        f"{counted(sum(kinds.values()), 'file was', 'files were')}"
        f" not opened but may contain frames: {listed}"
    ]
