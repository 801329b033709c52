"""The `qc` stage: measure and store frames, join records, and build the images table."""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import check_target, real_path, remove_leftovers
from sono.curation.core.config import override
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import IssuesError, SonoError, counted, typed_name
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import IMAGES, MASKS, Row
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.dataset.published_splits import published_splits
from sono.curation.imaging.analysis import AnalysisTask, analyze, crashed
from sono.curation.imaging.analysis_cache import (
    is_unchanged,
    known_rows,
    parts_folder,
    save_part,
    save_sources,
)
from sono.curation.imaging.judged_text import text_search
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.gate import check_privacy
from sono.curation.privacy.source_names import names_of_persons
from sono.curation.qc_messages import (
    duplicate_conflicts_remark,
    found_table_remark,
    frame_remarks,
    moved_frames_remark,
    orphaned_masks_remark,
    studies_remark,
    text_search_remark,
    unread_files_remark,
)
from sono.curation.readers.archives import file_of
from sono.curation.readers.files import list_sources, name_of, without_studies
from sono.curation.readers.object_store import is_url
from sono.curation.records.centers import center_remarks, known_spelling, unify_centers
from sono.curation.records.earlier_runs import EarlierRuns, withdrawn_records_remark
from sono.curation.records.evidence import AMBIGUOUS
from sono.curation.records.join_messages import Joined
from sono.curation.records.name_encodings import unclear_names_remark
from sono.curation.records.partition import cell_form
from sono.curation.records.read import (
    RecordsConfig,
    RecordsTable,
    find_known_table,
    merge_table,
    read_rows,
)
from sono.curation.records.record_fields import forget_records, join_records
from sono.curation.records.sr_values import apply_reports, is_report_row, rows_with_reports
from sono.curation.records.table_reading import TableReading

PART_SECONDS = 5.0  # between two saves of measured rows; a killed run loses at most this much work


@dataclass(frozen=True)
class QcOptions:
    """The options of `sono qc`: raw folder or address, records table, center and frames.

    `names` shows file paths below `raw` and unknown planes in messages; otherwise they are masked.
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
    """The result of one run: counts of this folder's frames, and remarks for the user.

    `total` counts the statuses of the complete workspace; {} if it has no other folder.
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

    def table(self) -> dict[str, object]:
        """The counts for the terminal."""
        again = self.files - self.measured
        known = f", {again} of them known from an earlier run and unchanged" if again else ""
        equals = {"equal to another frame": self.duplicates.get("exact", 0)} | {
            "nearly equal": self.duplicates.get("near", 0)
        }
        shown = {name: value for name, value in vars(self).items() if name != "measured"}
        return shown | {"files": f"{self.files}{known}", "duplicates": equals}

    def refuse_findings(self) -> None:
        """Raise IssuesError (exit 3) if a frame was not accepted, except repeats in a cine."""
        findings = sum(count for status, count in self.statuses.items() if status != "accepted")
        findings -= self.reasons.get("cine_repeat", 0)  # equal frames of a cine are no defect
        if findings:
            raise IssuesError(
                f"{findings} of {counted(self.frames, 'frame')}"
                f" {'was' if findings == 1 else 'were'} not accepted; see the reasons above"
            )


def run_qc(workspace: Workspace, options: QcOptions, engine: Engine) -> QcSummary:
    """Grade, crop and store every frame below `options.raw` and update the images table.

    Raises SonoError for options, settings or a records table that cannot be used, before any file
    is measured, and PrivacyError if something private is found.
    """
    if options.center and options.center_from:
        raise SonoError("--center and --center-from exclude each other; give one of them")
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
        paths, studies = _paths(workspace, options, reading.path if reading else None)
        sources = workspace.sources()
        rows, measured = _measure(workspace, task, paths, sources, engine)
        records = None if reading is None else _table(workspace, reading, rows, partition.column)
        _remove_leftovers(workspace)  # a worker may have died
        runs = EarlierRuns.of(sources, task.root, {row["path"]: row["file_sha256"] for row in rows})
        rows = runs.followed(rows)
        applied = _apply(records, rows, runs, partition.splits, options, task.root)
        os.sync()  # the frames are on the disk before a table names them
        save_sources(workspace, [*rows, *applied.earlier], runs.rows)
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
            *text_search_remark(task.quality.text),
            *found_table_remark(options.raw, None if options.records else reading, options.names),
            *frame_remarks(images, own, records, applied.joined),
            *filter(
                None,
                [
                    unclear_names_remark(
                        paths, task.root, records.records if records else (), options.names
                    )
                ],
            ),
            *applied.remarks,
            *runs.remarks(task.root, options.names),
            *duplicate_conflicts_remark(own, [*rows, *runs.rows], task.root, options.names),
            *studies_remark(studies, task.root, options.names),
            *unread_files_remark(rows, task.root, options.names),
            *partition.remarks(own),
            *center_remarks(applied.spellings, images["center"].dropna().unique()),
            *moved_frames_remark(before, images),
            *orphaned_masks_remark(workspace.read(MASKS, ["image_id"]), images),
        ),
    )


def _remove_leftovers(workspace: Workspace) -> None:
    """Remove files that a killed run or worker left incomplete."""
    for folder in (
        parts_folder(workspace),
        *workspace.frames.glob("*"),
        *workspace.quarantine.glob("*"),
    ):
        remove_leftovers(folder)


