"""The picture of `sono predict --map`: maps of a phrase for a frame, with and without its mask."""

import re
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.core.drawing import DrawnMask, contact_sheet, overlay
from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.evaluation.maps import Map, cell_map, occlusion_map, positive_share
from sono.evaluation.prediction.reading import CARD_SIDE, Reading
from sono.evaluation.prediction.view import PhraseMap
from sono.evaluation.zero_shot import Features, masked_features
from sono.training.model.mask_clip import MaskClip

RED, BLUE = np.array([235, 60, 40]), np.array([60, 110, 235])
KINDS: dict[str, Callable[[MaskClip, NDArray[np.uint8], Mask, Features], Map | None]] = {
    "occlusion": occlusion_map,
    "cells": cell_map,
}
LEGEND = (
    "occlusion: red where the cosine falls if that part is blurred, blue where it rises",
    "cells: red where a cell of the tower adds to the cosine; under a mask its inner features "
    "are averaged inside the mask",
)


def phrase_maps(
    model: MaskClip, reading: Reading, text: Features, words: str
) -> tuple[bytes, tuple[PhraseMap, ...]]:
    """A PNG of the maps of the first frame of a file for `text` [d], and their numbers.

    Raises SonoError for a frame that a person must check for names first.
    """
    if reading.card is None:
        raise SonoError(
            "the frame is not drawn, because a person must check it for names first "
            f"({', '.join(reading.reasons)})"
        )
    card, drawn = reading.card, reading.card.mask
    square, mask = reading.squares[0], reading.masks[0]
    picture, inside = letterbox(card.gray, CARD_SIDE), letterbox_mask(card.sector, CARD_SIDE)
    shown = [] if drawn is None else [DrawnMask("mask", letterbox_mask(drawn, CARD_SIDE))]
    tiles, found = [(overlay(picture, shown), f"the frame\n{words}")], []
    for kind, make in KINDS.items():
        for given, masked in _masks(mask, drawn is not None):
            made = make(model, square, given, text)
            if made is None:
                continue
            cosine = float(masked_features(model, square[None], given[None])[0] @ text)
            one = _numbers(kind, masked, cosine, made, mask if drawn is not None else None)
            found.append(one)
            tiles.append((_heat(picture, made, inside, shown), re.sub("[:;] ", "\n", one.words)))
    columns = 3 if drawn is None else 5
    return contact_sheet(tiles, columns, CARD_SIDE, LEGEND), tuple(found)


def _masks(mask: Mask, is_given: bool) -> Iterator[tuple[Mask, bool]]:
    yield np.ones_like(mask), False
    if is_given:
        yield mask, True


def _numbers(kind: str, masked: bool, cosine: float, made: Map, mask: Mask | None) -> PhraseMap:
    share = None if mask is None else positive_share(made, mask)
    return PhraseMap(
        kind,
        masked,
        round(cosine, 4),
        None if share is None or np.isnan(share) else round(share, 4),
        None if mask is None else round(float(mask.mean()), 4),
    )


def _heat(
    picture: NDArray[np.uint8], found: Map, inside: Mask, masks: list[DrawnMask]
) -> NDArray[np.uint8]:
    """The frame with the map on its sector: red for positive values, blue for negative ones."""
    values = cv2.resize(found, picture.shape[::-1], interpolation=cv2.INTER_LINEAR)
    values = np.where(inside, values, 0)
    strength = (0.75 * np.abs(values) / max(float(np.abs(values).max()), 1e-9))[..., None]
    color = np.where(values[..., None] > 0, RED, BLUE)
    lines = overlay(picture, masks, fill=0)  # a tint would change the colors of the map
    return np.asarray((1 - strength) * lines + strength * color, np.uint8)
