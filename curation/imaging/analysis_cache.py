"""Measured rows in the vault: those of earlier runs that are still valid, and parts of this run.

A run saves its rows in parts, so that a killed run loses only seconds of work.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import sha256
from sono.curation.core.frame_files import is_whole, quarantined_path, stored_path
from sono.curation.core.tables import Row, from_rows, read_table, rows_of
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.readers.files import stamp_of
from sono.curation.records.earlier_runs import TRY_AGAIN, by_path


def known_rows(
    workspace: Workspace, settings_hash: str, sources: pd.DataFrame
) -> dict[bytes, list[Row]]:
    """Rows measured with the settings of `settings_hash` by earlier runs, by path.

    They come from the vault's table `sources` and from the parts of a killed run.
    """
    places, study = sorted(parts_folder(workspace).glob("*.parquet")), workspace.study().key_check
    known: dict[bytes, list[Row]] = {}
    for frame in (sources, *(read_table(place, SOURCES, study=study) for place in places)):
        known.update(by_path(rows_of(frame[frame["settings_hash"] == settings_hash])))
    return known


def is_unchanged(workspace: Workspace, rows: list[Row] | None, path: bytes) -> bool:
    """Whether the `rows` of the file at `path` are still valid; False where there are none.

    The file must have the same size and modification time, and its stored frames must be intact.
    """
    if not rows or not TRY_AGAIN.isdisjoint(code for row in rows for code in row["reasons"]):
        return False
    now = stamp_of(path)
    if now is None:
        return bool(pd.isna(rows[0]["file_size"]))
    if now != (rows[0]["file_size"], rows[0]["modified_ns"]):
        return False
    return all(_frame_exists(workspace, row) for row in rows if isinstance(row["file"], str))


def _frame_exists(workspace: Workspace, row: Row) -> bool:
    """Whether the stored frame of `row` exists and is complete."""
    places = (stored_path(workspace, row["file"]), quarantined_path(workspace, row["file"]))
    return any(is_whole(place, int(row["height"]), int(row["width"])) for place in places)


def save_part(workspace: Workspace, rows: list[Row], done: dict[bytes, list[Row]]) -> None:
    """Save measured rows as a part in the vault and add them to `done`, as read from a table."""
    if not rows:
        return
    name = sha256(b"".join(sorted(row["source_id"].encode() for row in rows)))[:16]
    part = from_rows(SOURCES, rows)
    workspace.write_vault(parts_folder(workspace) / f"{name}.parquet", SOURCES, part)
    for row in rows_of(part):
        done.setdefault(row["path"], []).append(row)


def save_sources(workspace: Workspace, rows: Sequence[Row], others: Sequence[Row]) -> None:
    """Write `rows` and the `others` of further files to the vault, and remove the parts."""
    for row in rows:
        row["reasons"] = list(dict.fromkeys(row["reasons"]))
        row["private"] = sorted(set(row["private"]))
        row["persons"] = None if row.get("persons") is None else sorted(set(row["persons"]))
    paths = {row["path"] for row in rows}
    sources = from_rows(SOURCES, [*rows, *(row for row in others if row["path"] not in paths)])
    workspace.write_vault(workspace.sources_path, SOURCES, sources)
    shutil.rmtree(parts_folder(workspace), ignore_errors=True)


def parts_folder(workspace: Workspace) -> Path:
    """The folder of the vault that holds the parts of an unfinished run."""
    return workspace.vault / "parts"
