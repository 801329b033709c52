"""`sono export dataset` and `sono card`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sono.curation.core.cli_options import (
    JsonOption,
    NoVaultOption,
    QuietOption,
    WorkspaceOption,
    show,
)

app = typer.Typer()
export = typer.Typer()


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


@app.command()
def card(
    out: Annotated[Path, typer.Argument(help="File for the card, in Markdown.")] = Path("CARD.md"),
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the data card of the study: counts, exclusions, origins, and what is not stated.

    Example: sono card CARD.md
    """
    from sono.annotation.release.export import write_card
    from sono.curation.core.workspace import Workspace

    show(write_card(Workspace.find(workspace), out, no_vault), as_json)
