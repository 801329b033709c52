"""`sono export dataset`, `sono import dataset` and `sono card`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sono.curation.core.cli_options import (
    ANNOTATE,
    JsonOption,
    NoVaultOption,
    QuietOption,
    WorkspaceOption,
    show,
)

app = typer.Typer()
export = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="Import a data set that somebody else exported.")


@export.command("dataset")
def export_to_dataset(
    out: Annotated[Path, typer.Argument(help="New folder for the data set.")],
    layout: Annotated[
        Literal["huggingface", "imagefolder", "webdataset", "coco", "open-clip", "sonoclip"],
        typer.Option("--format", help="Which tools load it: docs/dataset.md."),
    ] = "huggingface",
    proposed: Annotated[bool, typer.Option(help="Also masks that nobody has reviewed.")] = False,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write frames, captions, masks and splits as other tools load them, with a data card.

    Example: sono export dataset fetal-planes --format huggingface
    """
    from sono.annotation.release.export import export_dataset
    from sono.curation.core.workspace import Workspace

    show(export_dataset(Workspace.find(workspace), out, layout, proposed, no_vault), as_json)


@imports.command("dataset")
def import_of_dataset(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A data set of `sono export dataset`, or of COCO, open_clip or SonoCLIP."
        ),
    ],
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fill a new study with frames, masks, captions and splits that somebody else exported.

    Example: sono import dataset fetal-planes
    """
    from sono.annotation.release.import_dataset import import_dataset
    from sono.curation.core.workspace import Workspace

    show(import_dataset(Workspace.find(workspace), folder), as_json, next_step="sono stats")


@app.command(rich_help_panel=ANNOTATE)
def card(
    workspace: WorkspaceOption = None, as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Write the data card of the study, README.md: counts, exclusions, origins, what is not stated.

    Example: sono card
    """
    from sono.annotation.release.export import write_card
    from sono.curation.core.workspace import Workspace

    show(write_card(Workspace.find(workspace)), as_json)
