"""`sono init`, `qc`, `split`, `dedup`, `phantom`, `pull`, `records`, `quarantine` and `export`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sono.curation.core.cli_options import (
    READ,
    JobsOption,
    JsonOption,
    NoVaultOption,
    QuietOption,
    SchedulerOption,
    StrictOption,
    WorkspaceOption,
    show,
)
from sono.curation.core.errors import typed_name
from sono.curation.pacs.commands import pull

app = typer.Typer()
NamesOption = Annotated[
    bool, typer.Option("--names", help="Show paths and unknown labels; they may contain names.")
]
records = typer.Typer(
    no_args_is_help=True, help="Check how sono reads a table of clinical records."
)
quarantine = typer.Typer(no_args_is_help=True, help="Review frames that a person must look at.")
export = typer.Typer(no_args_is_help=True, help="Export accepted frames to other formats.")


@app.command(rich_help_panel=READ)
def init(
    folder: Annotated[Path, typer.Argument(help="The new workspace.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Create a workspace, and next to it the vault for data that must stay in the hospital.

    Example: sono init study
    """
    from sono.curation.core.workspace import Workspace

    study = Workspace.create(folder)
    result = {"workspace": str(study.root), "vault": str(study.vault)}
    show(
        result,
        as_json,
        next_step=f"cd {shlex.quote(str(folder))} && sono qc RAW_FOLDER --records RECORDS.csv",
    )


app.command(rich_help_panel=READ)(pull)


