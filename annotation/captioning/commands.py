"""`sono captions ...` and `sono planes ...`."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from sono.curation.core.cli_options import (
    JsonOption,
    NoVaultOption,
    QuietOption,
    StrictOption,
    WorkspaceOption,
    show,
)

captions = typer.Typer(no_args_is_help=True, help="Write and check captions from record fields.")
planes = typer.Typer(invoke_without_command=True)


@planes.callback()
def list_planes(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the planes with region, structures, usual weeks and guideline.

    --json adds the labels of each plane with language and source, the known planes outside the 24,
    the findings with their HPO terms, and the measures with their LOINC codes and conventions.

    Example: sono planes
    """
    if context.invoked_subcommand:
        return
    from sono.annotation.captioning.ontology import Ontology
    from sono.curation.core.planes import PlaneTable
    from sono.curation.core.workspace import Workspace

    study = Workspace.find_or_none(workspace)
    show(Ontology.of(study.planes() if study else PlaneTable()), as_json)


@planes.command("check")
def check_planes(
    file: Annotated[Path, typer.Argument(help="A table with a column of labels: CSV, XLSX, ...")],
    column: Annotated[
        str,
        typer.Option(help="Title of the column of labels.", show_default="the one that looks so"),
    ] = "",
    names: Annotated[
        bool, typer.Option("--names", help="Show unknown labels; they may contain names.")
    ] = False,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show which labels of a table name a plane, by which known label, and which do not.

    Labels of languages that nobody has reviewed are proposed, never read: the lines to confirm them
    are printed.

    Example: sono planes check records.csv
    """
    from sono.curation.core.planes import PlaneTable
    from sono.curation.core.workspace import Workspace
    from sono.curation.records.plane_labels_check import check_labels

    study = Workspace.find_or_none(workspace)
    report = check_labels(file, study.planes() if study else PlaneTable(), column, names)
    show(report, as_json, next_step=f"sono records check {quote(str(file))}")
    if strict:
        report.refuse_findings()


@captions.command("build")
def build(
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "--template",
            help="fetalclip, multi, short, sonoclip, standard, or a folder of yours; repeat.",
            show_default="standard",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a global caption for every accepted frame and a region caption for every mask.

    With several sets, each frame and mask has a caption of each; training draws one at a step.

    Example: sono captions build --set standard --set short
    """
    from sono.annotation.captions import build_captions
    from sono.curation.core.workspace import Workspace

    summary = build_captions(Workspace.find(workspace), sets)
    steps = ("sono captions lint", "sono stats")
    show(summary if as_json else summary.table(), as_json, next_step=steps)
    if strict:
        summary.refuse_findings()


@captions.command("lint")
def lint(
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check all captions, also corrected and imported ones, against records, masks and vault.

    It shows codes, rows and fixes, how many captions of each plane are distinct, and the histogram
    of tokens. With --strict it exits with code 3 if a caption has an error.

    Example: sono captions lint
    """
    from sono.annotation.captioning.lint_report import lint_captions
    from sono.curation.core.workspace import Workspace

    report = lint_captions(Workspace.find(workspace))
    show(report, as_json)
    if strict:
        report.refuse_findings()


@captions.command("preview")
def preview(
    count: Annotated[int, typer.Option(min=1, help="Frames of each plane.")] = 2,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with frames and masks instead.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Print all captions of these frames.")
    ] = False,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show some captions of each plane with the facts that they state and their template set.

    It prints about 60 captions, at least one for each frame; --all prints all of these frames.
    --html writes a page with the frames and masks, and prints only its summary.

    Example: sono captions preview --html captions.html
    """
    from sono.annotation.captioning.preview import preview_captions
    from sono.curation.core.workspace import Workspace

    show(preview_captions(Workspace.find(workspace), count, html, no_vault, every), as_json)
