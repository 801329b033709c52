"""The environment of a run: versions, machine and source state, without paths or host names."""

import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import open_clip
import timm
import torch

import sono
from sono.training.config import TrainingConfig
from sono.training.model.architectures import ModelConfig
from sono.training.runtime.distributed import get_world_size
from sono.training.step import precision_of

CPU_INFO = Path("/proc/cpuinfo")
_TRADE = re.compile(r"\((?:R|TM|C)\)|\b(?:CPU|Processor)\b|@.*", re.IGNORECASE)


def environment(config: TrainingConfig, model: ModelConfig) -> dict[str, str]:
    """Versions, the machine, its use by the run, and the state of the source code."""
    return {
        **_versions_and_machine(),
        "processes": str(get_world_size()),
        "precision": str(precision_of(config, model)).removeprefix("torch."),
        **_git_state(Path(sono.__file__).parent),
    }


def differences(recorded: Mapping[str, str]) -> str:
    """Versions and machine that differ from a record; "" for none.

    An example is "torch 2.14.0 (here 2.15.0), ...". What an older record lacks is left out.
    """
    here = _versions_and_machine()
    other = [name for name in here if recorded.get(name, here[name]) != here[name]]
    return ", ".join(f"{name} {recorded[name]} (here {here[name]})" for name in other)


def _versions_and_machine() -> dict[str, str]:
    values = {
        "sono": sono.__version__,
        "torch": torch.__version__,
        "open_clip_torch": open_clip.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "cpu": _cpu_name(),
        "threads": str(torch.get_num_threads()),
    }
    return {name: str(value) for name, value in values.items() if value}


def _cpu_name() -> str:
    """A name such as "Intel Xeon Gold 6248R"; "" if it is unknown."""
    try:
        found = re.search(
            r"^model name\s*:(.*)$",
            CPU_INFO.read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
    except OSError:
        found = None
    return " ".join(_TRADE.sub(" ", found[1] if found else platform.processor()).split())


def _git_state(source: Path) -> dict[str, str]:
    """The commit of `source` and the number of changed files; {} if it is not a repository."""
    if not (source / ".git").exists():
        return {}
    try:
        commit, changes = [
            subprocess.run(
                ["git", "-C", source, *words],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError):  # no git here, or a repository it does not trust
        return {}
    return {"commit": commit.strip(), "changed_files": str(len(changes.splitlines()))}
