"""Flat areas of a mask picture: its classes by color or value, as opposed to image tones."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.foreign_masks import RefusedError
from sono.annotation.exchange.picture_pixels import DARK, Pixels, strongest_channel
from sono.curation.core.arrays import Gray, Mask

NEAR = 16  # gray levels or steps of a channel that compression may change
# of the painted pixels inside flat areas: a tone or color rarer than this is no class
CLASS_SHARE = 0.001
MIN_CLASS = 9  # pixels
MAX_LINES = 8
EDGE = 5  # pixels over which a drawn edge may be blurred
MAX_ODD = 0.05  # of the painted pixels: tones that are neither flat areas nor their edges
NEARLY_BLACK = 64  # a picture below this has no soft edges: its values are numbers of classes
FEW_VALUES = 16  # as many can each be looked at
EDGE_SHARE = 0.9  # of the pixels of a value that is the soft edge of a shape
MAX_VALUES = 64  # more values are tones, not classes


def count_classes(pixels: Pixels) -> dict[tuple[int, ...], int] | None:
    """Pixels of each class in a gray picture of few values; None for other pictures.

    Unless the picture is nearly black, a value that always lies between two others is the soft edge
    of a shape, and values that differ by little count as one class.
    """
    if pixels.values is None or pixels.colored:
        return None
    gray = pixels.rgb[..., 0]
    values, counts = np.unique(gray, return_counts=True)
    if len(values) > FEW_VALUES:
        return None
    pixels_of: dict[tuple[int, ...], int] = {
        (int(value),): int(count) for value, count in zip(values, counts, strict=True) if value
    }
    top, window = int(values[-1]), np.ones((3, 3), np.uint8)
    if top < NEARLY_BLACK:
        return pixels_of
    lowest, highest = cv2.erode(gray, window), cv2.dilate(gray, window)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        between = (gray == value) & (lowest < value) & (highest > value)
        if 0 < value < top and between.sum() >= EDGE_SHARE * count:
            del pixels_of[(value,)]
    groups = [group for group in _clusters([(0,), *pixels_of]) if (0,) not in group]
    return {
        max(group, key=lambda one: pixels_of[one]): sum(map(pixels_of.__getitem__, group))
        for group in groups
    }


def count_values(pixels: Pixels) -> dict[tuple[int, ...], int]:
    """Pixels of each value above zero; by brightness if the picture has no values."""
    values = (
        pixels.values
        if pixels.values is not None
        else strongest_channel(pixels.rgb).astype(np.int32)
    )
    found, counts = np.unique(values[values > 0], return_counts=True)
    return {(int(value),): int(count) for value, count in zip(found, counts, strict=True)}


def has_tones(top: Gray, painted: Mask) -> bool:
    """Whether the `painted` pixels [H, W] have the tones of an image, not flat areas with edges."""
    if _is_line(painted):
        return False
    flat = [color[0] for color in _modes(top[..., None], painted)]
    clusters = _clusters([(tone,) for tone in flat])
    if any(max(cluster)[0] - min(cluster)[0] > 3 * NEAR for cluster in clusters):
        return True
    bright = flat or [int(top[painted].max(initial=0))]
    areas = np.zeros(top.shape, np.bool_)
    for tone in bright:
        areas |= np.abs(top.astype(np.int16) - tone) <= NEAR
    areas &= painted
    edge = _grown(~painted | (top <= DARK)) & _grown(areas)
    odd = painted & ~areas & ~edge
    return bool(odd.sum() > MAX_ODD * max(int(painted.sum()), 1))


def _is_line(painted: Mask) -> bool:
    """Whether the `painted` pixels [H, W] are one or a few thin lines."""
    mask = painted.astype(np.uint8)
    thin = not cv2.erode(mask, np.ones((EDGE, EDGE), np.uint8)).any()
    return thin and cv2.connectedComponents(mask)[0] - 1 <= MAX_LINES


def _grown(mask: Mask) -> Mask:
    return np.asarray(
        cv2.dilate(mask.astype(np.uint8), np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)) > 0
    )


def _modes(picture: NDArray[np.uint8], painted: Mask) -> dict[tuple[int, ...], int]:
    """Colors of [H, W, C] that fill flat areas of 3 x 3 pixels, with their pixel counts."""
    packed = np.zeros(picture.shape[:2], np.float32)  # exact up to 2 ** 24
    for channel in np.moveaxis(picture, 2, 0):
        packed = packed * 256 + channel
    window = np.ones((3, 3), np.uint8)
    inside = (cv2.dilate(packed, window) == cv2.erode(packed, window)) & painted
    colors, counts = np.unique(packed[inside].astype(np.int64), return_counts=True)
    least = max(MIN_CLASS, CLASS_SHARE * int(painted.sum()))
    depth = picture.shape[2]
    return {
        tuple(int(color) >> 8 * (depth - 1 - channel) & 255 for channel in range(depth)): int(count)
        for color, count in zip(colors, counts, strict=True)
        if count >= least
    }


def _clusters(colors: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Group colors that differ by little."""
    groups: list[list[tuple[int, ...]]] = []
    for color in sorted(colors):
        near = (
            one
            for one in groups
            if any(np.abs(np.subtract(color, other)).max() <= NEAR for other in one)
        )
        group = next(near, None)
        if group is None:
            groups.append([color])
        else:
            group.append(color)
    return groups


def flat_colors(rgb: NDArray[np.uint8], painted: Mask) -> dict[tuple[int, ...], int]:
    """Flat colors of the `painted` pixels, with their pixel counts.

    Similar colors count as the most frequent of them. Raises RefusedError for more colors than a
    mask can have.
    """
    modes = _modes(rgb, painted)
    if len(modes) > MAX_VALUES**2:
        raise RefusedError("tones", "it has the many tones of a picture; a mask has flat areas")
    groups = {
        max(group, key=lambda color: modes[color]): sum(modes[color] for color in group)
        for group in _clusters(list(modes))
    }
    brightest = rgb[painted].max(axis=1) if painted.any() else np.zeros(0, np.uint8)
    top = int(brightest.max(initial=0))
    lines = int((brightest >= top - NEAR).sum())
    if groups and lines >= MIN_CLASS and all(max(color) < top - 2 * NEAR for color in groups):
        groups[(top,) * 3] = lines  # thin lines over an area
    return groups
