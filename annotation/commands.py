"""`sono masks ...` and `sono stats`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sono.curation.core.cli_options import (
    ANNOTATE,
    JobsOption,
    JsonOption,
    NoVaultOption,
    QuietOption,
    SchedulerOption,
    WorkspaceOption,
    show,
)

app = typer.Typer()
masks = typer.Typer(
    no_args_is_help=True, help="Import, propose, review, learn, measure and export masks."
)


@masks.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help=(
                "COCO, LabelMe, Label Studio or CVAT, a table of boxes, or a folder of mask files."
            )
        ),
    ],
    structure: Annotated[
        str | None, typer.Option(help="What all masks show, e.g. 'fetal head'.")
    ] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Classes by color: 'red=fetal head'; repeat.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="Classes by gray value: '1=fetal head'; repeat.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label of the file: 'Head=fetal head'; repeat.")
    ] = None,
    skip_label: Annotated[
        list[str] | None, typer.Option(help="A label to leave out; repeat.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="A column of a box table: 'left=x_left'; repeat.")
    ] = None,
    ignore_folder: Annotated[
        list[str] | None,
        typer.Option(help="A folder in the masks' names that no frame has; repeat."),
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Also masks that look wrong: tiny, inverted, in many pieces, ...")
    ] = False,
    replace: Annotated[
        bool | None,
        typer.Option(
            "--replace/--keep-both",
            help="What becomes of accepted masks of the same frame and structure.",
            show_default="those of the same source are replaced",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Import nothing; say which masks meet which frames, and why."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="All or none: exit 3 if a mask is refused.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Import masks that people or other tools have drawn (docs/masks.md).

    Example: sono masks import masks/ --structure "fetal head"
    """
    from sono.annotation.import_options import ImportOptions, parse_pairs, parse_values
    from sono.annotation.mask_import import import_masks
    from sono.annotation.masks import has_proposals
    from sono.curation.core.workspace import Workspace

    options = ImportOptions(
        structure=structure,
        colors=parse_pairs("--color", color or (), "red=fetal head"),
        values=parse_values(value or ()),
        labels=parse_pairs("--label", label or (), "Head=fetal head"),
        skipped=skip_label or (),
        columns=parse_pairs("--column", column or (), "left=x_left"),
        ignored_folders=ignore_folder or (),
        strict=strict,
        force=force,
        dry_run=dry_run,
        replace=replace,
    )
    study = Workspace.find(workspace)
    summary = import_masks(study, path, options)
    if summary.imported or as_json:
        first = "review --reviewer NAME" if has_proposals(study) else "propose"
        show(
            summary if as_json else summary.table(),
            as_json,
            next_step=shlex.join(["sono", *(word for word in sys.argv[1:] if word != "--dry-run")])
            if dry_run
            else (f"sono masks {first}", "sono captions build"),
        )
    summary.refuse_nothing()
    if strict:
        summary.refuse_findings()


@masks.command()
def propose(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A SAM or MedSAM checkpoint, or a folder of ONNX graphs; without it, no weights."
        ),
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option("--with", help="A segmenter of `sono masks train`: runs/NAME.")
    ] = None,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Propose masks: outlines without weights, or what SAM or a trained segmenter finds.

    Proposals are not labels.

    Example: sono masks propose --checkpoint sam_vit_b.pth
    """
    from sono.annotation.propose import propose_masks
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace

    study = Workspace.find(workspace)
    if segmenter is not None and not segmenter.exists():
        segmenter = study.root / segmenter  # runs/NAME from any folder
    summary = propose_masks(study, checkpoint, Engine.create(jobs, scheduler), segmenter)
    if summary.proposed or summary.already_in_table or as_json:
        review = "sono masks review --reviewer NAME"
        show(summary, as_json, next_step=(review, "sono captions build"))
    summary.refuse_nothing()


@masks.command()
def train(
    name: Annotated[str, typer.Option(help="Name of the run: runs/NAME.")] = "segmenter",
    structure: Annotated[
        list[str] | None,
        typer.Option(help="A structure to learn; repeat.", show_default="all with masks"),
    ] = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="A center to keep for evaluation; repeat.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps.", show_default="1000")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a segmenter on the accepted masks of the train split.

    It starts from ImageNet weights; the val split picks the best step.

    Example: sono masks train --hold-out B
    """
    from sono.annotation.segmenter.config import SegmenterConfig
    from sono.annotation.segmenter.fit import train_segmenter
    from sono.curation.core.config import override
    from sono.curation.core.workspace import Workspace

    study = Workspace.find(workspace)
    config = override(study.settings("segmenter", SegmenterConfig), steps=steps)
    summary = train_segmenter(study, name, structure or (), hold_out or (), config)
    show(summary, as_json, next_step=f"sono masks propose --with runs/{summary.file.parent.name}")


