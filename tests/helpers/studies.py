"""Copies of a study that a test may change."""

import shutil
from pathlib import Path

from sono.curation.core.tables import IMAGES, from_rows, rows_of, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace


def copy_study(study: Workspace, folder: Path) -> Workspace:
    """Copy tables, frames and vault of `study` to `folder`.

    Runs and packed frames are not copied, because they are large.
    """
    shutil.copytree(study.root, folder / "study", ignore=shutil.ignore_patterns("runs", "packed"))
    shutil.copytree(study.vault, folder / "study.vault")
    return Workspace(folder / "study")


def fill_vault(study: Workspace) -> None:
    """Add the files of an images table that a test has written by hand to the vault.

    They contain nothing private.
    """
    source = {"path": b"/x/1", "root": b"/x", "settings_hash": "", "private": [], "persons": []}
    rows = [row | source for row in rows_of(study.read(IMAGES))]
    write_table(study.sources_path, from_rows(SOURCES, rows), SOURCES, mode=0o600)
