"""The `qc` stage: every file of a folder to rows and stored frames, then what needs the whole set."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from sono.curation.analysis import AnalysisTask, Row, analyse, crashed
from sono.curation.assembly import build_images
from sono.curation.config import override
from sono.curation.engine import Engine, run_batches
from sono.curation.errors import FindingsError, SonoError, typed_name
from sono.curation.exams import orphan_counts, orphan_sentence
from sono.curation.planes import PlaneTable
from sono.curation.printed_text import check_tesseract
from sono.curation.privacy import check_privacy, names_of_persons
from sono.curation.published_splits import published_splits
from sono.curation.quality import QualityConfig
from sono.curation.readers.sources import list_sources, name_of, stamp_of
from sono.curation.readers.stores import is_url
from sono.curation.reasons import CONTAINERS
from sono.curation.record_fields import forget_records, join_records, named_before
from sono.curation.records.evidence import AMBIGUOUS
from sono.curation.records.join_remarks import EXAMPLES, Joined, join_remarks, shown_path
from sono.curation.records.read import Reading, RecordsConfig, RecordsTable, find_known_table, read_rows, table_of
from sono.curation.records.reports import apply_reports, is_report_row
from sono.curation.splits import possible_counts
from sono.curation.storage import check_target, real_path, remove_leftovers, sha256
from sono.curation.stored import is_whole, quarantined_path, stored_path
from sono.curation.tables import IMAGES, SOURCES, from_rows, read_table, rows_of
from sono.curation.workspace import Workspace

PART_SECONDS = 5.0  # between two saves of what was measured: the most that a killed run loses
# What may end otherwise next time, though the file is the same.
TRY_AGAIN = frozenset({"worker_died", "unreadable", "changed_while_read", "needs_plugin", "print_unread"})


@dataclass(frozen=True)
class QcOptions:
    """What the command line gives: the folder or address, where records are, what names the center, which frames.

    With `names` remarks show the paths of files below `raw`, else their looks.
    """

    raw: Path | str
    records: Path | None = None
    center: str | None = None
    center_from: str | None = None
    frames: str | None = None
    force: bool = False
    names: bool = False


@dataclass(frozen=True)
class QcSummary:
    """What one run did: rows of this folder by status and reason, and remarks for the user.

    `total` has the statuses of the whole workspace, {} where this folder is all of it.
    """

    files: int
    frames: int
    measured: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    duplicates: dict[str, int]
    total: dict[str, int]
    private_strings: int
    remarks: tuple[str, ...]

    def refuse_findings(self) -> None:
        """FindingsError (exit 3) where any file was not accepted."""
        findings = sum(count for status, count in self.statuses.items() if status != "accepted")
        findings -= self.reasons.get("cine_repeat", 0)  # that a cine holds still is no finding
        if findings:
            raise FindingsError(f"{findings} of {self.frames} frames were not accepted; see the reasons above")


def run_qc(workspace: Workspace, options: QcOptions, engine: Engine) -> QcSummary:
    """Grade, crop and store every file below `options.raw`; add the rows to the workspace's images table."""
    if options.center and options.center_from:
        raise SonoError("give --center or --center-from, not both")
    if options.center is not None:
        typed_name("--center", options.center)
    workspace.require_vault()
    planes = workspace.planes()
    reading = _reading(workspace, options, planes)  # before the long work, so that a bad table costs nothing
    records = None if reading is None else table_of(reading, workspace.settings("records", RecordsConfig))
    partition = published_splits(workspace, reading)
    with workspace.lock():
        check_target(workspace.sources_path)  # before any frame is stored
        _sweep(workspace)
        task = _task(workspace, options)
        paths = _paths(workspace, options)
        rows, measured = _measure(workspace, task, paths, engine)
        _sweep(workspace)  # a worker may have died
        others = _other_rows(workspace, task.root, rows)
        earlier = [] if records is None else named_before(others, records)
        ambiguous = sum(AMBIGUOUS in row["reasons"] for row in earlier)
        frames = [row for row in (*rows, *earlier) if not is_report_row(row)]
        if records is not None:
            forget_records(frames)
        if options.center or options.center_from:  # else what an earlier run was given stays
            for row in rows:
                row["center"] = row["namespace"] = options.center  # two centers may give two patients the same number
        witnesses = [row for row in others if not is_report_row(row)]
        matches = join_records(frames, records, partition.splits, witnesses)
        joined = Joined.of(records, matches, task.root, options.names)
        apply_reports([*rows, *earlier, *filter(is_report_row, others)])
        os.sync()  # the frames are on the disk before a table names them
        _keep_sources(workspace, task.root, [*rows, *earlier])
        before = workspace.read(IMAGES)
        images = build_images(workspace)
        searched = check_privacy(workspace)
    own = images[images["source_id"].isin({row["source_id"] for row in rows})]
    return QcSummary(
        files=len(paths),
        frames=len(own),
        measured=measured,
        statuses=_counts(own["status"]),
        reasons=_counts(own["reasons"].explode()),
        duplicates=_counts(own["duplicate_kind"]),
        total=_counts(images["status"]) if len(images) > len(own) else {},
        private_strings=searched,
        remarks=(
            *_remarks(own, records, joined),
            *_taken_back(earlier, ambiguous),
            *_unread(rows, task.root, options.names),
            *partition.remarks(own),
            *_moved(before, images),
        ),
    )


