"""Masks in pictures of labels: overlapping ones need several layers, or one hides the other."""

from collections.abc import Iterable, Sequence

import numpy as np

from sono.annotation.exchange.frames import ExportMask

Layer = list[ExportMask]


def layers_of(masks: Iterable[ExportMask], by_structure: bool) -> list[Layer]:
    """The masks in as few layers as this order gives, so that none overlap in a layer.

    With `by_structure`, a layer has each structure once, because its label names only structures.
    """
    layers: list[Layer] = []
    for mask in masks:
        fitting = (layer for layer in layers if _fits(mask, layer, by_structure))
        layer = next(fitting, None)
        if layer is None:
            layer = []
            layers.append(layer)
        layer.append(mask)
    return layers


def _fits(mask: ExportMask, layer: Sequence[ExportMask], by_structure: bool) -> bool:
    return not any(
        (by_structure and other.structure == mask.structure)
        or bool((other.pixels & mask.pixels).any())
        for other in layer
    )


def painted(layer: Sequence[ExportMask], values: Sequence[int], dtype: str) -> np.ndarray:
    """A picture [H, W] of the values of the masks in a layer; 0 elsewhere."""
    picture = np.zeros(layer[0].pixels.shape, dtype)
    for mask, value in zip(layer, values, strict=True):
        picture[mask.pixels] = value
    return picture
