"""The commands: each parses, calls one function and prints one result."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sono.curation.errors import SonoError

app = typer.Typer(
    name="sono",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw fetal ultrasound to a trustworthy image-text-mask data set and a CLIP. Not a medical device.",
)
masks = typer.Typer(no_args_is_help=True, help="Import, propose and export masks.")
captions = typer.Typer(no_args_is_help=True, help="Write captions from record fields.")
app.add_typer(masks, name="masks")
app.add_typer(captions, name="captions")


def _be_quiet(quiet: bool) -> None:
    from sono.curation.console import talk

    talk.quiet = quiet


WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", "-w", help="The study's folder; else the one at or above this folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no talk.", callback=_be_quiet)]
JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; 1 works in this one.", show_default="cores")
]
SchedulerOption = Annotated[str | None, typer.Option(help="Address of a dask scheduler, tcp://host:port.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit 3 if there are findings.")]


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="The new workspace.")], as_json: JsonOption = False) -> None:
    """Make a workspace, and beside it the vault for what must stay in the building.

    Example: sono init study
    """
    from sono.curation.workspace import Workspace

    study = Workspace.create(folder)
    result = {"workspace": str(study.root), "vault": str(study.vault)}
    show(result, as_json, next_step=f"cd {folder} && sono qc RAW_FOLDER --records RECORDS.csv")


@app.command()
def qc(
    raw: Annotated[Path, typer.Argument(help="Folder of DICOM, PNG, JPEG, TIFF or BMP files.")],
    records: Annotated[Path | None, typer.Option(help="Table of clinical records (CSV).")] = None,
    center: Annotated[str | None, typer.Option(help="The center that all these files come from.")] = None,
    center_from: Annotated[str | None, typer.Option(help="Column of the records table that names the center.")] = None,
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
    from sono.curation.engine import Engine
    from sono.curation.qc import QcOptions, run_qc
    from sono.curation.workspace import Workspace

    study = Workspace.find(workspace)
    summary = run_qc(study, QcOptions(raw, records, center, center_from), Engine.create(jobs, scheduler))
    show(summary, as_json, next_step="sono masks propose, or sono captions build")
    if strict:
        summary.refuse_findings()


@masks.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="COCO JSON, or a folder of mask PNGs named as their frames.")],
    structure: Annotated[str | None, typer.Option(help="What the masks of a folder show, e.g. 'fetal head'.")] = None,
    color: Annotated[list[str] | None, typer.Option(help="Colour-coded masks: 'red=fetal head'; repeat.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take over masks that people or other tools have drawn.

    Example: sono masks import masks/ --structure "fetal head"
    """
    from sono.annotation.mask_import import import_masks, parse_colors
    from sono.curation.workspace import Workspace

    summary = import_masks(Workspace.find(workspace), path, structure, parse_colors(color or ()))
    show(summary, as_json, next_step="sono masks propose, or sono captions build")


