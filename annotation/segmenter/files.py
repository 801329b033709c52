"""The file of a segmenter: weights as safetensors, and what they are as JSON in its header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sono.annotation.segmenter.model import Segmenter
from sono.annotation.weights.strict_load import load_strictly
from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.atomic import check_inside, check_target, remove_leftovers, write_bytes
from sono.curation.core.config import format_problem
from sono.curation.core.errors import SonoError, typed_name
from sono.curation.core.workspace import Workspace

FILE = "segmenter.safetensors"
KEY = "sono_segmenter"  # of the JSON in the header


class SegmenterInfo(BaseModel):
    """What a segmenter can find, and what it has seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    structures: list[str] = Field(min_length=1)
    image_size: int = Field(ge=64, le=1024, multiple_of=32)
    planes: dict[str, list[str]]  # structures of each plane in training
    image_ids_seen: list[str]  # of the train and val split
    held_out: list[str]
    settings: dict[str, Any]


def new_file(workspace: Workspace, name: str) -> Path:
    """The path for the segmenter `name`; raises SonoError if a run of this name exists."""
    if Path(name).name != name or name.startswith("."):
        raise SonoError(f"--name '{name[:80]}' is not a plain folder name; use letters and digits")
    folder = workspace.runs / typed_name("--name", name)
    check_inside(folder, workspace.runs)
    remove_leftovers(folder)  # of a run that was killed
    if folder.exists() and any(folder.iterdir()):
        raise SonoError(f"{folder}: a run of this name exists; give another --name")
    check_target(folder / FILE)
    return folder / FILE


def save_segmenter(path: Path, weights: Mapping[str, Tensor], info: SegmenterInfo) -> None:
    """Write weights and description in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: value.contiguous() for name, value in weights.items()}
    write_bytes(path, save(whole, {KEY: info.model_dump_json()}))


def load_segmenter(given: Path) -> tuple[Segmenter, SegmenterInfo, Path]:
    """A segmenter in evaluation mode from its file or the folder of its run.

    No code of the file is run. Raises SonoError if it is missing, damaged or no segmenter.
    """
    path = given / FILE if given.is_dir() else given
    info = _read_info(path)
    model = Segmenter(len(info.structures))
    load_strictly(model, read_weights(path), str(path))
    return model.eval(), info, path


def _read_info(path: Path) -> SegmenterInfo:
    advice = "give a run of `sono masks train`, e.g. --with runs/segmenter"
    if not path.is_file():
        raise SonoError(f"{path}: no such file; {advice}")
    try:
        with safe_open(str(path), "pt") as content:
            text = (content.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise SonoError(f"{path}: damaged or no safetensors file; {advice}") from error
    if text is None:
        raise SonoError(f"{path}: not a segmenter; {advice}")
    try:
        return SegmenterInfo.model_validate(json.loads(text))
    except (ValueError, ValidationError, RecursionError) as error:
        why = format_problem(error) if isinstance(error, ValidationError) else str(error)
        raise SonoError(f"{path}: its description is damaged ({why}); {advice}") from error
