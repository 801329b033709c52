"""Train an arm of `semantics.py` in full, with `sono train`, and encode what it is scored on."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from frozen_heads import SIDE
from numpy.typing import NDArray
from torch import Tensor

from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.evaluation.zero_shot import mode_features
from sono.training import inputs
from sono.training.config import training_config
from sono.training.data.pairs import PairSet
from sono.training.model.checkpoints import END, load_model
from sono.training.model.mask_clip import MaskClip
from sono.training.train import train

# The recipes of whole frames are from scratch by default: no match for towers that come trained.
TOWERS: dict[str, Any] = {
    "model": "lite0", "start": "imagenet", "text": "minilm", "region_pool": True,
    "image_size": SIDE,
}  # fmt: skip


class Trained:
    """A trained model that encodes frames of a study by id, as `HeadModel` does."""

    def __init__(self, model: MaskClip, study: Workspace) -> None:
        self.model = model.eval()
        self.logit_scale = model.logit_scale
        images = study.accepted_images()
        self.files = {
            row["image_id"]: study.root / row["file"]
            for row in images[["image_id", "file"]].to_dict("records")
        }

    def features(
        self, image_ids: Sequence[str], masks: Mapping[int, Tensor] | None = None
    ) -> np.ndarray:
        """Unit features [n, d] of frames, under masks [1, 1, S, S] by place or without."""
        files, whole = [self.files[name] for name in image_ids], np.ones((SIDE, SIDE), np.bool_)

        def mask_for(_: str, row: int) -> NDArray[np.bool_]:
            return whole if masks is None else masks[row][0, 0].numpy() > 0

        return mode_features(self.model, files, ("scored",), mask_for)["scored"]

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Features [n, d], not normalized."""
        return self.model.encode_texts(texts)


def train_fully(
    study: Workspace,
    split: pd.Series,
    recipe: str,
    settings: dict[str, Any],
    change: Callable[[PairSet], PairSet],
) -> tuple[Trained, int]:
    """Train on the train split, with the pairs after `change`; the end of the run and its steps."""
    images = study.images()
    images["split"] = split
    study.write(IMAGES, images)
    shutil.rmtree(study.runs, ignore_errors=True)
    load = inputs.load_split

    def changed(
        workspace: Workspace, images: pd.DataFrame, config: Any, template: str, side: int
    ) -> PairSet:
        pairs = load(workspace, images, config, template, side)
        return change(pairs) if len(pairs) else pairs

    config = training_config(study, recipe, TOWERS | settings)
    with patch.object(inputs, "load_split", changed):
        summary = train(study, config, "run")
    model, _ = load_model(Path(summary.folder) / END)
    return Trained(model, study), summary.steps
