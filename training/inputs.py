"""The inputs of a run: usable frames, their captions and masks, and the initial model."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sono.annotation.captions import CaptionConfig
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.related_frames import training_rows
from sono.curation.dataset.split_checks import check_splits
from sono.templates.loader import BUILT_IN, load_templates
from sono.training.config import TrainingConfig
from sono.training.data.pairs import PairSet
from sono.training.data.read_pairs import load_pairs
from sono.training.data.shards import Shards
from sono.training.data.stream import check_apart, check_shards, open_shards
from sono.training.model.architectures import ModelConfig
from sono.training.model.mask_clip import MaskClip
from sono.training.model.spread_texts import spread_texts
from sono.training.runtime.distributed import is_main_process
from sono.training.start import Start, new_model, start_of

COVERING = 0.98  # share of a frame above which a mask marks no region


@dataclass(frozen=True)
class TrainingInputs:
    """The frames (rows of the images table), their template set, and the pairs drawn from them.

    With shards, `images` are only those of validation. `left_out` counts the train and validation
    frames lost to held-out centers, by reason.
    """

    images: pd.DataFrame
    template: str
    start: Start
    train: PairSet | Shards
    val: PairSet
    names: tuple[str, ...] = ()  # phrasings of all planes and structures of the study
    left_out: dict[str, int] = field(default_factory=dict)
    # frames of the train split that are not used, by reason; None with shards
    train_left_out: dict[str, int] | None = None


def read_inputs(
    workspace: Workspace, config: TrainingConfig, saved: Path | None = None
) -> TrainingInputs:
    """Read the inputs of a run, except the contents of shards.

    Raises SonoError if there is too little training data, or the shards do not fit. A resumed run
    starts from its checkpoint `saved`, if it has one.
    """
    accepted = workspace.accepted_images()
    images, template = usable_images(workspace, accepted, config), template_set(workspace)
    left_out = count_held_out(accepted, images)
    start = start_of(workspace, config, saved)
    side = MaskClip.side_of(start.config)
    train: PairSet | Shards
    if config.shards is None:
        train = load_split(workspace, images[images["split"] == "train"], config, template, side)
    else:
        train = open_shards(workspace, config.shards)
        check_shards(train, workspace, config, template, side)
        every, images = images, images[images["split"] == "val"]
        check_apart(train, every, images)
    if len(train) < 2:
        held = f" after holding out {', '.join(config.hold_out)}" if config.hold_out else ""
        raise SonoError(
            f"{workspace.root}: {len(train)} captioned frames in the train split{held}, at least 2 "
            "are needed; run `sono captions build` again, or `sono split` with another --seed or "
            "[splits] train"
        )
    val = load_split(workspace, images[images["split"] == "val"], config, template, side)
    unused = {"val": _unused(accepted, images, val, "val")}
    if isinstance(train, PairSet):
        unused = {"train": _unused(accepted, images, train, "train")} | unused
    if is_main_process():
        used = {"train": len(train), "val": len(val)}
        remarks = [_subset(name, used[name], why) for name, why in unused.items() if why]
        remarks += [_few_validated(len(val), unused["val"])] if len(val) < 2 else []
        for remark in (*remarks, *region_remarks(workspace, images, train, config)):
            stderr_console.print(f"{workspace.root}: {remark}", markup=False)
    names = _names(workspace, template)
    return TrainingInputs(images, template, start, train, val, names, left_out, unused.get("train"))


def _unused(
    accepted: pd.DataFrame, images: pd.DataFrame, pairs: PairSet, split: str
) -> dict[str, int]:
    """How many `accepted` frames of a split are not used, by reason."""
    placed, kept = (table[table["split"] == split] for table in (accepted, images))
    bare = {"frames without a caption": len(kept) - len(pairs)} if len(kept) > len(pairs) else {}
    return count_held_out(placed, kept) | bare


def _subset(split: str, used: int, unused: dict[str, int]) -> str:
    """As in "uses 80 of 135 frames of the train split; not used: 55 frames of B"."""
    reasons = ", ".join(f"{count} {why}" for why, count in unused.items())
    total = used + sum(unused.values())
    return f"uses {used} of {total} frames of the {split} split; not used: {reasons}"


def _few_validated(used: int, unused: dict[str, int]) -> str:
    """That no epoch can be picked, and what to do; `unused` frames of the split are the cause."""
    cause = "run `sono split` with another --seed, or " if unused else ""
    return (
        f"{'one' if used else 'no'} captioned frame of the validation split is used: no epoch can "
        f"be picked, so the last one is kept; {cause}add patients or raise val under [splits] in "
        "sono.toml, then run `sono split`"
    )


def region_remarks(
    workspace: Workspace, images: pd.DataFrame, train: PairSet | Shards, config: TrainingConfig
) -> list[str]:
    """Messages, with what to do, on data from which the mask cannot learn to select a structure."""
    if config.global_fraction == 1:
        return [
            "global_fraction = 1 trains only on whole frames: the mask will not select a structure"
        ]
    masks = workspace.masks()
    learned = images.loc[images["split"] == "train", "image_id"]
    masks = masks[masks["image_id"].isin(learned) & masks["state"].isin(config.mask_states)]
    if not train.regions:
        why = (
            "no frame of the train split has an accepted mask: `sono masks import`, then `sono "
            "captions build`"
        )
        if len(masks):
            why = (
                f"none of the {len(masks)} masks of the train split has a caption and is large "
                "enough for the model's square: `sono captions build`, or a larger image_size"
            )
        return [f"{why}; the mask will not select a structure"]
    if isinstance(train, Shards):
        return []
    remarks = []
    structures = {region.structure for example in train.examples for region in example.regions}
    if len(structures) == 1:
        remarks.append(
            f"all masks show one structure ({structures.pop()}): naming it under a mask is no test"
        )
    covering = int((masks["area"] >= COVERING * masks["height"] * masks["width"]).sum())
    if covering:
        remarks.append(
            f"{covering} of {len(masks)} masks cover their whole frame and mark no region: check "
            "them"
        )
    return remarks


def load_split(
    workspace: Workspace, images: pd.DataFrame, config: TrainingConfig, template: str, side: int
) -> PairSet:
    """The pairs of `images`, with prompts of the template set."""
    workspace.planes().check(sorted(images["plane"].dropna().unique()))
    return load_pairs(workspace, images, config.mask_states, load_templates(template), side)


def initial_model(inputs: TrainingInputs, config: TrainingConfig) -> MaskClip:
    """The model that the run starts with.

    A new one has the pixel statistics of the training frames, or of its encoder.
    """
    start = inputs.start
    if start.model is not None:
        return start.model
    architecture = start.config if start.encoder else _with_statistics(start.config, inputs.train)
    model = new_model(config, architecture, start.encoder)
    spread_texts(model, inputs.names)
    return model


def usable_images(
    workspace: Workspace, accepted: pd.DataFrame, config: TrainingConfig
) -> pd.DataFrame:
    """The `accepted` frames that may be used."""
    check_splits(accepted)
    images = training_rows(accepted, config.hold_out)
    if images.empty:
        raise SonoError(
            f"{workspace.root}: no frame is left to train on after holding out "
            f"{', '.join(config.hold_out)}"
        )
    return images


def count_held_out(accepted: pd.DataFrame, used: pd.DataFrame) -> dict[str, int]:
    """How many `accepted` frames of train and val are not `used`, by reason.

    The reasons are a held-out center, no center, or a relation to such frames.
    """
    placed = accepted[accepted["split"].isin(["train", "val"])]
    gone = placed[~placed["image_id"].isin(used["image_id"])]
    # of a center that is not held out
    elsewhere = gone["center"].isin(used["center"].dropna().unique())
    reasons = (
        gone["center"]
        .map("frames of {}".format)
        .where(~elsewhere, "frames tied to them by patient or exam")
    )
    reasons = reasons.where(gone["center"].notna(), "frames without a center")
    return {
        str(why): int(count) for why, count in reasons.value_counts(sort=False).sort_index().items()
    }


def template_set(workspace: Workspace) -> str:
    """The name of the main template set of the captions; the model stores its prompts."""
    written = sorted(workspace.captions()["template"].unique())
    configured = workspace.settings("captions", CaptionConfig).names
    for name in dict.fromkeys((*configured, "standard", *BUILT_IN)):
        if load_templates(name).id in written:
            return name
    raise SonoError(
        f"{workspace.root}: the captions were written by template set {', '.join(written)}, which "
        "is missing; name a set in sono.toml ([captions] template) and run `sono captions build` "
        "again"
    )


def _names(workspace: Workspace, template: str) -> tuple[str, ...]:
    templates, table = load_templates(template), workspace.planes()
    phrasings = [templates.render_prompts(plane.name) for plane in table.planes]
    phrasings += [templates.render_region_prompts(name) for name in table.structures]
    return tuple(text for texts in phrasings for text in texts)


def _with_statistics(model: ModelConfig, pairs: PairSet | Shards) -> ModelConfig:
    """`model` with the pixel statistics of the training frames."""
    mean, spread = pairs.pixels
    changes = {"pixel_mean": round(mean, 4), "pixel_std": round(max(spread, 1e-3), 4)}
    return model.model_copy(update=changes)
