"""Studies whose vault holds what a test of the privacy gate needs."""

from pathlib import Path

from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace


def make_study(folder: Path, **source: object) -> Workspace:
    """A study with one accepted frame; `source` are columns of its row in the vault."""
    workspace = Workspace.create(folder)
    row: dict[str, object] = {
        "path": b"/raw/1.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
    }
    row |= {"frame": 0, "status": "accepted", "private": [], "persons": [], **source}
    sources = from_rows(SOURCES, [row])
    write_table(workspace.sources_path, sources, SOURCES)
    workspace.write(IMAGES, sources[IMAGES.columns])
    return workspace


def person(*names: str) -> dict[str, list[str]]:
    return {"private": list(names), "persons": list(names)}


def caption(study: Workspace, text: str) -> None:
    row = {
        "image_id": "i",
        "level": "global",
        "text": text,
        "template": "t",
        "tier": "label",
        "tokens": 9,
    }
    study.write(CAPTIONS, from_rows(CAPTIONS, [row]))
