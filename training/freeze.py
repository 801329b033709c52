"""Which weights learn: presets from the new parts alone to everything."""

import re

from torch import nn

from sono.curation.errors import SonoError
from sono.training.model import MaskClip

# projections into the shared space, in the words of open_clip's towers
_HEADS = ("visual.proj", "visual.head.", "visual.attnpool.", "text.text_projection", "text.proj.")
_BLOCKS = ("transformer.resblocks", "transformer.encoder.layer", "trunk.blocks", "trunk.stages", "trunk.layers")


def set_trainable(model: MaskClip, preset: str) -> int:
    """Let the weights of `preset` learn and freeze the rest; returns how many numbers learn.

    The mask filters, logit scale and bias always learn. `heads` adds the projections of both towers, `last:N` these
    and the last N blocks of the vision tower, `vision` the whole vision tower (and the projection of a BERT, which is
    new), `all` everything. SonoError for another preset, or more blocks than there are.
    """
    for name, weight in model.named_parameters():
        weight.requires_grad_(_learns(model, name.removeprefix("towers."), preset))
    model.forget_captions()
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _learns(model: MaskClip, name: str, preset: str) -> bool:
    new = f"visual.{model.stem_name}."
    if name.startswith(("logit_", f"{new}mask.", f"{new}depthwise.")) or preset == "all":
        return True
    if preset == "vision":
        return name.startswith(("visual.", "text.proj."))
    last = re.fullmatch(r"last:(\d+)", preset)
    if last is None and preset != "heads":
        raise SonoError(f"unknown choice of what learns '{preset}'; known: heads, last:N, vision, all")
    return name.startswith(_HEADS) or (last is not None and name in _from_block(model, int(last.group(1))))


def _from_block(model: MaskClip, count: int) -> set[str]:
    """The weights of the last `count` blocks of the vision tower and of all that comes after them."""
    blocks = blocks_of(model.towers.visual)
    if not 1 <= count <= len(blocks):
        raise SonoError(f"last:{count}: the vision tower of '{model.config.name}' has {len(blocks)} blocks")
    names = [name for name, _ in model.towers.visual.named_parameters() if "." in name]
    start = next(number for number, name in enumerate(names) if name.startswith(f"{blocks[-count]}."))
    return {f"visual.{name}" for name in names[start:]}


def blocks_of(tower: nn.Module) -> list[str]:
    """Names of the blocks or stages of a tower, first to last."""
    modules = dict(tower.named_modules())
    for name in _BLOCKS:
        if name in modules:
            return [f"{name}.{child}" for child, _ in modules[name].named_children()]
    return [name for name in modules if re.fullmatch(r"(trunk\.)?layer\d+", name)]  # residual networks
