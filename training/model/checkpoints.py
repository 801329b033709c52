"""Checkpoints: weights as safetensors, configuration as JSON, and what the run has seen.

Nothing is unpickled.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sono.curation.core.atomic import (
    atomic_path,
    check_inside,
    check_regular,
    lock_file,
    open_lock,
    read_json,
    write_text,
)
from sono.curation.core.errors import SonoError, did_you_mean, typed_name
from sono.curation.core.workspace import Workspace
from sono.training.model.architectures import ModelConfig, settings_of
from sono.training.model.lora import adapter_state, load_adapters, merged_state
from sono.training.model.mask_clip import MaskClip
from sono.training.model.published import load_published
from sono.training.model.text_towers import save_text
from sono.training.model.weight_files import DAMAGED, short
from sono.training.runtime.sharding import finite, load_whole

WEIGHTS, MODEL, RUN, STATE = "model.safetensors", "model.json", "run.json", "optimizer.pt"
# where there are some: LoRA apart, the configuration of a BERT
ADAPTERS, TEXT = "lora.safetensors", "text"
SUMMARY = "summary.json"  # what a run that has ended told
FAILED = "failed.json"  # the batch at which a run that had to stop stopped
BEST, END, LAST = "best", "end", "last"
BEGUN = (RUN, "log.csv", "tensorboard")  # what a run has written before its first checkpoint
TEXT_NAMES = ("text_tower", "hf_model_name", "hf_tokenizer_name")
FOLDERS = (BEST, END, LAST)  # which checkpoint of a run is loaded, the first that exists


@dataclass(frozen=True)
class RunInfo:
    """What a run was given and what it saw: an evaluation refuses what the model knows already."""

    name: str
    template: str
    centers_seen: tuple[str, ...]
    held_out: tuple[str, ...]
    patients_seen: frozenset[str]
    image_ids_seen: frozenset[str]
    planes_seen: dict[str, int]
    data_hash: str
    config: dict[str, Any]
    environment: dict[str, str]
    key_check: str = ""  # of the key that made the patients' pseudonyms; "" where nobody was seen
    # kind of the published checkpoint it began with: what that one has seen is not known
    origin: str = ""
    # frames used, and what they follow instead
    without_patient: dict[str, int] = field(default_factory=dict)
    # frames of train and val that held-out centers cost, by why
    left_out: dict[str, int] = field(default_factory=dict)


def save_model(
    folder: Path, model: MaskClip, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights and architecture; the small file comes last, so a folder with it is whole.

    `weights` are the model's, where it has a share of them alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_text(model.towers.text, model.tokenizer, folder / TEXT)
    merged = merged_state(model, weights)
    _write_tensors(
        folder / WEIGHTS,
        {name: tensor.detach().cpu().contiguous() for name, tensor in merged.items()},
    )
    adapters = {name: tensor.cpu().contiguous() for name, tensor in adapter_state(model).items()}
    if adapters:
        _write_tensors(folder / ADAPTERS, adapters)
    write_text(folder / MODEL, json.dumps(_portable(model), indent=1))


def _portable(model: MaskClip) -> dict[str, Any]:
    """The configuration with scale and bias as learned, and without the place of a text tower,
    which is kept here.
    """
    config = model.config
    text = None if config.text_tower is None else Path(config.text_tower).name
    scalars = {"logit_scale": model.logit_scale.item(), "logit_bias": model.logit_bias.item()}
    return config.model_dump() | {"text_tower": text} | scalars


def restore(folder: Path, model: MaskClip) -> None:
    """Load a checkpoint into a model of the same making, with its adapters where it has some.

    SonoError if not so.
    """
    if adapter_state(model):
        try:
            load_adapters(model, finite(load_file(own_file(folder, ADAPTERS))))
        except (OSError, SafetensorError, ValueError) as error:
            raise SonoError(
                f"{folder / ADAPTERS}: missing or damaged ({short(error)}); train again"
            ) from error
    else:
        try:
            load_whole(model, load_weights(folder).state_dict())
        except RuntimeError as error:
            raise SonoError(
                f"{folder}: of another model than '{model.config.name}' ({short(error)})"
            ) from error


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    except SafetensorError as error:
        raise SonoError(
            f"{path}: could not be written ({short(error)}); make room, then the same again (a "
            f"run: --resume)"
        ) from error


def load_weights(folder: Path) -> MaskClip:
    """Build the model of a checkpoint folder and load its weights strictly.

    SonoError if it is not one.
    """
    try:
        config = ModelConfig.model_validate(read_json(own_file(folder, MODEL)))
        weights = finite(load_file(own_file(folder, WEIGHTS)))
    except FileNotFoundError as error:
        missing = WEIGHTS if (folder / MODEL).exists() else MODEL
        raise SonoError(
            f"{folder}: not a checkpoint ({missing} is missing); give a folder below runs/"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise SonoError(
            f"{folder}: not a checkpoint of sono, or damaged ({short(error)}); train again"
        ) from error
    _refuse_places(folder, config)
    try:
        model = MaskClip(config, folder / TEXT)
        model.load_state_dict(weights)
    except SonoError:
        raise
    # of sizes that fit no model open_clip and timm raise any
    except (*DAMAGED, ArithmeticError, MemoryError) as error:
        raise SonoError(
            f"{folder}: the weights do not fit model '{config.name}' ({short(error)})"
        ) from error
    return model.eval()


def _refuse_places(folder: Path, config: ModelConfig) -> None:
    """SonoError where a checkpoint asks for files outside of it.

    By a path, an address or a link.
    """
    kept = (folder / TEXT).is_dir()
    for path in (folder / TEXT).rglob("*"):
        own_file(folder, str(path.relative_to(folder)))
    for name, value in settings_of(
        {**(config.architecture or {}), "text_tower": config.text_tower}
    ):
        place = isinstance(value, str) and (":" in value or value.startswith(("/", ".", "~")))
        if place and not (kept and name in TEXT_NAMES):  # those are replaced by what is kept here
            raise SonoError(
                f"{folder / MODEL}: {name} is a path or an address ({value}); a checkpoint holds "
                f"its own files"
            )


def own_file(folder: Path, name: str) -> Path:
    """The file or folder `name` of a checkpoint or run.

    SonoError where it is a pipe, or a link out of `folder`.
    """
    path = folder / name
    check_inside(path, folder)
    check_regular(path)
    return path


def load_sonoclip(base: str | os.PathLike[str], vision: str | os.PathLike[str]) -> MaskClip:
    """The published SonoCLIP pair (or Alpha-CLIP's): the CLIP file with the text tower, and the
    vision file.

    `encode_image(image, mask)` takes gray or RGB frames in [0, 1] and masks in {0, 1},
    `encode_text(tokens)` what `tokenize` gives. SonoError names keys that are missing or left over.
    """
    model, _ = load_published(Path(vision), Path(base))
    return model


def run_folder(runs: Path, name: str, resume: bool = False) -> Path:
    """The folder of the run `name` below `runs`.

    SonoError unless it is there to resume, or free to begin.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise SonoError(
            f"run name '{name}' is not a plain folder name; use letters, digits and dashes"
        )
    folder = runs / (name if resume else typed_name("--name", name))
    exists = (folder / RUN).exists()
    if exists and not resume and is_used(folder):
        raise SonoError(
            f"{folder}: there is a run of this name; give another --name, or go on with it by "
            f"--resume"
        )
    if resume and not exists:
        raise SonoError(f"{folder}: no run of this name to resume; run without --resume")
    return folder


def is_used(folder: Path) -> bool:
    """Whether something is at a run's place, but for what a run leaves that was killed before
    it saved anything.
    """
    return folder.exists() and (
        not folder.is_dir() or any(path.name not in BEGUN for path in folder.glob("[!.]*"))
    )


def find_run(workspace: Workspace, given: str | None) -> Path:
    """The folder of the run `given` (see `Workspace.run_name`), or of the newest run.

    SonoError where there is none.
    """
    known = {
        record.parent.name: record.stat().st_mtime for record in workspace.runs.glob(f"*/{RUN}")
    }
    if not known:
        raise SonoError(f"{workspace.runs}: no run yet; train one with `sono train`")
    if given is None:
        return workspace.runs / max(known, key=lambda run: (known[run], run))
    name = workspace.run_name(given)
    folder = Path(os.path.normpath(workspace.runs / name))  # a run may be a link to elsewhere
    if (
        folder == workspace.runs
        or not folder.is_relative_to(workspace.runs)
        or name.split("/")[0] not in known
    ):
        raise SonoError(f"{workspace.runs}: no run '{name}'{did_you_mean(name, known)}")
    return folder


@contextmanager
def own_run(folder: Path, resume: bool) -> Iterator[None]:
    """Keep other processes from beginning or resuming the run in `folder` meanwhile.

    SonoError where one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / ".lock") as file:
        lock_file(
            file,
            f"{folder}: another sono is at this run; wait for it to end, or give another --name",
        )
        run_folder(folder.parent, folder.name, resume)  # another may have been quicker
        yield


def chosen_checkpoint(folder: Path) -> Path:
    """Of a run, its best checkpoint, or that of its end, or the last one.

    Any other folder as it is.
    """
    return next((folder / name for name in FOLDERS if (folder / name / MODEL).exists()), folder)


def load_model(folder: Path) -> tuple[MaskClip, RunInfo]:
    """The model and the record of a run, from runs/NAME (its best checkpoint) or
    runs/NAME/{best,end,last}.
    """
    if not folder.is_dir():
        raise SonoError(f"{folder}: no such run; train one with `sono train`")
    inner = chosen_checkpoint(folder)
    check_inside(inner, folder)
    info = read_run(inner.parent if inner != folder or folder.name in FOLDERS else folder)
    return load_weights(inner), info


def write_run(folder: Path, info: RunInfo) -> None:
    """Write the record of a run."""
    values = asdict(info)
    for name in ("patients_seen", "image_ids_seen"):
        values[name] = sorted(values[name])
    write_text(folder / RUN, json.dumps(values, indent=1))


def read_run(folder: Path) -> RunInfo:
    """Read the record of a run; SonoError if it is missing or damaged."""
    path = folder / RUN
    try:
        return TypeAdapter(RunInfo).validate_python(read_json(own_file(folder, RUN)))
    except FileNotFoundError as error:
        raise SonoError(
            f"{folder}: not a run ({RUN} is missing); train one with `sono train`"
        ) from error
    except (OSError, ValueError) as error:
        raise SonoError(f"{path}: damaged ({short(error)}); train again") from error
