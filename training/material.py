"""What a run learns from: the frames that may be used, their captions and masks, and the model it begins with."""

from dataclasses import dataclass

import pandas as pd

from sono.annotation.captions import CaptionConfig
from sono.curation.errors import SonoError
from sono.curation.splits import check_splits, training_rows
from sono.curation.workspace import Workspace
from sono.templates.loader import BUILT_IN, load_templates
from sono.training.architectures import ModelConfig
from sono.training.config import TrainingConfig
from sono.training.data import PairSet, load_pairs
from sono.training.model import MaskClip
from sono.training.start import Start, start_of


@dataclass(frozen=True)
class Material:
    """The frames (rows of the images table), the template set of their captions, and what is drawn from them."""

    images: pd.DataFrame
    template: str
    start: Start
    train: PairSet
    val: PairSet


def read_material(workspace: Workspace, config: TrainingConfig) -> Material:
    """Read all of it into memory; SonoError where there is too little to learn from."""
    images, template = _rows(workspace, config)
    start = start_of(workspace, config)
    side = MaskClip.side_of(start.config)
    templates = load_templates(template)
    prompts = {plane.id: templates.render_prompts(plane.name) for plane in workspace.planes().planes}
    train, val = (
        load_pairs(workspace, images[images["split"] == split], config.mask_states, prompts, side)
        for split in ("train", "val")
    )
    if len(train) < 2:
        held = f" after holding out {', '.join(config.hold_out)}" if config.hold_out else ""
        raise SonoError(
            f"{workspace.root}: {len(train)} captioned frames in the train split{held}, at least 2 are needed; "
            "run `sono captions build` again, or `sono split` with another --seed or [splits] train"
        )
    return Material(images, template, start, train, val)


def first_model(material: Material) -> MaskClip:
    """The model that the run begins with; a new one has the pixel statistics of the training frames."""
    return material.start.model or MaskClip(_with_statistics(material.start.config, material.train))


def _rows(workspace: Workspace, config: TrainingConfig) -> tuple[pd.DataFrame, str]:
    """The frames that may be used, and the template set of their captions."""
    images = workspace.accepted_images()
    check_splits(images)
    images = training_rows(images, config.hold_out)
    if images.empty:
        raise SonoError(
            f"{workspace.root}: no frame is left to train on after holding out {', '.join(config.hold_out)}"
        )
    return images, _template_set(workspace)


def _template_set(workspace: Workspace) -> str:
    """The name of the template set that wrote the captions; its prompts go with the model."""
    written = sorted(workspace.captions()["template"].unique())
    configured = workspace.settings("captions", CaptionConfig).template
    for name in dict.fromkeys((configured, *BUILT_IN)):
        if [load_templates(name).id] == written:
            return name
    raise SonoError(
        f"{workspace.root}: the captions were written by template set {', '.join(written)}, which is not there now; "
        "name the set in sono.toml ([captions] template) and run `sono captions build` again"
    )


def _with_statistics(model: ModelConfig, pairs: PairSet) -> ModelConfig:
    """With the pixel statistics of the training frames."""
    mean, spread = float(pairs.frames.mean()) / 255, float(pairs.frames.std()) / 255
    changes = {"pixel_mean": round(mean, 4), "pixel_std": round(max(spread, 1e-3), 4)}
    return model.model_copy(update=changes)
