"""The parts of a frame above its background tone: echoes, letters, ticks and bars."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Mask
from sono.curation.imaging.components import connected_components


@dataclass(frozen=True)
class EchoLayer:
    """Everything above one threshold: echoes (without letters and bars), and all components."""

    echo: Mask
    labels: NDArray[np.int32]  # [H, W]
    stats: NDArray[np.int64]  # [N, 5]: x, y, width, height, area

    def mirrored(self) -> "EchoLayer":
        """The layer flipped left to right; the boxes in `stats` are not changed."""
        return EchoLayer(np.ascontiguousarray(self.echo[:, ::-1]), self.labels[:, ::-1], self.stats)


def background_tone(sample: NDArray[np.uint8]) -> int:
    """The tone of the screen around the sector.

    It is the darkest tone of `sample` [H, W], except for stray pixels.
    """
    return int(
        np.searchsorted(np.cumsum(np.bincount(sample.ravel(), minlength=256)), sample.size * 0.01)
    )


def header_height(gray: NDArray[np.uint8]) -> int:
    """Height in rows of a gray or black bar across the top, 0 if there is none.

    Scanners write name and date there.
    """
    rows = gray[: max(1, gray.shape[0] // 8), ::4].astype(np.int16)
    tone = np.median(rows, axis=1)
    share = (np.abs(rows - tone[:, None]) <= 8).mean(axis=1)
    start, end = _bar((share >= 0.4) & (tone >= 20), gray.shape[0])
    # above and below its letters a bar is flat all over; tissue is not
    flat = (share[start:end] > 0.8).mean() if end else 0.0
    if flat > 0.2 and (rows[start:end] > tone[start:end, None] + 50).mean() >= 0.005:
        return end + 2
    # a black bar is thin and ends at once over the full width; black fluid and the corners of a
    # fan do not
    dark = (rows < 20).mean(axis=1)
    start, end = _bar(dark >= 0.6, gray.shape[0])
    return end + 2 if 0 < end <= 0.04 * gray.shape[0] and dark[end : end + 4].min() <= 0.2 else 0


def _bar(flat: Mask, height: int) -> tuple[int, int]:
    """First and end row of the run of uniform rows at the top.

    (0, 0) if it is too thin, too low or has no end.
    """
    start = int(flat.argmax())
    breaks = np.flatnonzero(~flat[start:])
    if not flat[start] or start > 0.03 * height or len(breaks) == 0:
        return 0, 0
    end = start + int(breaks[0])
    return (start, end) if end - start >= max(6, 0.015 * height) else (0, 0)


def echo_layer(small: NDArray[np.uint8], tone: int, step: int) -> EchoLayer:
    """The parts of the frame `step` levels above the background `tone`."""
    echo = small > tone + step
    labels, stats = connected_components(echo)
    letters = _letters_and_bars(labels, stats, np.flatnonzero(small > tone + 50))
    return EchoLayer(echo & ~np.take(letters, labels) if letters.any() else echo, labels, stats)


def _letters_and_bars(
    labels: NDArray[np.int32], stats: NDArray[np.int64], bright: NDArray[np.intp]
) -> Mask:
    """Which components [N] are small, bright and near the border: letters, ticks, the gray bar.

    `bright` has indices into the flattened `labels`.
    """
    height, width = labels.shape
    shining = np.bincount(labels.ravel()[bright], minlength=len(stats))
    x, y, wide, tall, area = stats.T
    near_rim = (
        (x + wide < 0.27 * width)
        | (x > 0.73 * width)
        | (y + tall < 0.1 * height)
        | (y > 0.88 * height)
    )
    compact = (tall < 0.2 * height) & (wide < 0.26 * width)
    bar = (wide < 0.045 * width) & (tall < 0.6 * height)
    result = (compact | bar) & near_rim & (shining >= 0.12 * area) & (shining > 0)
    result[0] = False
    return np.asarray(result)


def text_on_background(small: NDArray[np.uint8], tone: int, echo: Mask) -> Mask:
    """Mask of letters in the upper corners, and of ticks and the gray bar at the border.

    The mask is dilated a little and contains no echoes.
    """
    height, width = small.shape
    labels, stats = connected_components(small > tone + 12)
    x, y, wide, tall, area = stats.T
    upper_right = (y + tall < 0.36 * height) & (x > 0.8 * width) & (x + wide > 0.92 * width)
    upper_left = (y + tall < 0.14 * height) & (x + wide < 0.16 * width)
    letter = (upper_left | upper_right) & (tall < 0.2 * height) & (wide < 0.2 * width)
    tick = (
        ((x + wide < 0.06 * width) | (x > 0.94 * width))
        & (wide < 0.045 * width)
        & (tall < 0.6 * height)
    )
    solid = (tall > 4 * wide) | (area <= 0.0006 * small.size)
    text = letter | (tick & solid)
    text[0] = False
    if text.any():
        text &= (
            np.bincount(labels.ravel()[np.flatnonzero(small > tone + 70)], minlength=len(stats))
            >= 0.3 * area
        )
    if not text.any():
        return np.zeros_like(echo)
    grown = cv2.dilate(text[labels].astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray((grown > 0) & ~(echo & ~text[labels]))
