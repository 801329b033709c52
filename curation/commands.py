"""`sono init`, `qc`, `split`, `dedup`, `phantom`, `pull`, `records`, `quarantine` and `export`."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sono.curation.core.cli_options import (
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

app = typer.Typer()
DAY = ["%Y-%m-%d"]
NamesOption = Annotated[
    bool, typer.Option("--names", help="Show paths and unknown labels; they may hold names.")
]
records = typer.Typer(
    no_args_is_help=True, help="The table of clinical records: what sono understands of it."
)
quarantine = typer.Typer(
    no_args_is_help=True, help="Frames that a person must look at before they may pass."
)
export = typer.Typer(no_args_is_help=True, help="Export the accepted frames to other formats.")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The new workspace.")], as_json: JsonOption = False
) -> None:
    """Make a workspace, and beside it the vault for what must stay in the building.

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


@app.command()
def pull(
    url: Annotated[str, typer.Argument(help="Address of the DICOMweb service, https://host/path.")],
    out: Annotated[
        Path, typer.Argument(help="The raw folder: new, or one that this command made.")
    ],
    first_day: Annotated[
        datetime | None, typer.Option("--from", formats=DAY, help="First day of studies.")
    ] = None,
    last_day: Annotated[
        datetime | None, typer.Option("--to", formats=DAY, help="Last day of studies.")
    ] = None,
    modality: Annotated[
        str, typer.Option(help="Modality to fetch, with the structured reports beside it.")
    ] = "US",
    patient_file: Annotated[
        Path | None, typer.Option(help="Text file with one patient id a line.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Studies at most.")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Plain http to a public address.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch studies from a PACS over DICOMweb; credentials come from the environment
    (docs/pacs.md).

    Example: sono pull https://pacs.example/dicom-web raw --from 2024-01-01 --to 2024-03-31
    """
    from sono.curation.pacs.pull import PullOptions, pull_studies

    first, last = (day.date() if day else None for day in (first_day, last_day))
    options = PullOptions(
        url, out, first, last, modality.upper(), patient_file, limit, insecure_http
    )
    summary = pull_studies(options)
    show(summary, as_json, next_step=f"sono qc {out}" if summary.studies else "")
    options.refuse_nothing(summary)
    summary.refuse_failures()


@app.command()
def qc(
    raw: Annotated[
        str,
        typer.Argument(
            help=(
                "Folder of DICOM, PNG, JPEG, TIFF or BMP files; or s3://bucket/raw "
                "(docs/stores.md)."
            )
        ),
    ],
    records: Annotated[
        Path | None, typer.Option(help="Table of clinical records: CSV, XLSX, Parquet, JSON lines.")
    ] = None,
    center: Annotated[
        str | None, typer.Option(help="The center that all these files come from.")
    ] = None,
    center_from: Annotated[
        str | None, typer.Option(help="Column of the records table that names the center.")
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="Of a cine: distinct, all, first or every:N.", show_default="distinct"),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Try unknown files as DICOM with a broken beginning.")
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
    step = (
        "sono masks propose, or sono captions build" if accepted.get("accepted") else "sono stats"
    )
    show(summary, as_json, next_step=step)
    if strict:
        summary.refuse_findings()


@app.command()
def split(
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validation: number of folds.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="The fold of --folds that becomes the test split.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another draw of patients.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the splits that stand; exit 1 for a leak.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Assign patients to train, val and test again, or to one fold of a cross-validation.

    The shares and the seed stand in the section splits of sono.toml. What stands is kept by later
    runs of `sono qc`.

    Example: sono split --folds 5 --fold 2
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.dataset.split_stage import checked_splits, split_workspace

    if check:
        sizes = checked_splits(Workspace.find(workspace))
        open_part = {
            "not checked": "whether frames without a patient are of a patient of another split"
        }
        show(
            {**sizes, "verdict": "passed", **(open_part if "without patient" in sizes else {})},
            as_json,
        )
        return
    if fold is not None and folds is None:
        raise typer.BadParameter("--fold goes with --folds, as in --folds 5 --fold 2")
    show(
        split_workspace(Workspace.find(workspace), folds, fold or 0, seed),
        as_json,
        next_step="sono train",
    )


@app.command()
def dedup(
    csv: Annotated[Path | None, typer.Option(help="Write the pairs as CSV, too.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a PNG of the gravest pairs, to look at.")
    ] = None,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find exact, near and flipped pairs and those that cross patients, planes, centers or splits.

    Example: sono dedup --sheet pairs.png
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.dedup import run_dedup

    summary = run_dedup(Workspace.find(workspace), csv, sheet, no_vault)
    show(summary, as_json)
    if strict:
        summary.refuse_findings()


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    patients: Annotated[int, typer.Option(min=2, help="Patients in both centers together.")] = 60,
    frames: Annotated[int, typer.Option(min=1, help="Frames a patient.")] = 8,
    seed: Annotated[int, typer.Option(help="Another study.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a synthetic export of two centers, with records, masks, planted defects and the truth.

    Example: sono phantom export
    """
    from sono.curation.phantom.study import make_phantom

    show(
        make_phantom(out, patients, frames, seed),
        as_json,
        next_step=(
            f"sono init study && sono qc {out / 'raw'} --records {out / 'records.csv'} -w study"
        ),
    )


@records.command("check")
def check(
    table: Annotated[
        Path, typer.Argument(help="Table of clinical records: CSV, XLSX, Parquet, JSON lines.")
    ],
    raw: Annotated[
        str | None,
        typer.Option(help="Folder of images: which rows meet which files, by what evidence."),
    ] = None,
    center: Annotated[
        str | None, typer.Option(help="The --center that `sono qc` will be given.")
    ] = None,
    names: NamesOption = False,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what sono understands of a records table, without anybody's name or id.

    With --raw it gives an example of each rule by which rows met files or stayed without; --json
    has every row.

    The settings come from the workspace's sono.toml and earlier runs from its vault, where there is
    one.

    Example: sono records check records.csv --raw raw/ --center A
    """
    from sono.curation.core.planes import PlaneTable
    from sono.curation.core.tables import SOURCES, empty_table
    from sono.curation.core.workspace import Workspace
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
    options = MatchOptions(names, is_mask_picture, center, sources)
    report = check_records(table, config, planes, raw_place(raw) if raw else None, options)
    show(report, as_json, next_step="" if report.stops_qc else "sono qc RAW_FOLDER --records TABLE")
    report.refuse_what_stops_qc()
    if strict:
        report.refuse_findings()


@quarantine.command("show")
def show_held(
    reason: Annotated[
        str | None, typer.Option(help="Only frames with this reason, as text_in_sector.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the quarantined frames with their ids on sheets in the vault.

    Example: sono quarantine show --reason text_in_sector
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.quarantine import show_quarantine

    show(
        show_quarantine(Workspace.find(workspace), reason),
        as_json,
        next_step="sono quarantine release NAME ... --reviewer INITIALS",
    )


@quarantine.command("release")
def release_held(
    pictures: Annotated[list[str], typer.Argument(help="Names as on the sheets.")],
    reviewer: Annotated[str, typer.Option(help="Who looked; stays in the vault.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let frames pass that somebody looked at; the next `sono qc` remembers.

    Example: sono quarantine release 0f3a61c2d4e5b697-b79fecf9 --reviewer KM
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.quarantine import release

    show(release(Workspace.find(workspace), pictures, reviewer), as_json)


@export.command("dicom")
def export_to_dicom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write every accepted frame as a de-identified DICOM file, made from nothing but pixels and
    allowed columns.

    Example: sono export dicom dicom/
    """
    from sono.curation.core.workspace import Workspace
    from sono.curation.export_dicom import export_dicom

    show(export_dicom(Workspace.find(workspace), out), as_json)
