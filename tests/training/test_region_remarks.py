"""Studies whose masks cannot teach which structure is selected.

Each gets one message, and training continues.
"""

import numpy as np
import pandas as pd
import pytest
from quick import quick

from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.tables import IMAGES, MASKS
from sono.curation.core.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.training.train import train

SHORT = quick(model="tiny", epochs=1, batch_size=6)


@pytest.fixture(autouse=True)
def tiny_model(tiny: str) -> None:
    """Known by its name."""


def covered(study: Workspace) -> None:
    """Give every frame a mask that covers it."""
    names = dict(zip(study.masks()["image_id"], study.masks()["structure"], strict=True))
    everything = np.ones((60, 80), np.bool_)
    masks = [
        mask_row(row, everything, names[row["image_id"]], "manual", state="accepted")
        for row in study.images().to_dict("records")
        if row["image_id"] in names
    ]
    study.write(MASKS, mask_table(masks))
    build_captions(study)


def without_masks(study: Workspace) -> None:
    study.path(MASKS).unlink()
    build_captions(study)


def of_one_structure(study: Workspace) -> None:
    masks = study.masks()
    study.write(MASKS, masks[masks["structure"] == "femur"].reset_index(drop=True))
    build_captions(study)


def without_planes_and_ages(study: Workspace) -> None:
    images = study.images()
    study.write(
        IMAGES,
        images.assign(
            plane=images["plane"].where(images["plane"] == "femur", pd.NA), ga_days=pd.NA
        ),
    )
    build_captions(study)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_masks, "no frame of the train split has an accepted mask: `sono masks import`"),
        (
            of_one_structure,
            "all masks show one structure (femur): naming it under a mask is no test",
        ),
        (covered, "24 of 24 masks cover their whole frame and mark no region"),
        (without_planes_and_ages, ""),
    ],
)
def test_training_goes_on_and_says_what_the_masks_lack(
    change: object, told: str, own_study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    change(own_study)  # type: ignore[operator]
    summary = train(own_study, SHORT, "run")
    said = " ".join(capsys.readouterr().err.split())
    assert told in said
    assert summary.steps > 0
    own_study.config_path.write_text("[evaluation]\nbootstrap_draws = 100\nmodes = []\n")
    verdict = evaluate(own_study, EvaluationOptions("run")).metrics["region_control"]["verdict"]
    assert not verdict["steers"] and "\n" not in verdict["text"]


def test_whole_frames_alone_are_said_to_leave_the_mask_without_meaning(
    own_study: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    train(own_study, SHORT.model_copy(update={"global_fraction": 1.0}), "run")
    assert "global_fraction = 1 trains only on whole frames" in " ".join(
        capsys.readouterr().err.split()
    )
