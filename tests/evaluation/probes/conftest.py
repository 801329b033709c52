"""A study whose frames show their plane by brightness, and an imported CLIP with random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clip_files import random_clip, write_openai
from studies import fill_vault

from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace
from sono.training.interop.model_runs import import_model

PLANES = ("femur", "eye", "leg")
SETTINGS = "\n[evaluation]\nbootstrap_draws = 100\n"


@pytest.fixture
def probed(tmp_path: Path, new_frame: Callable[..., dict[str, object]]) -> Workspace:
    """90 frames of 30 patients in the centers A and B, with ages and masks, and the run `clip`."""
    workspace = Workspace.create(tmp_path / "study")
    workspace.config_path.write_text(workspace.config_path.read_text() + SETTINGS)
    rows, masks = [], []
    square = np.zeros((20, 24), np.bool_)
    square[4:16, 6:18] = True
    for number in range(90):
        patient, plane = number // 3, PLANES[number % 3]
        row = new_frame(
            workspace.root,
            plane,
            plane,
            number,
            center="AB"[patient % 2],
            machine="one",
            patient_id=f"p{patient}",
            split="train" if patient < 16 else "val" if patient < 22 else "test",
            ga_days=140 + 20 * (number % 3) + patient % 5,
            ga_source="recorded",
            row_spacing_mm=0.5,
            col_spacing_mm=0.5,
        )
        rows.append(row)
        if plane != "leg":
            structure = "femur" if plane == "femur" else "left orbit"
            masks.append(mask_row(row, square, structure, "manual", state="accepted"))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    workspace.write(MASKS, mask_table(masks))
    fill_vault(workspace)
    write_openai(tmp_path / "clip.pt", random_clip(seed=1))
    import_model(workspace, tmp_path / "clip.pt", None, None, "clip")
    return workspace
