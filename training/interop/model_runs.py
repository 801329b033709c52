"""Import third-party models as runs, and export runs in other formats."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sono import __version__
from sono.annotation.captions import CaptionConfig
from sono.curation.core.atomic import file_sha256, read_regular, write_bytes
from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_folder, check_privacy
from sono.templates.loader import load_templates
from sono.training.interop.export_onnx import export_onnx
from sono.training.interop.export_sonoclip import export_sonoclip
from sono.training.interop.onnx_folder import write_planes
from sono.training.model.checkpoints import (
    CALIBRATION,
    RunInfo,
    chosen_checkpoint,
    load_model,
    own_run,
    run_folder,
    save_model,
    write_run,
)
from sono.training.model.published import load_published


@dataclass(frozen=True)
class ImportSummary:
    """The imported model and its run."""

    run: str
    folder: Path
    kind: str
    image_size: int
    context_length: int
    vision_parameters: int
    text_parameters: int


@dataclass(frozen=True)
class ExportSummary:
    """The files that were written."""

    run: str
    format: str
    files: tuple[Path, ...]
    private_strings: int


def import_model(
    workspace: Workspace,
    checkpoint: Path,
    base: Path | None,
    architecture: str | None,
    name: str | None,
) -> ImportSummary:
    """Import a published checkpoint as runs/NAME.

    The run can be used by `sono eval --run NAME` and `sono train --init NAME`.
    """
    name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", checkpoint.stem).strip("-") or "imported"
    folder = run_folder(workspace.runs, name)
    model, kind = load_published(checkpoint, base, architecture)
    files = [checkpoint] if base is None else [checkpoint, base]
    with own_run(folder, resume=False):
        save_model(folder / "end", model)
        write_run(
            folder,
            RunInfo(
                name=name,
                template=workspace.settings("captions", CaptionConfig).template,
                centers_seen=(),
                held_out=(),
                patients_seen=frozenset(),
                image_ids_seen=frozenset(),
                planes_seen={},
                data_hash="",
                config={"imported": kind, "sha256": [file_sha256(file) for file in files]},
                environment={"sono": __version__, "torch": torch.__version__},
                origin=kind,
            ),
        )
    check_privacy(workspace)
    towers = model.towers
    sizes = [
        sum(weight.numel() for weight in tower.parameters())
        for tower in (towers.visual, towers.text)
    ]
    return ImportSummary(name, folder, kind, model.image_size, model.context_length, *sizes)


def export_model(
    workspace: Workspace,
    folder: Path,
    out: Path,
    to: Literal["sonoclip", "onnx"],
    no_vault: bool = False,
) -> ExportSummary:
    """Write the model of the run in `folder` to the new folder `out`.

    Raises PrivacyError if something private is found in it, SonoError if private text cannot be
    searched for, unless `no_vault`.
    """
    workspace.require_vault(no_vault)
    workspace.check_new_folder(out)
    model, info = load_model(folder)
    with new_folder(out) as new:
        if to == "onnx":
            planes, templates = workspace.planes().planes, load_templates(info.template)
            files = export_onnx(model, new) + write_planes(model, planes, templates, new)
            files += _copy_calibration(folder, new)
        else:
            files = export_sonoclip(model, new)
        searched = check_folder(workspace, new)
    return ExportSummary(info.name, to, tuple(out / file.name for file in files), searched)


def _copy_calibration(folder: Path, out: Path) -> tuple[Path, ...]:
    """Copy the temperature of the probabilities, if `sono eval` has fitted one."""
    file = chosen_checkpoint(folder) / CALIBRATION
    if not file.exists():
        return ()
    write_bytes(out / CALIBRATION, read_regular(file))
    return (out / CALIBRATION,)
