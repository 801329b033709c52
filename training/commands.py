"""`sono train`."""

from typing import Annotated

import typer

from sono.curation.command_line import JsonOption, QuietOption, WorkspaceOption, show

app = typer.Typer()


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