def _task(workspace: Workspace, options: QcOptions) -> AnalysisTask:
    settings = workspace.settings("qc", QualityConfig)
    cine = override(settings.cine, frames=options.frames)
    settings = settings.model_copy(update={"text": text_search(settings)})
    return AnalysisTask(
        root=name_of(options.raw),
        key=workspace.key(),
        frames=workspace.frames,
        quarantine=workspace.quarantine,
        quality=settings.model_copy(update={"cine": cine}),
        force=options.force,
    )


def _paths(
    workspace: Workspace, options: QcOptions, table: Path | None
) -> tuple[list[bytes], dict[bytes, int]]:
    """The files to read, without the records table and the files that sono writes.

    Also the other workspaces and vaults among them, with their numbers of files. Raises SonoError
    if there are no files to read.
    """
    raw = options.raw
    own = tuple(os.fsencode(folder) + b"/" for folder in (workspace.root, workspace.vault))
    records = os.fsencode(real_path(table)) if table else None
    listed = (path for path in list_sources(raw) if not path.startswith(own) and path != records)
    paths, studies = without_studies(listed)
    if not paths:
        found = "; ".join(studies_remark(studies, name_of(raw), options.names))
        raise SonoError(
            f"{raw}: contains only {'workspaces' if studies else 'the workspace'} or the records "
            f"table; {found}{'; ' if found else ''}give the folder of the raw export"
        )
    return paths, studies


def _reading(workspace: Workspace, options: QcOptions, planes: PlaneTable) -> TableReading | None:
    """Read the records table of the options, else a known table in the raw folder, else None."""
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
    reading.require_known_planes()
    return reading


def _table(
    workspace: Workspace, reading: TableReading, rows: Sequence[Row], partition: str
) -> RecordsTable:
    """The records of `reading`; its messages show no name from the headers of `rows`.

    The column `partition` is not listed as unused.
    """
    persons = {name for row in rows if row["persons"] is not None for name in row["persons"]}
    table = merge_table(reading.knowing(persons), workspace.settings("records", RecordsConfig))
    return replace(
        table,
        unused=tuple(title for title in table.unused if cell_form(title) != cell_form(partition)),
    )


@dataclass(frozen=True)
class _Applied:
    """How the records of a run were applied.

    `earlier` are rows of earlier runs that met a record, `spellings` maps each spelling of a center
    to the one that is kept, and `remarks` report on facts of rows of earlier runs.
    """

    earlier: list[Row]
    joined: Joined
    spellings: dict[str, str]
    remarks: list[str]


def _apply(
    records: RecordsTable | None,
    rows: list[Row],
    runs: EarlierRuns,
    splits: Mapping[int, str],
    options: QcOptions,
    root: bytes,
) -> _Applied:
    """Set centers and facts of records and structured reports in `rows` and in rows of `runs`."""
    earlier = [] if records is None else runs.met_by(records)
    ambiguous = sum(AMBIGUOUS in row["reasons"] for row in earlier)
    frames = [row for row in (*rows, *earlier) if not is_report_row(row)]
    if records is not None:
        forget_records(frames)
    center = options.center and known_spelling(options.center, runs.rows)
    if center or options.center_from:  # else the center of an earlier run stays
        for row in rows:
            # two centers may use one number for two patients
            row["center"] = row["namespace"] = center
    matches = join_records(frames, records, splits, runs.rows)
    joined = Joined.of(records, matches, root, options.names)
    kept = (
        []
        if records is None or options.records is None  # a found table is of its own folder
        else runs.of_other_rows(records, earlier, root, options.names)
    )
    met = set(map(id, earlier))
    further = [row for row in rows_with_reports(rows, runs.rows) if id(row) not in met]
    apply_reports([*rows, *earlier, *further])
    spellings = unify_centers(runs.rows, rows)
    if options.center and center != options.center:
        spellings[options.center] = str(center)
    withdrawn = withdrawn_records_remark(earlier, matches, ambiguous, root, options.names)
    return _Applied(earlier, joined, spellings, [*withdrawn, *kept])


def _measure(
    workspace: Workspace,
    task: AnalysisTask,
    paths: list[bytes],
    sources: pd.DataFrame,
    engine: Engine,
) -> tuple[list[Row], int]:
    """The rows of all `paths`, and the number of files that were measured in this run."""
    known = known_rows(workspace, task.settings_hash, sources)
    todo = [path for path in paths if not is_unchanged(workspace, known.get(path), path)]
    done = {path: known[path] for path in set(paths) - set(todo)}
    needs = (
        workspace.config_path,
        *(Path(os.fsdecode(file_of(path))) for path in todo[:1] if not is_url(path)),
    )
    fresh: list[Row] = []
    saved = time.monotonic()
    try:
        for batch in run_batches(
            engine, partial(analyze, task), todo, partial(crashed, task), "qc", needs
        ):
            fresh += [row for file_rows in batch for row in file_rows]
            if time.monotonic() - saved >= PART_SECONDS:
                save_part(workspace, fresh, done)
                fresh, saved = [], time.monotonic()
    finally:  # also if the run is interrupted
        save_part(workspace, fresh, done)
    return [row for path in paths for row in done[path]], len(todo)


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(Counter(values.dropna()).items())}