@masks.command()
def export(
    target: Annotated[Path, typer.Argument(help="The file or new folder to write.")],
    format_name: Annotated[
        Literal[
            "coco",
            "coco-polygons",
            "cvat",
            "cvat-polygons",
            "label-studio",
            "label-studio-polygons",
            "labelme",
            "labelme-polygons",
            "png-binary",
            "png-indexed",
            "png-color",
            "nrrd",
            "mha",
            "yolo",
        ],
        typer.Option("--format", help="Polygons and yolo fill holes; the others are exact."),
    ] = "coco",
    coordinates: Annotated[
        Literal["stored", "source"],
        typer.Option(help="Pixels of the stored frames, or of the raw files."),
    ] = "stored",
    source_names: Annotated[
        bool, typer.Option("--source-names", help="Name the raw files: private, needs the vault.")
    ] = False,
    proposed: Annotated[
        bool, typer.Option("--proposed/--no-proposed", help="Also masks that nobody has reviewed.")
    ] = True,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write all masks that were not rejected in the format of another tool (docs/masks.md).

    Example: sono masks export masks.coco.json
    """
    from sono.annotation.export_masks import ExportOptions, export_masks
    from sono.curation.core.workspace import Workspace

    options = ExportOptions(format_name, coordinates, source_names, no_vault, proposed)
    summary = export_masks(Workspace.find(workspace), target, options)
    show(summary if as_json else summary.table(), as_json)


@masks.command()
def measure(
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV, too.")] = None,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure HC, BPD, OFD, AC and FL in mm on masks of the planes that show them.

    Example: sono masks measure --csv biometry.csv
    """
    from sono.annotation.measure_masks import measure_masks
    from sono.curation.core.workspace import Workspace

    summary = measure_masks(Workspace.find(workspace), csv, no_vault)
    if summary.measured_masks or as_json:
        show(summary, as_json)
    summary.refuse_nothing()


@masks.command()
def overlays(
    target: Annotated[Path, typer.Argument(help="Folder for the contact sheet.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames.")] = 24,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw frames with their masks on one contact sheet for review.

    Example: sono masks overlays look/
    """
    from sono.annotation.overlays import write_overlays
    from sono.curation.core.workspace import Workspace

    show(write_overlays(Workspace.find(workspace), target, count, no_vault), as_json)


@masks.command()
def review(
    reviewer: Annotated[str, typer.Option(help="Who decides; stored with every decision.")],
    structure: Annotated[
        str | None, typer.Option(help="Only masks of this structure.", show_default="all")
    ] = None,
    which: Annotated[
        Literal["proposed", "decided", "all", "missing"],
        typer.Option(help="Which masks are shown; missing: frames that lack one, to draw it."),
    ] = "proposed",
    second: Annotated[
        bool,
        typer.Option(
            "--second", help="Masks that another reviewer decided, as they were proposed."
        ),
    ] = False,
    adjudicate: Annotated[
        bool,
        typer.Option("--adjudicate", help="Masks on which two reviewers differ, side by side."),
    ] = False,
    planted: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of wrong masks mixed in as a check.")
    ] = 0.05,
    blind: Annotated[
        float, typer.Option(min=0, max=1, help="Share of masks to draw without the proposal.")
    ] = 0.0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A SAM or MedSAM checkpoint that answers clicks and boxes.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1.", show_default="a free one")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the default browser.")
    ] = True,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Accept, correct or reject masks in the browser, the most doubtful first.

    Every decision is on disk before the page says so. Ctrl-C ends the review.

    Example: sono masks review --reviewer "M. Weber"
    """
    from sono.annotation.review.queue import Wanted, chosen_masks
    from sono.annotation.review.run import run_review
    from sono.curation.core.workspace import Workspace

    chosen = chosen_masks(which, second, adjudicate)
    wanted = Wanted(reviewer, structure, chosen, planted, blind, checkpoint)
    show(
        run_review(Workspace.find(workspace), wanted, port, browser),
        as_json,
        next_step="sono captions build",
    )


@app.command(rich_help_panel=ANNOTATE)
def stats(
    workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Count the contents of the study and write report.html with plots and examples.

    Example: sono stats
    """
    from sono.annotation.review.quality import review_lines, review_report
    from sono.annotation.study_report import write_statistics_report
    from sono.curation.core.workspace import Workspace

    study = Workspace.find(workspace)
    statistics, report = write_statistics_report(study)
    reviews = review_report(study)
    values = statistics.as_dict() if as_json else statistics.headline()
    result = {
        **values,
        "reviews": reviews if as_json else review_lines(reviews),
        "report": str(report),
    }
    show(result, as_json, "sono captions build" if statistics.captions.empty else "sono train")