def _parts(workspace: Workspace) -> Path:
    return workspace.vault / "parts"


def _sweep(workspace: Workspace) -> None:
    """Remove what a killed run or worker left half-written."""
    for folder in (_parts(workspace), *workspace.frames.glob("*"), *workspace.quarantine.glob("*")):
        remove_leftovers(folder)


def _task(workspace: Workspace, options: QcOptions) -> AnalysisTask:
    settings = workspace.settings("qc", QualityConfig)
    cine = override(settings.cine, frames=options.frames)
    if settings.ocr:
        check_tesseract()
    return AnalysisTask(
        root=name_of(options.raw),
        key=workspace.key(),
        frames=workspace.frames,
        quarantine=workspace.quarantine,
        quality=settings.model_copy(update={"cine": cine}),
        force=options.force,
    )


def _paths(workspace: Workspace, options: QcOptions) -> list[bytes]:
    """The files to read: not the records table, and not what sono itself writes; SonoError where there are none."""
    own = tuple(os.fsencode(folder) + b"/" for folder in (workspace.root, workspace.vault))
    records = os.fsencode(real_path(options.records)) if options.records else None
    paths = [path for path in list_sources(options.raw) if not path.startswith(own) and path != records]
    if not paths:
        raise SonoError(f"{options.raw}: holds nothing but the workspace or the records table; give the raw export")
    return paths


def _reading(workspace: Workspace, options: QcOptions, planes: PlaneTable) -> Reading | None:
    """The rows of the records table that was given, or of a known one in the raw folder."""
    raw = options.raw
    path = options.records or (find_known_table(raw) if isinstance(raw, Path) and raw.is_dir() else None)
    if path is None:
        if options.center_from:
            raise SonoError("--center-from names a column of the records table: give --records too")
        return None
    config, persons = workspace.settings("records", RecordsConfig), names_of_persons(workspace.sources())
    return read_rows(path, config, planes, options.center_from, persons)


def _measure(workspace: Workspace, task: AnalysisTask, paths: list[bytes], engine: Engine) -> tuple[list[Row], int]:
    """Rows of all `paths`: those measured before and unchanged, and those measured now (saved every few seconds)."""
    known = _known_rows(workspace, task)
    todo = [path for path in paths if not _unchanged(workspace, known.get(path), path)]
    done = {path: known[path] for path in set(paths) - set(todo)}
    needs = (workspace.config_path, *(Path(os.fsdecode(path)) for path in todo[:1] if not is_url(path)))
    fresh: list[Row] = []
    saved = time.monotonic()
    try:
        for batch in run_batches(engine, partial(analyse, task), todo, partial(crashed, task), "qc", needs):
            fresh += [row for file_rows in batch for row in file_rows]
            if time.monotonic() - saved >= PART_SECONDS:
                _keep_part(workspace, fresh, done)
                fresh, saved = [], time.monotonic()
    finally:  # also where the run is interrupted
        _keep_part(workspace, fresh, done)
    return [row for path in paths for row in done[path]], len(todo)