@app.command(rich_help_panel=READ)
def qc(
    raw: Annotated[
        str,
        typer.Argument(
            help=(
                "Folder or archive of DICOM files, pictures and videos (docs/formats.md); or "
                "s3://bucket/raw (docs/stores.md)."
            )
        ),
    ],
    records: Annotated[
        Path | None, typer.Option(help="Table of clinical records: CSV, XLSX, Parquet, JSON lines.")
    ] = None,
    center: Annotated[str | None, typer.Option(help="The center of all these files.")] = None,
    center_from: Annotated[
        str | None, typer.Option(help="Column of the records table that names the center.")
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            help="Frames of a cine to use: distinct, all, first or every:N.",
            show_default="distinct",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Try to read unknown files as DICOM with a damaged beginning.")
    ] = False,
    names: NamesOption = False,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Grade, crop, de-identify and store every frame of a folder.

    Example: sono qc raw/ --records records.csv --center A
    """
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace
    from sono.curation.qc import QcOptions, run_qc
    from sono.curation.readers.object_store import raw_place

    study = Workspace.find(workspace)
    options = QcOptions(raw_place(raw), records, center, center_from, frames, force, names)
    summary = run_qc(study, options, Engine.create(jobs, scheduler))
    accepted = summary.total or summary.statuses
    steps = ("sono masks propose", "sono captions build")
    show(
        summary if as_json else summary.table(),
        as_json,
        next_step=steps if accepted.get("accepted") else "sono stats",
    )
    if strict:
        summary.refuse_findings()


@app.command(rich_help_panel=READ)
def split(
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validation: number of folds.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="The fold of --folds that becomes the test split.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for another draw of patients.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the present splits; exit 1 for a leak.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Assign patients to train, val and test again, or to one fold of a cross-validation.

    The section splits of sono.toml sets the shares and the seed. Later runs of `sono qc` keep the
    result.

    Example: sono split --folds 5 --fold 2
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.dataset.split_stage import checked_splits, split_workspace

    if check:
        sizes = checked_splits(Workspace.find(workspace))
        open_part = {
            "not checked": "whether frames without a patient belong to a patient of another split"
        }
        show(
            {**sizes, "verdict": "passed", **(open_part if "without patient" in sizes else {})},
            as_json,
        )
        return
    if fold is not None and folds is None:
        raise typer.BadParameter("--fold needs --folds, as in --folds 5 --fold 2")
    if folds is not None and fold is not None and fold >= folds:
        raise typer.BadParameter(f"--fold {fold} of --folds {folds}: give 0 to {folds - 1}")
    show(
        split_workspace(Workspace.find(workspace), folds, fold or 0, seed),
        as_json,
        next_step="sono train",
    )


@app.command(rich_help_panel=READ)
def dedup(
    csv: Annotated[Path | None, typer.Option(help="Also write the pairs as CSV.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a PNG that shows the most serious pairs.")
    ] = None,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find exact, near and flipped duplicates, and pairs that cross patients, planes or splits.

    Example: sono dedup --sheet pairs.png
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.dedup import run_dedup

    summary = run_dedup(Workspace.find(workspace), csv, sheet, no_vault)
    show(summary, as_json)
    if strict:
        summary.refuse_findings()


@app.command(rich_help_panel=READ)
def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    patients: Annotated[
        int, typer.Option(min=2, help="Number of patients in both centers together.")
    ] = 60,
    frames: Annotated[int, typer.Option(min=1, help="Frames per patient.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed for another study.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a synthetic export of two centers with records, masks and known defects.

    Example: sono phantom export
    """
    from sono.curation.phantom.study import make_phantom

    raw, table = (shlex.quote(str(out / name)) for name in ("raw", "records.csv"))
    show(
        make_phantom(out, patients, frames, seed),
        as_json,
        next_step=(
            f"sono init study && sono qc {raw} --records {table} --center-from Hospital -w study"
        ),
    )


@records.command("check")
def check(
    table: Annotated[
        Path, typer.Argument(help="Table of clinical records: CSV, XLSX, Parquet, JSON lines.")
    ],
    raw: Annotated[
        str | None,
        typer.Option(help="Folder of images: show which rows match which files, and why."),
    ] = None,
    center: Annotated[
        str | None, typer.Option(help="The --center that `sono qc` will use.")
    ] = None,
    names: NamesOption = False,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show how sono reads a records table, without names or ids of patients.

    With --raw it also shows an example of each rule by which rows match files or do not; --json
    lists every row. Settings and earlier runs come from the workspace, if there is one.

    Example: sono records check records.csv --raw raw/ --center A
    """
    from sono.curation.core.planes import PlaneTable
    from sono.curation.core.tables import empty_table
    from sono.curation.core.vault_tables import SOURCES
    from sono.curation.core.workspace import Workspace
    from sono.curation.dataset.splits import SplitConfig
    from sono.curation.imaging.analysis import is_mask_picture
    from sono.curation.readers.object_store import raw_place
    from sono.curation.records.check import check_records
    from sono.curation.records.file_matching import MatchOptions
    from sono.curation.records.read import RecordsConfig

    if center is not None:
        typed_name("--center", center)
    study = Workspace.find_or_none(workspace)
    config = study.settings("records", RecordsConfig) if study else RecordsConfig()
    planes = study.planes() if study else PlaneTable()
    sources = study.sources() if study else empty_table(SOURCES)
    splits = study.settings("splits", SplitConfig).column if study else ""
    options = MatchOptions(names, is_mask_picture, center, sources, splits)
    report = check_records(table, config, planes, raw_place(raw) if raw else None, options)
    folder = "RAW_FOLDER" if raw is None else shlex.quote(raw)
    step = f"sono qc {folder} --records {shlex.quote(str(table))}"
    step += f" --center {shlex.quote(center)}" if center else ""
    show(report, as_json, next_step="" if report.stops_qc else step)
    report.refuse_what_stops_qc()
    if strict:
        report.refuse_findings()


@app.command("list", rich_help_panel=READ)
def list_(
    status: Annotated[
        str | None, typer.Option(help="accepted, rejected, quarantined or error.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only frames with this reason, for example blurred.")
    ] = None,
    names: NamesOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List files with their status and reasons, and write all of them to files.csv in the vault.

    Example: sono list --status rejected
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.listing import list_files

    show(list_files(Workspace.find(workspace), status, reason, names), as_json)


@quarantine.command("show")
def show_held(
    reason: Annotated[
        str | None, typer.Option(help="Only frames with this reason, for example text_in_sector.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw the quarantined frames with their names on sheets in the vault.

    Example: sono quarantine show --reason text_in_sector
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.quarantine import show_quarantine

    summary = show_quarantine(Workspace.find(workspace), reason)
    listed = tuple(f"{name}: {why}" for name, why in summary.pictures.items())
    show(
        summary if as_json else asdict(summary) | {"pictures": listed},
        as_json,
        next_step=(
            "sono quarantine release NAME ... --reviewer INITIALS",
            "sono quarantine reject NAME ... --reviewer INITIALS",
        ),
    )


ReviewerOption = Annotated[
    str, typer.Option("--reviewer", help="Initials of the reviewer; stored in the vault only.")
]
PicturesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Names of frames, as on the sheets, or files of the export."),
]
HeldForOption = Annotated[
    str | None, typer.Option("--reason", help="Also all frames that are held for this reason only.")
]


@quarantine.command("release")
def release_held(
    reviewer: ReviewerOption,
    pictures: PicturesArgument = None,
    reason: HeldForOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accept quarantined frames that a person has reviewed; later runs of `sono qc` keep this.

    Example: sono quarantine release 0f3a61c2d4e5b697-b79fecf9 --reviewer KM
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.quarantine import release

    show(release(Workspace.find(workspace), pictures or (), reviewer, reason), as_json)


@quarantine.command("reject")
def reject_held(
    reviewer: ReviewerOption,
    pictures: PicturesArgument = None,
    reason: HeldForOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Reject quarantined frames that a person has reviewed; later runs of `sono qc` keep this.

    `sono quarantine release` with the name of the frame takes it back.

    Example: sono quarantine reject 0f3a61c2d4e5b697-b79fecf9 --reviewer KM
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.quarantine import reject

    show(reject(Workspace.find(workspace), pictures or (), reviewer, reason), as_json)


@export.command("dicom")
def export_to_dicom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write every accepted frame as a de-identified DICOM file.

    The files are built from pixels and allowed columns only.

    Example: sono export dicom dicom/
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.export_dicom import export_dicom

    show(export_dicom(Workspace.find(workspace), out), as_json)