@masks.command()
def propose(
    checkpoint: Annotated[Path | None, typer.Option(help="A SAM or MedSAM checkpoint; without it, no weights.")] = None,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Propose outlines of heads, abdomens and long bones, with or without SAM. Proposals are not labels.

    Example: sono masks propose --checkpoint sam_vit_b.pth
    """
    from sono.annotation.propose import propose_masks
    from sono.curation.engine import Engine
    from sono.curation.workspace import Workspace

    summary = propose_masks(Workspace.find(workspace), checkpoint, Engine.create(jobs, scheduler))
    show(summary, as_json, next_step="sono captions build")


@masks.command()
def export(
    target: Annotated[Path, typer.Argument(help="The COCO JSON to write.")],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all masks of the stored frames as COCO JSON.

    Example: sono masks export masks.coco.json
    """
    from sono.annotation.mask_export import export_coco
    from sono.curation.workspace import Workspace

    show(export_coco(Workspace.find(workspace), target), as_json)


@masks.command()
def overlays(
    target: Annotated[Path, typer.Argument(help="Folder for the contact sheet.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames.")] = 24,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw frames with their masks on one contact sheet to look at.

    Example: sono masks overlays look/
    """
    from sono.annotation.overlays import write_overlays
    from sono.curation.workspace import Workspace

    show({"sheet": str(write_overlays(Workspace.find(workspace), target, count))}, as_json)


@captions.command("build")
def build(
    template: Annotated[
        str | None,
        typer.Option(help="Template set: sonoclip, standard, short, or a folder of yours.", show_default="standard"),
    ] = None,
    workspace: WorkspaceOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a global caption for every accepted frame and a region caption for every mask.

    Example: sono captions build --template sonoclip
    """
    from sono.annotation.captions import build_captions
    from sono.curation.workspace import Workspace

    summary = build_captions(Workspace.find(workspace), template)
    show(summary, as_json, next_step="sono stats, then sono train")
    if strict:
        summary.refuse_findings()


@app.command()
def stats(workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Count what is in the study and write report.html with plots and pictures.

    Example: sono stats
    """
    from sono.curation.workspace import Workspace
    from sono.templates.reports import write_statistics_report

    statistics, report = write_statistics_report(Workspace.find(workspace))
    show({**(statistics.as_dict() if as_json else statistics.headline()), "report": str(report)}, as_json, "sono train")


@app.command()
def split(
    folds: Annotated[int | None, typer.Option(min=2, help="Cross-validation: number of folds.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold that becomes the test split.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Another draw of patients.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Assign patients to train, val and test again, or to one fold of a cross-validation.

    Example: sono split --folds 5 --fold 2
    """
    from sono.curation.splits import split_workspace
    from sono.curation.workspace import Workspace

    show(split_workspace(Workspace.find(workspace), folds, fold, seed), as_json, next_step="sono train")


@app.command()
def train(
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="run-001, run-002, ...")] = None,
    hold_out: Annotated[list[str] | None, typer.Option(help="A center to keep for evaluation; repeat.")] = None,
    model: Annotated[str | None, typer.Option(help="nano, or any open_clip architecture.", show_default="nano")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training frames.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Pairs a step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run called --name.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a compact mask-channel CLIP on the train split.

    Example: sono train --hold-out B
    """
    from sono.curation.config import override
    from sono.curation.workspace import Workspace
    from sono.training.config import TrainingConfig
    from sono.training.train import next_run_name
    from sono.training.train import train as run_training

    study = Workspace.find(workspace)
    given = {"model": model, "epochs": epochs, "batch_size": batch_size, "seed": seed, "hold_out": hold_out or None}
    config = override(study.settings("training", TrainingConfig), **given)
    summary = run_training(study, config, name or next_run_name(study), resume)
    show(summary, as_json, next_step=f"sono eval --run {summary.run}")


@app.command("eval")
def evaluate(
    center: Annotated[str | None, typer.Option(help="Evaluate on all frames of this center.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="the newest")] = None,
    allow_seen: Annotated[bool, typer.Option("--allow-seen", help="Accept a center that was trained on.")] = False,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a run, zero-shot, on the test split or on a center it has never seen, and write a report.

    Example: sono eval --center B
    """
    from sono.curation.engine import Engine
    from sono.curation.workspace import Workspace
    from sono.evaluation.evaluate import EvaluationOptions
    from sono.evaluation.evaluate import evaluate as run_evaluation

    study = Workspace.find(workspace)
    options = EvaluationOptions(run=run, center=center, allow_seen=allow_seen)
    result = run_evaluation(study, options, Engine.create(jobs, scheduler))
    show(result.as_dict() if as_json else result, as_json)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    women: Annotated[int, typer.Option(min=2, help="Women in both centers together.")] = 60,
    frames: Annotated[int, typer.Option(min=1, help="Frames a woman.")] = 8,
    seed: Annotated[int, typer.Option(help="Another study.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a synthetic export of two centers, with records, masks, planted defects and the truth.

    Example: sono phantom export
    """
    from sono.curation.phantom.study import make_phantom

    show(
        make_phantom(out, women, frames, seed),
        as_json,
        next_step=f"sono qc {out / 'raw'} --records {out / 'records.csv'}",
    )


def show(result: Any, as_json: bool = False, next_step: str = "") -> None:
    """Print a result on stdout, as JSON or as a table; the next step is talk."""
    from rich.console import Console

    values = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if as_json:
        sys.stdout.write(json.dumps(values, default=str, indent=1) + "\n")
        return
    out = Console(highlight=False, soft_wrap=True)
    if hasattr(result, "__rich__"):
        out.print(result)
    else:
        _print_values(out, values)
    if next_step:
        out.print(f"\nnext: [bold]{next_step}[/bold]")


def _print_values(out: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is None or (not value and isinstance(value, Mapping | tuple)):
            continue
        out.print(f"[bold]{name.replace('_', ' '):<20}[/bold] {_plain(value)}", markup=True)


def _plain(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(key))} {_plain(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return "".join(f"\n  - {_plain(item)}" for item in value)
    return escape(str(value))


def main() -> None:
    """Run the command line; a SonoError is one line on stderr and its exit code."""
    try:
        app()
    except SonoError as error:
        sys.stderr.write(f"sono: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("sono: interrupted; the same command goes on where it stopped\n")
        sys.exit(130)
    except OSError as error:
        sys.stderr.write(f"sono: {error.strerror or error}{f': {error.filename}' if error.filename else ''}\n")
        sys.exit(1)
