"""Copies of a study that a test may change."""

import shutil
from pathlib import Path

from sono.curation.workspace import Workspace


def copy_study(study: Workspace, folder: Path) -> Workspace:
    """Tables, frames and vault of ``study`` in ``folder``; its runs and packed frames, which are large, stay behind."""
    shutil.copytree(study.root, folder / "study", ignore=shutil.ignore_patterns("runs", "packed"))
    shutil.copytree(study.vault, folder / "study.vault")
    return Workspace(folder / "study")