def _keep_part(workspace: Workspace, rows: list[Row], done: dict[bytes, list[Row]]) -> None:
    """Write measured rows to the vault and add them, as a table gives them back, to `done`."""
    if not rows:
        return
    name = sha256(b"".join(sorted(row["source_id"].encode() for row in rows)))[:16]
    part = from_rows(SOURCES, rows)
    workspace.write_vault(_parts(workspace) / f"{name}.parquet", SOURCES, part)
    for row in rows_of(part):
        done.setdefault(row["path"], []).append(row)


def _known_rows(workspace: Workspace, task: AnalysisTask) -> dict[bytes, list[Row]]:
    """Rows of earlier runs with the same settings, by path."""
    tables = [workspace.sources_path, *sorted(_parts(workspace).glob("*.parquet"))]
    known: dict[bytes, list[Row]] = {}
    for table in tables:
        frame = read_table(table, SOURCES, study=workspace.study().key_check)
        rows = rows_of(frame[frame["settings_hash"] == task.settings_hash])
        fresh: dict[bytes, list[Row]] = {}
        for row in rows:
            fresh.setdefault(row["path"], []).append(row)
        known.update(fresh)
    return known


def _unchanged(workspace: Workspace, rows: list[Row] | None, path: bytes) -> bool:
    """Whether `rows` still tell the truth: the file has the same size and time, and the stored frames are there."""
    if not rows or not TRY_AGAIN.isdisjoint(code for row in rows for code in row["reasons"]):
        return False
    now = stamp_of(path)
    if now is None:
        return bool(pd.isna(rows[0]["file_size"]))
    if now != (rows[0]["file_size"], rows[0]["modified_ns"]):
        return False
    return all(_stands(workspace, row) for row in rows if isinstance(row["file"], str))


def _stands(workspace: Workspace, row: Row) -> bool:
    """Whether the frame of `row` is there and whole; a damaged one is made again."""
    places = (stored_path(workspace, row["file"]), quarantined_path(workspace, row["file"]))
    return any(is_whole(place, int(row["height"]), int(row["width"])) for place in places)


def _keep_sources(workspace: Workspace, root: bytes, rows: Sequence[Row]) -> None:
    """Replace what the vault knows of this folder by `rows`, then drop the parts."""
    for row in rows:
        row["reasons"] = list(dict.fromkeys(row["reasons"]))
        row["private"] = sorted(set(row["private"]))
        row["persons"] = None if row.get("persons") is None else sorted(set(row["persons"]))
    fresh = from_rows(SOURCES, list(rows))
    kept = _elsewhere(workspace, root, set(fresh["source_id"]))
    whole = pd.concat([kept, fresh], ignore_index=True) if len(kept) else fresh
    workspace.write_vault(workspace.sources_path, SOURCES, whole)
    shutil.rmtree(_parts(workspace), ignore_errors=True)


def _elsewhere(workspace: Workspace, root: bytes, fresh: set[str]) -> pd.DataFrame:
    """What the vault knows of other folders than `root` and of other sources than `fresh`."""
    old = workspace.sources()
    below = old["path"].map(lambda path: path == root or path.startswith(root.rstrip(b"/") + b"/"))
    return old[~below.astype(bool) & ~old["source_id"].isin(fresh)]


def _other_rows(workspace: Workspace, root: bytes, rows: Sequence[Row]) -> list[Row]:
    return rows_of(_elsewhere(workspace, root, {row["source_id"] for row in rows}))


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(Counter(values.dropna()).items())}


def _moved(before: pd.DataFrame, images: pd.DataFrame) -> list[str]:
    """A remark where frames of earlier runs changed their split, since one patient or duplicates tie them now."""
    earlier = before.dropna(subset=["split"]).set_index("image_id")["split"]
    now = images.dropna(subset=["split"]).set_index("image_id")["split"]
    both = earlier.index.intersection(now.index)
    moved = int((earlier[both] != now[both]).sum())
    if not moved:
        return []
    return [f"{moved} frames changed their split: they are tied to others now, by a patient or as duplicates"]


