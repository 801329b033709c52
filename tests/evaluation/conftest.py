"""A study of flat frames, and a model that reads the plane from the brightness.

Therefore every answer is known.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from studies import fill_vault
from torch import Tensor, nn

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.proposers import Proposal
from sono.curation.core.atomic import sha256, write_bytes
from sono.curation.core.frame_files import frame_file
from sono.curation.core.planes import PLANES
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace
from sono.training.model.checkpoints import RunInfo

NAMES = [plane.name for plane in PLANES]
IDS = [plane.id for plane in PLANES]


class BrightnessClip(nn.Module):
    """Brightness 10 (i + 1) is plane i; under an empty mask it always answers plane 0."""

    image_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    def encode_image(self, image: Tensor, mask: Tensor) -> Tensor:
        plane = (image[:, 0, 8, 8] * 25.5).round().long() - 1
        return nn.functional.one_hot(plane * (mask.amax(dim=(1, 2, 3)) > 0), len(PLANES)).float()

    def count_truncated(self, texts: list[str]) -> int:
        return 0

    def encode_texts(self, texts: list[str]) -> Tensor:
        longest = [
            max((name for name in NAMES if name in text), key=len, default=NAMES[-1])
            for text in texts
        ]
        return nn.functional.one_hot(
            torch.tensor([NAMES.index(name) for name in longest]), len(PLANES)
        ).float()


def add_frame(
    root: Path, plane: str, shown: str, number: int, **columns: object
) -> dict[str, object]:
    """A row of the images table, and its frame with the brightness of the plane `shown`."""
    gray = np.full((20, 24), 10 * (IDS.index(shown) + 1), np.uint8)
    gray[0, 0] = number  # makes the frame one of a kind
    image_id = sha256(gray.tobytes())
    file = frame_file(image_id, gray)
    write_bytes(root / file, cv2.imencode(".png", gray)[1].tobytes())
    row: dict[str, object] = {
        "image_id": image_id,
        "source_id": f"s{number}",
        "frame": 0,
        "height": 20,
        "width": 24,
    }
    return row | {"plane": plane, "status": "accepted", "file": file, **columns}


def run_info(**changes: object) -> RunInfo:
    values: dict[str, object] = {
        "name": "toy",
        "template": "standard",
        "centers_seen": ("old",),
        "held_out": ("new",),
        "patients_seen": frozenset(),
        "image_ids_seen": frozenset(),
        "planes_seen": {"femur": 5, "eye": 3},
        "data_hash": "d1",
        "config": {"epochs": 1, "model": {"name": "toy"}},
    }
    extra = {name: {} for name in RunInfo.__dataclass_fields__ if name not in values}
    return RunInfo(**(values | extra | changes))


def lit(gray: np.ndarray) -> list[Proposal]:
    """All that is not black, in every second frame."""
    return [Proposal(None, gray > 0, 1.0, 1.0)] if gray[0, 0] % 2 else []


@pytest.fixture
def new_frame() -> Callable[..., dict[str, object]]:
    """`add_frame`, for tests that add frames to the study."""
    return add_frame


@pytest.fixture
def toy_info() -> RunInfo:
    """What a run says of itself that has seen center "old" alone."""
    return run_info()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Center "new": 8 femora and 4 orbits of 6 patients, one of each misread; half carry a mask.

    No model file.
    """
    workspace = Workspace.create(tmp_path / "study")
    rows = [
        add_frame(
            workspace.root,
            plane,
            shown,
            number,
            center="new",
            patient_id=f"p{number % 6}",
            split="test",
        )
        for number, (plane, shown) in enumerate(
            [("femur", "femur")] * 7 + [("femur", "eye")] + [("eye", "eye")] * 3 + [("eye", "leg")]
        )
    ]
    rows.append(
        add_frame(workspace.root, "other", "leg", 50, center="new", patient_id="p1", split="test")
    )
    rows.append(
        add_frame(
            workspace.root, "femur", "femur", 51, center="old", patient_id="q1", split="train"
        )
    )
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    fill_vault(workspace)
    square = np.zeros((20, 24), np.bool_)
    square[6:14, 8:16] = True
    masks = [mask_row(row, square, "femur", "manual", state="accepted") for row in rows[:12:2]]
    workspace.write(MASKS, mask_table(masks))
    (workspace.runs / "toy" / "end").mkdir(parents=True)
    (workspace.runs / "toy" / "run.json").write_text("{}")
    monkeypatch.setattr("sono.evaluation.evaluate.weights_id", lambda checkpoint: "0" * 16)
    seen = rows[-1]
    info = run_info(
        patients_seen=frozenset({"q1"}), image_ids_seen=frozenset({str(seen["image_id"])})
    )
    monkeypatch.setattr(
        "sono.evaluation.evaluate.load_model", lambda folder: (BrightnessClip(), info)
    )
    monkeypatch.setattr("sono.evaluation.outlines.propose_each_kind", lit)
    return workspace
