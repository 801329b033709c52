"""Which weights learn: presets from the new parts alone to everything."""

import re

from open_clip.hf_model import HFTextEncoder
from torch import nn

from sono.curation.core.errors import SonoError
from sono.training.model.mask_clip import MaskClip

# projections into the shared space, in the words of open_clip's towers
HEADS = ("visual.proj", "visual.head.", "visual.attnpool.", "text.text_projection", "text.proj.")
_BLOCKS = (
    "transformer.resblocks",
    "transformer.encoder.layer",
    "trunk.blocks",
    "trunk.stages",
    "trunk.layers",
)


def set_trainable(model: MaskClip, preset: str, text: str = "auto") -> int:
    """Set which weights are trained, by `preset`; returns the number of trained parameters.

    The mask filters, logit scale and bias are always trained. `heads` adds the projections of both
    towers, `last:N` these and the last N blocks of the vision tower, `vision` the complete vision
    tower (and the projection of a BERT, which is new), `all` everything. If `preset` is `all`,
    `text` limits what is trained of the text tower: `heads`, `last:N`, `all`, or auto: the head of
    a pretrained BERT, and all of CLIP's. Raises SonoError for another preset, or more blocks than
    there are.
    """
    if text == "auto":
        text = "heads" if isinstance(model.towers.text, HFTextEncoder) else "all"
    for full_name, weight in model.named_parameters():
        name = full_name.removeprefix("towers.")
        limited = preset == "all" and text != "all" and name.startswith("text.")
        weight.requires_grad_(
            _text_learns(model, name, text) if limited else _learns(model, name, preset)
        )
    model.forget_captions()
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _learns(model: MaskClip, name: str, preset: str) -> bool:
    new = f"visual.{model.stem_name}."
    if (
        name.startswith(("logit_", f"{new}mask.", f"{new}depthwise.", "region_pool."))
        or preset == "all"
    ):
        return True
    if preset == "vision":
        return name.startswith(("visual.", "text.proj."))
    last = re.fullmatch(r"last:(\d+)", preset)
    if last is None and preset != "heads":
        raise SonoError(
            f"unknown choice of what learns '{preset}'; known: heads, last:N, vision, all"
        )
    return name.startswith(HEADS) or (
        last is not None and name in _from_block(model, int(last.group(1)))
    )


def _text_learns(model: MaskClip, name: str, preset: str) -> bool:
    if name.startswith(HEADS):
        return True
    return preset.startswith("last:") and name in _from_block(
        model, int(preset.removeprefix("last:")), "text"
    )


def _from_block(model: MaskClip, count: int, side: str = "visual") -> set[str]:
    """The weights of the last `count` blocks of a tower and of all that comes after them."""
    tower = getattr(model.towers, side)
    blocks = blocks_of(tower)
    if not 1 <= count <= len(blocks):
        kind = "vision" if side == "visual" else "text"
        raise SonoError(
            f"last:{count}: the {kind} tower of '{model.config.name}' has {len(blocks)} blocks"
        )
    names = [name for name, _ in tower.named_parameters() if "." in name]
    start = next(
        number for number, name in enumerate(names) if name.startswith(f"{blocks[-count]}.")
    )
    return {f"{side}.{name}" for name in names[start:]}


def blocks_of(tower: nn.Module) -> list[str]:
    """Names of the blocks or stages of a tower, first to last."""
    modules = dict(tower.named_modules())
    for name in _BLOCKS:
        if name in modules:
            return [f"{name}.{child}" for child, _ in modules[name].named_children()]
    # residual networks
    return [name for name in modules if re.fullmatch(r"(trunk\.)?layer\d+", name)]
