"""The contact sheet of a search: the picture of the query, and the hits with their captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from sono.annotation.overlays import draw_masks
from sono.curation.core.drawing import DrawnMask, contact_sheet, overlay
from sono.curation.core.frame_files import read_stored
from sono.curation.core.workspace import Workspace
from sono.evaluation.prediction.reading import CARD_SIDE, Reading
from sono.evaluation.search.view import Hit

COLUMNS = 5
CAPTION_WIDTH, CAPTION_LINES = 40, 3  # characters; further lines are cut


@dataclass(frozen=True)
class Query:
    """The words and the picture of a query; either may be missing."""

    text: str
    reading: Reading | None = None

    @property
    def words(self) -> str:
        """The query in words."""
        if self.reading is None:
            return self.text
        masked = " under its mask" if "the given mask" in self.reading.shown else ""
        return f"{self.text} and a picture{masked}" if self.text else f"a picture{masked}"


def search_sheet(workspace: Workspace, query: Query, hits: Sequence[Hit]) -> bytes:
    """A PNG of the query's picture and the hits, with the masks of regions."""
    tiles = [] if query.reading is None else [(_picture(query.reading), "query")]
    structures: list[Sequence[str]] = [()] * len(tiles)
    masks = workspace.masks() if any(hit.mask_ids for hit in hits) else None
    for hit in hits:
        gray = read_stored(workspace.root / hit.file)
        picture, names = (
            (gray, [])
            if masks is None
            else draw_masks(gray, masks[masks["mask_id"].isin(hit.mask_ids)])
        )
        tiles.append((picture, "\n".join(_lines(hit))))
        structures.append(names)
    legend = (f"search: {query.words}",)
    return contact_sheet(tiles, COLUMNS, CARD_SIDE, legend, structures)


def _picture(reading: Reading) -> NDArray[np.uint8]:
    """The frame of the query; black if a person must check it for names first."""
    if reading.card is None:
        return np.zeros((CARD_SIDE, CARD_SIDE), np.uint8)
    mask = reading.card.mask
    return overlay(reading.card.gray, [] if mask is None else [DrawnMask("query", mask)])


def _lines(hit: Hit) -> list[str]:
    """Rank, cosine, and whether it was seen; the facts; the caption in a few lines."""
    caption = wrap(hit.caption or "", CAPTION_WIDTH, max_lines=CAPTION_LINES, placeholder=" \u2026")
    first = ", ".join(filter(None, [f"{hit.rank}: cosine {hit.score:.3f}", hit.note]))
    return [first, hit.facts, *caption]
