"""The `qc` stage: every file of a folder to rows and stored frames, then what needs the whole
set.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import check_target, real_path, remove_leftovers, sha256
from sono.curation.core.config import override
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import IssuesError, SonoError, typed_name
from sono.curation.core.frame_files import is_whole, quarantined_path, stored_path
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES, MASKS, SOURCES, Row, from_rows, read_table, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.dataset.published_splits import published_splits
from sono.curation.imaging.analysis import AnalysisTask, analyze, crashed
from sono.curation.imaging.ocr import check_tesseract
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.gate import check_privacy, names_of_persons
from sono.curation.qc_messages import moved, orphaned, remarks_of, unread
from sono.curation.readers.files import list_sources, name_of, stamp_of
from sono.curation.readers.object_store import is_url
from sono.curation.records.centers import center_remarks, known_spelling, unify_centers
from sono.curation.records.earlier_runs import TRY_AGAIN, EarlierRuns, by_path, taken_back
from sono.curation.records.evidence import AMBIGUOUS
from sono.curation.records.join_messages import Joined
from sono.curation.records.partition import cell_form
from sono.curation.records.read import (
    RecordsConfig,
    RecordsTable,
    find_known_table,
    merged_table,
    read_rows,
)
from sono.curation.records.record_fields import forget_records, join_records
from sono.curation.records.sr_values import apply_reports, concerned, is_report_row
from sono.curation.records.table_reading import TableReading

PART_SECONDS = 5.0  # between two saves of what was measured: the most that a killed run loses


@dataclass(frozen=True)
class QcOptions:
    """What the command line gives: the folder or address, where records are, what names the center,
    which frames.

    With `names` remarks show the paths of files below `raw` and unknown planes, else their looks.
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
            raise IssuesError(
                f"{findings} of {self.frames} frames were not accepted; see the reasons above"
            )


def run_qc(workspace: Workspace, options: QcOptions, engine: Engine) -> QcSummary:
    """Grade, crop and store every file below `options.raw`.

    Add the rows to the workspace's images table.
    """
    if options.center and options.center_from:
        raise SonoError("give --center or --center-from, not both")
    if options.center is not None:
        typed_name("--center", options.center)
    workspace.require_vault()
    planes = workspace.planes()
    # before the long work, so that a bad table costs nothing
    reading = _reading(workspace, options, planes)
    partition = published_splits(workspace, reading)
    with workspace.lock():
        check_target(workspace.sources_path)  # before any frame is stored
        _remove_leftovers(workspace)
        task = _task(workspace, options)
        paths = _paths(workspace, options)
        sources = workspace.sources()
        rows, measured = _measure(workspace, task, paths, sources, engine)
        records = None if reading is None else _table(workspace, reading, rows, partition.column)
        _remove_leftovers(workspace)  # a worker may have died
        runs = EarlierRuns.of(sources, task.root, {row["path"]: row["file_sha256"] for row in rows})
        rows = runs.followed(rows)
        earlier = [] if records is None else runs.met_by(records)
        ambiguous = sum(AMBIGUOUS in row["reasons"] for row in earlier)
        frames = [row for row in (*rows, *earlier) if not is_report_row(row)]
        if records is not None:
            forget_records(frames)
        center = options.center and known_spelling(options.center, runs.rows)
        if center or options.center_from:  # else what an earlier run was given stays
            for row in rows:
                # two centers may give two patients the same number
                row["center"] = row["namespace"] = center
        matches = join_records(frames, records, partition.splits, runs.rows)
        joined = Joined.of(records, matches, task.root, options.names)
        kept = (
            []
            if records is None
            else runs.of_other_rows(records, earlier, task.root, options.names)
        )
        met = set(map(id, earlier))
        apply_reports(
            [*rows, *earlier, *(row for row in concerned(rows, runs.rows) if id(row) not in met)]
        )
        spelled = unify_centers(runs.rows, rows)
        if options.center and center != options.center:
            spelled[options.center] = str(center)
        os.sync()  # the frames are on the disk before a table names them
        _keep_sources(workspace, [*rows, *earlier], runs.rows)
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
            *remarks_of(own, records, joined),
            *taken_back(earlier, matches, ambiguous, task.root, options.names),
            *kept,
            *runs.remarks(task.root, options.names),
            *unread(rows, task.root, options.names),
            *partition.remarks(own),
            *center_remarks(spelled, images["center"].dropna().unique()),
            *moved(before, images),
            *orphaned(workspace.read(MASKS, ["image_id"]), images),
        ),
    )


def _parts(workspace: Workspace) -> Path:
    return workspace.vault / "parts"