def _remarks(own: pd.DataFrame, records: RecordsTable | None, joined: Joined) -> list[str]:
    """What the user should know, most costly first."""
    accepted = own[own["status"] == "accepted"]
    remarks = []
    orphans = orphan_sentence(orphan_counts(own))
    if orphans:
        remarks.append(
            f"{orphans}; give --records with a patient column, or where every file is of another patient "
            'without_patient = "file" under [splits] in sono.toml'
        )
    if possible := possible_counts(own):
        remarks.append(
            f"{possible['patients']} patients ({possible['frames']} frames) may be fewer: their ids differ in leading "
            "zeros alone, or one OtherPatientID is given for several; they stay in one split; correct the ids"
        )
    if len(accepted) and accepted["plane"].isna().all():
        remarks.append(
            "no plane labels: captions stay general and zero-shot evaluation has nothing to score; "
            + ("no record with a plane was applied" if records is not None else "give --records")
        )
    if len(accepted) and accepted["center"].isna().all():
        remarks.append("no center: `sono train --hold-out` and `sono eval --center` cannot be used; give --center")
    if records is not None:
        remarks += join_remarks(joined, Counter(accepted["reasons"].explode()))
        datings = int(accepted["reasons"].map(lambda codes: "ga_conflict" in codes).sum())
        if datings:
            remarks.append(
                f"{datings} accepted frames whose gestational age disagrees with a date, CRL or HC of their record or "
                "with a structured report; `sono records check` names the rows"
            )
        if records.unused:
            remarks.append(
                f"columns that are not used, and whose cells the privacy gate does not search for: "
                f"{', '.join(records.unused)}; if they name persons or hold facts, set them in [records.columns]"
            )
        told = records.remarks()
        remarks += told[:5]
        if len(told) > 5:
            remarks.append(f"... and {len(told) - 5} more about the records table; `sono records check` tells all")
    contradicting = int(accepted["reasons"].map(lambda codes: "report_conflict" in codes).sum())
    if contradicting:
        remarks.append(
            f"{contradicting} accepted frames have a structured report of their study whose header is of another "
            "person or exam, so it is not applied; correct the header of the report or of the frame"
        )
    held = int((own["status"] == "quarantined").sum())
    if held:
        remarks.append(
            f"{held} frames wait in the vault's quarantine; `sono quarantine show` draws them, "
            "`sono quarantine release` lets those pass that you looked at"
        )
    conflicts = int(own["reasons"].map(lambda codes: "duplicate_conflict" in codes).sum())
    if conflicts:
        remarks.append(
            f"{conflicts} frames hold the same pixels under two patients, planes, ages or measurements; "
            "see the vault's quarantine"
        )
    remarks += _containers(own)
    return remarks


def _taken_back(earlier: Sequence[Row], before: int) -> list[str]:
    """A remark where files of this folder have a name or id of earlier ones, so that a row serves neither."""
    more = sum(AMBIGUOUS in row["reasons"] for row in earlier) - before
    if more <= 0:
        return []
    return [
        f"{more} frames of folders that were graded before lose their record: its name or number is also one of files "
        "of this folder; give the table folders (P1/IM_0001.png), study UIDs or birth dates"
    ]


def _unread(rows: Sequence[Row], root: bytes, names: bool) -> list[str]:
    """The first files that could not be read, with the reason of each."""
    failed = {
        row["path"]: row["message"]
        for row in rows
        if row["status"] == "error" and set(CONTAINERS).isdisjoint(row["reasons"])
    }
    shown = "; ".join(
        f"{shown_path(path, root, names)}: {message}" for path, message in list(failed.items())[:EXAMPLES]
    )
    return (
        [f"{len(failed)} files could not be read (as {shown}{'' if names else '; --names shows the paths'})"]
        if failed
        else []
    )


def _containers(own: pd.DataFrame) -> list[str]:
    """What the files that are not opened are, and what to do with them; nothing where there are none."""
    closed = own[own["reasons"].map(lambda codes: not set(CONTAINERS).isdisjoint(codes)) & own["file_sha256"].notna()]
    kinds = Counter(closed["message"].dropna())
    if not kinds:
        return []
    told = "; ".join(f"{count} {message}" for message, count in sorted(kinds.items()))
    return [f"{sum(kinds.values())} files were not opened, although they may hold frames: {told}"]
