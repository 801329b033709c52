"""The record of a run: what it was given and where, so that it can be told and repeated."""

import hashlib
import platform
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import sono
from sono.curation.config import override
from sono.curation.console import talk
from sono.curation.errors import SonoError
from sono.curation.workspace import Workspace
from sono.training.checkpoints import RunInfo, read_run
from sono.training.config import TrainingConfig
from sono.training.distributed import is_first, process_count
from sono.training.material import Material
from sono.training.recipe import training_config
from sono.training.start import carried
from sono.training.step import precision_of


def run_info(workspace: Workspace, material: Material, config: TrainingConfig, name: str) -> RunInfo:
    """The record of a new run, which also knows what the run it begins with has seen."""
    images = material.images
    used = images[images["split"].isin(["train", "val"])]
    planes = Counter(images.loc[images["split"] == "train", "plane"].dropna())
    info = RunInfo(
        name=name,
        template=material.template,
        centers_seen=tuple(sorted(used["center"].dropna().unique())),
        held_out=config.hold_out,
        patients_seen=frozenset(used["patient_id"].dropna()),
        image_ids_seen=frozenset(used["image_id"]),
        planes_seen=dict(sorted(planes.items())),
        data_hash=data_hash(workspace),
        config=config.record(),
        environment=_environment(config),
    )
    return carried(info, material.start.info)


def data_hash(workspace: Workspace) -> str:
    """16 hexadecimal digits over the three tables' bytes."""
    tables = sorted(workspace.root.glob("*.parquet"))
    return hashlib.sha256(b"".join(table.read_bytes() for table in tables)).hexdigest()[:16]


def settings_of_run(
    workspace: Workspace, recorded: str | None, recipe: str | None, options: dict[str, Any]
) -> TrainingConfig:
    """The settings of the run `recorded`, or those of a new one; the options that are not None win."""
    if recorded is None:
        return training_config(workspace, recipe, options)
    if recipe is not None:
        raise SonoError(f"run '{recorded}' has its own settings; leave --recipe out")
    return override(recorded_config(workspace, recorded), **options)


def recorded_config(workspace: Workspace, name: str) -> TrainingConfig:
    """The settings of the run `name`; a remark where the data are no longer those that it saw."""
    folder = workspace.runs / name
    info = read_run(folder)
    if "imported" in info.config:
        raise SonoError(f"{folder}: imported, not trained; `sono train --init {name}` begins with it")
    if info.data_hash != data_hash(workspace) and is_first():
        talk.print(f"{name}: images, masks or captions have changed since it began, so its weights will not come again")
    config = TrainingConfig.model_validate(info.config)
    tower = workspace.settings("training", TrainingConfig).text_tower
    if tower is not None and Path(tower).name == config.text_tower:  # the record keeps no place
        return config.model_copy(update={"text_tower": tower})
    return config


def next_run_name(workspace: Workspace) -> str:
    """run-001, run-002, ...: the first that is free."""
    taken = {path.name for path in workspace.runs.glob("run-*")}
    return next(name for number in range(1, 10_000) if (name := f"run-{number:03d}") not in taken)


def _environment(config: TrainingConfig) -> dict[str, str]:
    """Versions, the device, and the state of the source that is run."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "sono": sono.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "processes": str(process_count()),
        "precision": str(precision_of(config)).removeprefix("torch."),
        **_git_state(Path(sono.__file__).parent),
    }


def _git_state(source: Path) -> dict[str, str]:
    """The commit of `source` and how many of its files differ from it; nothing where it is no repository of its own."""
    if not (source / ".git").exists():
        return {}
    try:
        told = [
            subprocess.run(["git", "-C", source, *words], capture_output=True, text=True, check=True, timeout=10).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError):  # no git here, or a repository it does not trust
        return {}
    return {"commit": told[0].strip(), "changed_files": str(len(told[1].splitlines()))}
