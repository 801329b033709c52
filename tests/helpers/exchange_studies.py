"""A study whose masks are hard to exchange, and a second one with the same frames and no masks."""

from pathlib import Path

import numpy as np
from mask_studies import BOX, frame_row, make_study

from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.tables import MASKS
from sono.curation.core.workspace import Workspace

ROWS, COLUMNS = BOX[3] - BOX[1], BOX[2] - BOX[0]
PATHS = ["/raw/P1/IM_1.png", "/raw/P1/IM_2.png", "/raw/P2/IM_1.png"]


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    rows, columns = np.ogrid[:ROWS, :COLUMNS]
    return ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1


def hard_masks() -> dict[str, np.ndarray]:
    """Masks [26, 30] by what is hard about them."""
    ordinary = ellipse(14, 12, 11, 8.5)
    ring = ordinary & ~ellipse(14, 12, 5, 4)
    parts = ellipse(5, 5, 3, 3) | ellipse(20, 18, 4, 5) | ellipse(24, 4, 2, 2)
    pixel, corner, diagonal = (np.zeros((ROWS, COLUMNS), np.bool_) for _ in range(3))
    pixel[13, 17] = True
    corner[20:, 24:] = True
    diagonal[5:10, 5:10] = diagonal[10:15, 10:15] = True
    return {
        "ordinary": ordinary,
        "hole": ring,
        "parts": parts,
        "pixel": pixel,
        "border": corner,
        "diagonal": diagonal,
        "whole": np.ones((ROWS, COLUMNS), np.bool_),
        "overlap": ellipse(16, 13, 9, 7),
    }


KEPT = {"ordinary", "parts", "pixel", "border", "diagonal", "whole", "overlap"}  # by polygons
STRUCTURES = {
    "ordinary": "fetal head", "hole": "fetal abdomen", "parts": "choroid plexus",
    "pixel": "thalami", "border": "femur", "diagonal": "femur", "whole": "fetal head",
    "overlap": "lateral ventricle",
}  # fmt: skip
ATTRIBUTES = (
    {"source": "import", "state": "accepted"},
    {
        "source": "sam", "state": "proposed", "score": 0.25, "stability": 0.5,
        "model_hash": "c" * 16, "prompt": '{"type": "box", "xyxy": [1, 2, 3, 4]}',
    },
    {
        "source": "heuristic", "state": "edited", "score": 0.75, "reviewer": "Reader Ä <2>",
        "reviewed_at": "2026-01-02T03:04:05.678+00:00",
    },
    {"source": "box", "state": "accepted"},
)  # fmt: skip


def two_studies(folder: Path) -> tuple[Workspace, Workspace]:
    """A study with all hard masks on three frames, and one of the same frames without masks.

    The third frame comes from a file whose pixels are not square.
    """
    rows = [frame_row(0), frame_row(1), frame_row(2, file_height=30, file_width=80)]
    for row in rows:
        row["file"] = f"frames/00/{row['image_id']}-0123abcd.png"
        row |= {"row_spacing_mm": 0.2, "col_spacing_mm": 0.2}
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    full = make_study(folder / "one", PATHS, rows)
    empty = make_study(folder / "two", PATHS, rows)
    masks = [
        mask_row(rows[number % 3], mask, STRUCTURES[name], **ATTRIBUTES[number % 4])
        for number, (name, mask) in enumerate(hard_masks().items())
    ]
    masks.append(mask_row(rows[0], hard_masks()["parts"], "femur", "manual", state="rejected"))
    full.write(MASKS, mask_table(masks))
    return full, empty
