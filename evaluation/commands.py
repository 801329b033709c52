"""The commands that score runs, compare and describe them, and use them on files."""

from pathlib import Path
from typing import Annotated

import typer

from sono.curation.core.cli_options import (
    EVALUATE,
    JobsOption,
    JsonOption,
    NoVaultOption,
    QuietOption,
    SchedulerOption,
    WorkspaceOption,
    show,
)
from sono.training.commands import EpochsOption, ModelOption, RecipeOption, SeedOption

app = typer.Typer()
model_app = typer.Typer()

RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run, by name or folder; NAME/end is its checkpoint `end`.",
        show_default="the newest",
    ),
]
OutputOption = Annotated[
    list[Path] | None,
    typer.Option("--output", help="Write the table as .html, .csv, .md or .tex. Repeatable."),
]


@app.command("eval", rich_help_panel=EVALUATE)
def evaluate(
    center: Annotated[
        str | None,
        typer.Option(help="Score all frames of this center.", show_default="the test split"),
    ] = None,
    run: RunOption = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Accept a center that was trained on.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Measure the prompts of this file, too: one per line with {{ plane }}."),
    ] = None,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a run, zero-shot, on the test split or an unseen center, and write a report.

    Example: sono eval --center B
    """
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.evaluate import EvaluationOptions
    from sono.evaluation.evaluate import evaluate as run_evaluation
    from sono.evaluation.selection import Target

    study = Workspace.find(workspace)
    options = EvaluationOptions(run, Target(center, allow_seen=allow_seen), prompts=prompts)
    result = run_evaluation(study, options, Engine.create(jobs, scheduler))
    show(result.as_dict() if as_json else result, as_json)


@app.command("leave-one-center-out", rich_help_panel=EVALUATE)
def leave_one_center_out(
    name: Annotated[
        str, typer.Option(help="The runs are called NAME-CENTER; finished ones are kept.")
    ] = "without",
    recipe: RecipeOption = None,
    model: ModelOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    output: OutputOption = None,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train one run per center without it, and score each on the center it has not seen.

    Interrupted, the same command continues.

    Example: sono leave-one-center-out --output centers.csv
    """
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.centers import CentersOptions
    from sono.evaluation.centers import leave_one_center_out as run_all

    given = {"model": model, "epochs": epochs, "seed": seed}
    options = CentersOptions(name, recipe, given, tuple(output or ()))
    result = run_all(Workspace.find(workspace), options, Engine.create(jobs, scheduler))
    show(result.as_dict() if as_json else result, as_json)


@app.command("probe", rich_help_panel=EVALUATE)
def probe(
    target: Annotated[
        str,
        typer.Argument(
            help=(
                "plane, region, laterality, presentation, center, machine, sector_kind, ga_days "
                "(age), masks or biometry."
            )
        ),
    ] = "plane",
    run: RunOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Weights of an image encoder in place of a run: a file, or imagenet."),
    ] = None,
    mask: Annotated[
        str, typer.Option(help="none: the whole frame. own: an accepted mask of each frame.")
    ] = "none",
    center: Annotated[
        str | None, typer.Option(help="Test on this center, fit on the others.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Test on every patient once, in so many folds.")
    ] = None,
    fine_tune: Annotated[
        bool,
        typer.Option("--fine-tune", help="Also train all weights of the encoder on the planes."),
    ] = False,
    with_: Annotated[
        Path | None,
        typer.Option("--with", help="For biometry: also the masks of this segmenter."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure what the frozen features of an image encoder contain, and write a report.

    Example: sono probe plane --folds 5
    """
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.probes.parts import Protocol
    from sono.evaluation.probes.probe import probe as run_probe
    from sono.evaluation.probes.study import ProbeOptions

    options = ProbeOptions(target, run, encoder, mask, Protocol(center, folds), fine_tune, with_)
    result = run_probe(Workspace.find(workspace), options)
    show(result.as_dict() if as_json else result, as_json)


@app.command("compare", rich_help_panel=EVALUATE)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Names or folders of evaluated runs.")],
    on: Annotated[
        str | None,
        typer.Option(help="Which evaluation, if they share several: a center, or test."),
    ] = None,
    mask: Annotated[
        str, typer.Option(help="Mask of the scores: a mode of docs/evaluation.md.")
    ] = "all_one",
    output: OutputOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare runs on the same frames with the first one, with paired intervals over patients.

    Example: sono compare runs/run-001 runs/run-002 --output table.tex
    """
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.comparison.compare import CompareOptions, compare_runs

    options = CompareOptions(tuple(runs), on, mask, tuple(output or ()))
    result = compare_runs(Workspace.find_or_none(workspace), options)
    show(result.as_dict() if as_json else result, as_json)


@app.command("predict", rich_help_panel=EVALUATE)
def predict(
    files: Annotated[list[Path], typer.Argument(help="Files and folders, as for sono qc.")],
    run: RunOption = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="For one file: a picture that is not black in the region to look at."),
    ] = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Outline a structure in each frame as its mask.")
    ] = False,
    text: Annotated[
        list[str] | None, typer.Option(help="Compare the frames with this text, too. Repeatable.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the frames, masks and answers into this PNG.")
    ] = None,
    map_: Annotated[
        Path | None,
        typer.Option("--map", help="Draw where the cosine with the first --text comes from (PNG)."),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Print the paths of the files: they may be private.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of planes for each file.")] = 3,
    workspace: WorkspaceOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict the plane of files with calibrated probabilities, and keep nothing of the files.

    Example: sono predict IM_0001.dcm --picture look.png
    """
    from sono.curation.core.engine import Engine
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.prediction.files import PredictOptions, predict_files

    options = PredictOptions(
        tuple(files), run, mask, propose, tuple(text or ()), picture, names, top, map_
    )
    study = Workspace.find_or_none(workspace)
    result = predict_files(study, options, Engine.create(jobs, scheduler))
    show(result.as_dict() if as_json else result, as_json)


@model_app.command("card")
def model_card(
    run: Annotated[
        str | None, typer.Argument(help="Name or folder of the run.", show_default="the newest")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the card of a run, README.md: model, training data, results, limits, open questions.

    Example: sono model card run-001
    """
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.model_card import write_model_card

    result = write_model_card(Workspace.find(workspace), run)
    step = "state the rest under [card] in sono.toml, and give the command again"
    show(result, as_json, next_step=step if result.not_stated else "")


@app.command("search", rich_help_panel=EVALUATE)
def search(
    text: Annotated[str | None, typer.Argument(help="What to find, in words.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Find frames similar to this picture; also with words.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Region of --image, as in sono predict: find masks similar to it."),
    ] = None,
    no_masks: Annotated[
        bool, typer.Option("--no-masks", help="Compare words with complete frames only.")
    ] = False,
    center: Annotated[str | None, typer.Option(help="Search the frames of this center.")] = None,
    run: RunOption = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Number of hits.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="The PNG of the hits.", show_default="search.png")
    ] = None,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the frames of a study nearest to words or a picture, and draw them.

    Example: sono search "a fetal femur"
    """
    from sono.curation.core.workspace import Workspace
    from sono.evaluation.search.search import SearchOptions
    from sono.evaluation.search.search import search as run_search

    options = SearchOptions(text, image, mask, not no_masks, center, run, top, out, no_vault)
    result = run_search(Workspace.find(workspace), options)
    show(result.as_dict() if as_json else result, as_json)
