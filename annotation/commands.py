"""`sono masks ...` and `sono captions ...`."""

from pathlib import Path
from typing import Annotated

import typer

from sono.curation.command_line import (
    JobsOption,
    JsonOption,
    NoVaultOption,
    QuietOption,
    SchedulerOption,
    StrictOption,
    WorkspaceOption,
    show,
)

masks = typer.Typer(no_args_is_help=True, help="Import, propose and export masks.")
captions = typer.Typer(no_args_is_help=True, help="Write captions from record fields.")


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
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all masks of the stored frames as COCO JSON.

    Example: sono masks export masks.coco.json
    """
    from sono.annotation.mask_export import export_coco
    from sono.curation.workspace import Workspace

    show(export_coco(Workspace.find(workspace), target, no_vault), as_json)


@masks.command()
def overlays(
    target: Annotated[Path, typer.Argument(help="Folder for the contact sheet.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames.")] = 24,
    no_vault: NoVaultOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw frames with their masks on one contact sheet to look at.

    Example: sono masks overlays look/
    """
    from sono.annotation.overlays import write_overlays
    from sono.curation.workspace import Workspace

    show({"sheet": str(write_overlays(Workspace.find(workspace), target, count, no_vault))}, as_json)


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
