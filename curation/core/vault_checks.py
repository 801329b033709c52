"""Check that the images table and the vault describe the same files, frames and patients."""

from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError, counted
from sono.curation.core.table_batches import read_batches
from sono.curation.core.tables import IMAGES
from sono.curation.core.vault_tables import SOURCES

if TYPE_CHECKING:
    from sono.curation.core.workspace import Workspace

# pseudonyms, which the vault keeps, too
IDENTITY = ("patient_id", "patient_group", "study_id", "exam_id")
# where the stored frame lies in its file: masks are cut by these columns
_SIDES = ("height", "width", "source_height", "source_width")
GEOMETRY = (*_SIDES, "crop_x0", "crop_y0", "crop_x1", "crop_y1")
_KEY = ["source_id", "frame"]
_CHECKED = (*_KEY, "image_id", *IDENTITY, *GEOMETRY)

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Values that change when a file changes."""
    now = path.stat()
    return now.st_ino, now.st_size, now.st_mtime_ns


@lru_cache(maxsize=1)
def count_unknown(workspace: "Workspace", *stamps: Stamp) -> int:
    """The number of files in the images table that the vault does not know.

    A command asks up to three times; the tables are read once.
    """
    known = workspace.sources(["source_id"])["source_id"]
    used = workspace.read(IMAGES, ["source_id"])["source_id"].drop_duplicates()
    return int(pc.sum(pc.invert(pc.is_in(pa.array(used), pa.array(known)))).as_py() or 0)


@lru_cache(maxsize=1)
def check_identities(workspace: "Workspace", *stamps: Stamp) -> None:
    """Run `check_rows_of_vault` on a workspace, once for each state of the two tables.

    Tables with the same files in the same order, as `sono qc` writes them, are compared in batches.
    """
    path, vault, mark = workspace.path(IMAGES), workspace.sources_path, workspace.study().key_check
    checked = [*_CHECKED, "raw_patient"]
    pairs = zip_longest(
        read_batches(path, IMAGES, _CHECKED, mark), read_batches(vault, SOURCES, checked, mark)
    )
    for images, sources in pairs:
        if images is None or sources is None or not images[_KEY].equals(sources[_KEY]):
            both = workspace.read(IMAGES, _CHECKED), workspace.sources(checked)
            check_rows_of_vault(*both, path, vault)
            return
        check_rows_of_vault(images, sources, path, vault)


def check_rows_of_vault(
    images: pd.DataFrame, sources: pd.DataFrame, path: Path, vault: Path
) -> None:
    """Raise SonoError if `images` lacks a row of `sources`, or has another id, pseudonym or crop.

    Values that the vault does not know, or knows from a version that kept no pseudonyms, are not
    compared.
    """
    advice = "changed by hand or older than the vault; put the table back, or run `sono qc` again"
    there = np.ones(len(images), np.bool_)
    if not images[_KEY].equals(sources[_KEY]):
        places, known = (pd.MultiIndex.from_frame(table[_KEY]) for table in (images, sources))
        missing = sources[~known.isin(places)]
        if len(missing):
            file, frame = missing[_KEY].iloc[0]
            where = f"as that of column 'source_id' {file}, frame {frame}"
            raise SonoError(
                f"{path}: {counted(len(missing), 'row')}"
                f" of {vault} {'is' if len(missing) == 1 else 'are'} missing, {where}; {advice}"
            )
        there = places.isin(known)
        sources = sources.set_axis(known).reindex(places)
    kept = sources["patient_id"].notna().to_numpy(bool)
    compared = {
        "image_id": there,
        "patient_id": kept | there & sources["raw_patient"].isna().to_numpy(bool),
        **{name: sources[name].notna().to_numpy(bool) for name in GEOMETRY},
    }
    for name in _CHECKED[len(_KEY) :]:
        own, other = (_filled(table[name]) for table in (images, sources))
        odd = (own != other) & compared.get(name, kept)
        if odd.any():
            row = int(odd.argmax())
            raise SonoError(
                f"{path}: row {images.index[row] + 1}: column '{name}' has '{own[row]}', and "
                f"{vault} has '{other[row]}'; {advice}"
            )


def _filled(column: pd.Series) -> NDArray[Any]:
    """The values of a column of texts, or of numbers from 0; missing ones are "" or -1."""
    whole = pd.api.types.is_integer_dtype(column)
    return column.fillna(-1 if whole else "").to_numpy(np.int64 if whole else object)