def _remove_leftovers(workspace: Workspace) -> None:
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
    """The files to read: not the records table, and not what sono itself writes.

    SonoError where there are none.
    """
    own = tuple(os.fsencode(folder) + b"/" for folder in (workspace.root, workspace.vault))
    records = os.fsencode(real_path(options.records)) if options.records else None
    paths = [
        path for path in list_sources(options.raw) if not path.startswith(own) and path != records
    ]
    if not paths:
        raise SonoError(
            f"{options.raw}: holds nothing but the workspace or the records table; give the raw "
            f"export"
        )
    return paths


def _reading(workspace: Workspace, options: QcOptions, planes: PlaneTable) -> TableReading | None:
    """The rows of the records table that was given, or of a known one in the raw folder."""
    raw = options.raw
    path = options.records
    if path is None and isinstance(raw, Path) and raw.is_dir():
        path = find_known_table(raw, options.names)
    if path is None:
        if options.center_from:
            raise SonoError("--center-from names a column of the records table: give --records too")
        return None
    config = workspace.settings("records", RecordsConfig)
    persons = names_of_persons(workspace.sources(["private", "persons"]))
    reading = read_rows(path, config, planes, options.center_from, persons)
    reading = reading if options.names else replace(reading, before_headers=True)
    if reading.unknown:
        raise SonoError(reading.planes_problem())
    return reading


def _table(
    workspace: Workspace, reading: TableReading, rows: Sequence[Row], partition: str
) -> RecordsTable:
    """The records of a reading, which show no name in the headers of `rows`.

    The column `partition` is used.
    """
    persons = {name for row in rows if row["persons"] is not None for name in row["persons"]}
    table = merged_table(reading.knowing(persons), workspace.settings("records", RecordsConfig))
    return replace(
        table,
        unused=tuple(title for title in table.unused if cell_form(title) != cell_form(partition)),
    )


def _measure(
    workspace: Workspace,
    task: AnalysisTask,
    paths: list[bytes],
    sources: pd.DataFrame,
    engine: Engine,
) -> tuple[list[Row], int]:
    """Rows of all `paths`: those measured before and unchanged, and those measured now (saved
    every few seconds).
    """
    known = _known_rows(workspace, task, sources)
    todo = [path for path in paths if not _unchanged(workspace, known.get(path), path)]
    done = {path: known[path] for path in set(paths) - set(todo)}
    needs = (
        workspace.config_path,
        *(Path(os.fsdecode(path)) for path in todo[:1] if not is_url(path)),
    )
    fresh: list[Row] = []
    saved = time.monotonic()
    try:
        for batch in run_batches(
            engine, partial(analyze, task), todo, partial(crashed, task), "qc", needs
        ):
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


def _known_rows(
    workspace: Workspace, task: AnalysisTask, sources: pd.DataFrame
) -> dict[bytes, list[Row]]:
    """Rows of earlier runs with the same settings, by path.

    Those of the vault's `sources`, and of a killed run.
    """
    places, study = sorted(_parts(workspace).glob("*.parquet")), workspace.study().key_check
    known: dict[bytes, list[Row]] = {}
    for frame in (sources, *(read_table(place, SOURCES, study=study) for place in places)):
        known.update(by_path(rows_of(frame[frame["settings_hash"] == task.settings_hash])))
    return known


def _unchanged(workspace: Workspace, rows: list[Row] | None, path: bytes) -> bool:
    """Whether `rows` still tell the truth.

    The file has the same size and time, and the stored frames are there.
    """
    if not rows or not TRY_AGAIN.isdisjoint(code for row in rows for code in row["reasons"]):
        return False
    now = stamp_of(path)
    if now is None:
        return bool(pd.isna(rows[0]["file_size"]))
    if now != (rows[0]["file_size"], rows[0]["modified_ns"]):
        return False
    return all(_frame_exists(workspace, row) for row in rows if isinstance(row["file"], str))


def _frame_exists(workspace: Workspace, row: Row) -> bool:
    """Whether the frame of `row` is there and whole; a damaged one is made again."""
    places = (stored_path(workspace, row["file"]), quarantined_path(workspace, row["file"]))
    return any(is_whole(place, int(row["height"]), int(row["width"])) for place in places)


def _keep_sources(workspace: Workspace, rows: Sequence[Row], others: Sequence[Row]) -> None:
    """Let the vault know `rows`, and of `others` those of further files, then drop the parts."""
    for row in rows:
        row["reasons"] = list(dict.fromkeys(row["reasons"]))
        row["private"] = sorted(set(row["private"]))
        row["persons"] = None if row.get("persons") is None else sorted(set(row["persons"]))
    paths = {row["path"] for row in rows}
    whole = from_rows(SOURCES, [*rows, *(row for row in others if row["path"] not in paths)])
    workspace.write_vault(workspace.sources_path, SOURCES, whole)
    shutil.rmtree(_parts(workspace), ignore_errors=True)


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(Counter(values.dropna()).items())}
