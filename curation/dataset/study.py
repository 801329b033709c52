"""A study as Python reads it: tables as DataFrames, frames and masks as arrays."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import read_stored, stored_path
from sono.curation.core.rle import decode
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace


class Study:
    """A study on disk, read-only. Tables are read once and checked as every command checks them.

    Args:
        path: The workspace (a folder with `sono.toml`); None searches from the current folder up.

    Raises:
        SonoError: `path` is no workspace, or a table in it is damaged or of another study.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.workspace = Workspace.find(None if path is None else Path(path))

    def __repr__(self) -> str:
        return f"Study({str(self.workspace.root)!r})"

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per frame of the sources: status, reasons, center, plane, age, quality, split.

        The columns are those of `images.parquet`. Raises SonoError if `sono qc` has not run.
        """
        return self.workspace.images()

    @cached_property
    def masks(self) -> pd.DataFrame:
        """One row per mask: structure, state, source, box, run lengths; may be empty."""
        return self.workspace.masks()

    @cached_property
    def captions(self) -> pd.DataFrame:
        """One row per caption: text, level, tier, frame and mask; empty where there are none.

        `state` says which ones a reviewer corrected or found wrong.
        """
        return self.workspace.read(CAPTIONS)

    def frame(self, image_id: str) -> NDArray[np.uint8]:
        """The stored frame [H, W], 8-bit gray, cropped to its sector.

        Raises SonoError if there is no such frame, or it is not accepted.
        """
        rows = self.images[self.images["image_id"] == image_id]
        if rows.empty:
            raise SonoError(
                f"{self.workspace.root}: no frame '{image_id}'; see the column image_id of "
                f"Study.images"
            )
        accepted = rows[(rows["status"] == "accepted") & rows["file"].notna()]
        if accepted.empty:
            first = rows.iloc[0]
            why = ", ".join(first["reasons"])
            raise SonoError(
                f"frame '{image_id}' is {first['status']} ({why}); only accepted frames are stored "
                f"in a study"
            )
        return read_stored(stored_path(self.workspace, str(accepted.iloc[0]["file"])))

    def mask(self, mask_id: str) -> NDArray[np.bool_]:
        """A mask [H, W], True inside the structure, of the size of its frame."""
        rows = self.masks[self.masks["mask_id"] == mask_id]
        if rows.empty:
            raise SonoError(
                f"{self.workspace.root}: no mask '{mask_id}'; see the column mask_id of Study.masks"
            )
        row = rows.iloc[0]
        return decode(row["counts"], int(row["height"]), int(row["width"]))
