"""`sono train` and `sono model`."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from sono.curation.core.cli_options import (
    EVALUATE,
    JsonOption,
    NoVaultOption,
    QuietOption,
    WorkspaceOption,
    show,
)
from sono.curation.core.errors import SonoError

app = typer.Typer()
export = typer.Typer()
model_app = typer.Typer(no_args_is_help=True, help="Import and export models, and describe a run.")


RecipeOption = Annotated[
    str | None,
    typer.Option(help="sono, sonoclip, echocare, ultrasound-clip, or FILE.toml; sono.toml wins."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="lite0 to lite2, nano, small, base, large, or any of open_clip.",
        show_default="recipe's",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training frames.", show_default="recipe's"),
]
SeedOption = Annotated[
    int | None, typer.Option(help="Random seed of the training.", show_default="recipe's")
]


@app.command(rich_help_panel=EVALUATE)
def train(
    name: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="run-001, run-002, ...")
    ] = None,
    recipe: RecipeOption = None,
    repeat: Annotated[
        str | None,
        typer.Option(
            "--from", help="Repeat this run (NAME or runs/NAME), by the settings in its record."
        ),
    ] = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="A center to keep for evaluation; repeat.")
    ] = None,
    model: ModelOption = None,
    init: Annotated[
        str | None, typer.Option(help="A run to start from, by name or folder.")
    ] = None,
    trainable: Annotated[
        str | None, typer.Option(help="heads, last:N, vision or all.", show_default="recipe's")
    ] = None,
    epochs: EpochsOption = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Pairs per step.")] = None,
    seed: SeedOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run named by --name.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a compact mask-channel CLIP on the train split.

    Options override sono.toml, and sono.toml overrides the recipe.

    Example: sono train --hold-out B

    On several processes: torchrun --nproc-per-node 2 -m sono train
    """
    from sono.curation.core.workspace import Workspace
    from sono.training.runs.run_info import settings_of_run
    from sono.training.runtime.distributed import is_main_process
    from sono.training.train import train as run_training

    if resume and name is None:
        raise SonoError("--resume continues one run; name it with --name")
    if resume and repeat is not None:
        raise SonoError("--resume continues the run of --name; leave --from out")
    if init is not None and model is not None:
        raise SonoError(f"run '{init}' brings its own towers; leave --model out")
    study = Workspace.find(workspace)
    if resume and name is not None:
        name = study.run_name(name)
    given = {
        "model": model,
        "init": init,
        "trainable": trainable,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "hold_out": hold_out or None,
    }
    config = settings_of_run(study, (name if resume else repeat), recipe, given, resume)
    summary = run_training(study, config, name, resume)
    if is_main_process():
        centers = [f" --center {shlex.quote(center)}" for center in config.hold_out] or [""]
        steps = [f"sono eval --run {shlex.quote(summary.run)}{center}" for center in centers]
        show(summary, as_json, next_step=steps)


@export.command("shards")
def export_to_shards(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which frames.")] = "train",
    pairs: Annotated[int, typer.Option(min=1, help="Frames per shard.")] = 1024,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe of the later run; sono.toml wins.")
    ] = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="A center to leave out; repeat.")
    ] = None,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write captioned frames of a split as tar files that `sono train` reads as a stream.

    The frames have the size that the model expects.

    Example: sono export shards ../shards --hold-out B
    """
    from sono.curation.core.workspace import Workspace
    from sono.training.config import training_config
    from sono.training.export_shards import export_shards

    study = Workspace.find(workspace)
    config = training_config(study, recipe, {"hold_out": hold_out or None})
    summary = export_shards(study, out, config, split, pairs, no_vault)
    step = (
        "set shards to this folder under [training] in sono.toml, then sono train"
        if split == "train"
        else ""
    )
    show(summary, as_json, next_step=step)


@model_app.command("import")
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="Weights: .pt, .pth, .bin or .safetensors.")],
    base: Annotated[
        Path | None,
        typer.Option(help="The CLIP file with the text tower, for a vision tower only."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="open_clip name or JSON file.", show_default="inferred for OpenAI's CLIP"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="that of the file")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Import SonoCLIP, Alpha-CLIP, OpenAI CLIP or any open_clip weights as a run.

    No code of the file is run.

    Example: sono model import sonoclip_vision.pth --base ViT-L-14-336px.pt
    """
    from sono.curation.core.workspace import Workspace
    from sono.training.interop.model_runs import import_model

    summary = import_model(Workspace.find(workspace), checkpoint, base, architecture, name)
    named = shlex.quote(summary.run)
    show(
        summary,
        as_json,
        next_step=(f"sono eval --run {named}", f"sono train --init {named}"),
    )


@model_app.command("export")
def export_run(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    run: Annotated[
        str | None, typer.Option(help="Name or folder of the run.", show_default="the newest")
    ] = None,
    to: Annotated[
        Literal["sonoclip", "onnx"], typer.Option("--format", help="What to write.")
    ] = "onnx",
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the model of a run as ONNX graphs or as the published SonoCLIP pair.

    Example: sono model export out --run run-001 --format onnx
    """
    from sono.curation.core.workspace import Workspace
    from sono.training.interop.model_runs import export_model
    from sono.training.model.checkpoints import find_run

    study = Workspace.find(workspace)
    show(export_model(study, find_run(study, run), out, to, no_vault), as_json)
