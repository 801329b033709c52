"""Checkpoints: weights as safetensors, configuration as JSON, and the record of the run.

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

from sono.annotation.weights.weight_files import DAMAGED, short
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
from sono.training.runtime.sharding import finite, load_whole

WEIGHTS, MODEL, RUN, STATE = "model.safetensors", "model.json", "run.json", "optimizer.pt"
# optional: the adapters, the configuration of a BERT
ADAPTERS, TEXT = "lora.safetensors", "text"
SUMMARY = "summary.json"  # of a finished run
CALIBRATION = "calibration.json"  # of a checkpoint folder, so that a new checkpoint removes it
FAILED = "failed.json"  # the batch at which a run failed
BEST, END, LAST = "best", "end", "last"
BEGUN = (RUN, "log.csv", "tensorboard")  # what a run writes before its first checkpoint
TEXT_NAMES = ("text_tower", "hf_model_name", "hf_tokenizer_name")
FOLDERS = (BEST, END, LAST)  # which checkpoint of a run is loaded, the first that exists


@dataclass(frozen=True)
class RunInfo:
    """The record of a run: its settings, and what it has seen, which an evaluation excludes."""

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
    # kind of the published checkpoint it started from, whose training data are unknown
    origin: str = ""
    # frames used, by what identifies them instead
    without_patient: dict[str, int] = field(default_factory=dict)
    # frames of train and val lost to held-out centers, by reason
    left_out: dict[str, int] = field(default_factory=dict)


def save_model(
    folder: Path, model: MaskClip, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights and architecture; the small file is last, so a folder with it is complete.

    `weights` are those of the model if it is sharded.
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
    """The configuration with the learned scale and bias, without the path of a text tower."""
    config = model.config
    text = None if config.text_tower is None else Path(config.text_tower).name
    scalars = {"logit_scale": model.logit_scale.item(), "logit_bias": model.logit_bias.item()}
    return config.model_dump() | {"text_tower": text} | scalars


def restore(folder: Path, model: MaskClip) -> None:
    """Load a checkpoint into a model of the same architecture, with its adapters if it has some.

    Raises SonoError if it does not fit.
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
                f"{folder}: not a checkpoint of model '{model.config.name}' ({short(error)})"
            ) from error


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    except SafetensorError as error:
        raise SonoError(
            f"{path}: could not be written ({short(error)}); make room, then run it "
            "again (for a run: --resume)"
        ) from error


def load_weights(folder: Path) -> MaskClip:
    """Build the model of a checkpoint folder and load its weights strictly.

    Raises SonoError if it is not a checkpoint.
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
    # for sizes that fit no model open_clip and timm raise any of these
    except (*DAMAGED, ArithmeticError, MemoryError) as error:
        raise SonoError(
            f"{folder}: the weights do not fit model '{config.name}' ({short(error)})"
        ) from error
    return model.eval()


def _refuse_places(folder: Path, config: ModelConfig) -> None:
    """Raise SonoError if a checkpoint refers to outside files by a path, an address or a link."""
    kept = (folder / TEXT).is_dir()
    for path in (folder / TEXT).rglob("*"):
        own_file(folder, str(path.relative_to(folder)))
    for name, value in settings_of(
        {**(config.architecture or {}), "text_tower": config.text_tower}
    ):
        place = isinstance(value, str) and (":" in value or value.startswith(("/", ".", "~")))
        if place and not (kept and name in TEXT_NAMES):  # those are replaced by what is kept here
            raise SonoError(
                f"{folder / MODEL}: {name} is a path or an address ({value}); a checkpoint must "
                "contain its own files"
            )


def own_file(folder: Path, name: str) -> Path:
    """The file or folder `name` of a checkpoint or run.

    Raises SonoError for a pipe, or a link out of `folder`.
    """
    path = folder / name
    check_inside(path, folder)
    check_regular(path)
    return path


def load_sonoclip(base: str | os.PathLike[str], vision: str | os.PathLike[str]) -> MaskClip:
    """The published SonoCLIP pair (or Alpha-CLIP's): `base` has the text tower.

    `encode_image(image, mask)` takes gray or RGB frames in [0, 1] and masks in {0, 1},
    `encode_text(tokens)` the result of `tokenize`. Raises SonoError for keys that are missing or
    left over.
    """
    model, _ = load_published(Path(vision), Path(base))
    return model


def run_folder(runs: Path, name: str, resume: bool = False) -> Path:
    """The folder of the run `name` below `runs`.

    Raises SonoError unless it exists (to resume) or is free (for a new run).
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise SonoError(
            f"run name '{name}' is not a plain folder name; use letters, digits and dashes"
        )
    folder = runs / (name if resume else typed_name("--name", name))
    exists = (folder / RUN).exists()
    if exists and not resume and is_used(folder):
        raise SonoError(
            f"{folder}: a run of this name exists; give another --name, or continue it with "
            "--resume"
        )
    if resume and not exists:
        raise SonoError(f"{folder}: no run of this name to resume; run without --resume")
    return folder


def is_used(folder: Path) -> bool:
    """Whether a run's folder is in use, ignoring runs killed before their first save."""
    return folder.exists() and (
        not folder.is_dir() or any(path.name not in BEGUN for path in folder.glob("[!.]*"))
    )


def find_run(workspace: Workspace, given: str | None) -> Path:
    """The folder of the run `given` (see `Workspace.run_name`), or of the newest run.

    Raises SonoError if there is none.
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
    """Keep other processes from starting or resuming the run in `folder` meanwhile.

    Raises SonoError if another one is using it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / ".lock") as file:
        lock_file(
            file,
            f"{folder}: another sono is using this run; wait for it to end, or give another --name",
        )
        run_folder(folder.parent, folder.name, resume)  # another process may have been faster
        yield


def chosen_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a run, else that of its end, else the last one.

    Any other folder is returned as it is.
    """
    return next((folder / name for name in FOLDERS if (folder / name / MODEL).exists()), folder)


def load_model(folder: Path) -> tuple[MaskClip, RunInfo]:
    """The model and the record of a run.

    `folder` is runs/NAME (its best checkpoint) or runs/NAME/{best,end,last}.
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
    """The record of a run; raises SonoError if it is missing or damaged."""
    path = folder / RUN
    try:
        return TypeAdapter(RunInfo).validate_python(read_json(own_file(folder, RUN)))
    except FileNotFoundError as error:
        raise SonoError(
            f"{folder}: not a run ({RUN} is missing); train one with `sono train`"
        ) from error
    except (OSError, ValueError) as error:
        raise SonoError(f"{path}: damaged ({short(error)}); train again") from error
