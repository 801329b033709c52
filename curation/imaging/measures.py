"""Measures of a frame inside its sector, as pure functions of gray tones [H, W] and a mask [H, W].

Measures of the finest detail use some columns (or rows) at full resolution, the others every second
pixel.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.geometry import shrink
from sono.curation.imaging.sector import Sector, across_sector

STROKE_SIDE = 5  # pixels; letters and calipers are drawn with thinner strokes
COLOR_SPREAD = 48  # between the largest and the smallest channel; compressed gray stays below
TISSUE = 12  # mean tone of a neighborhood that holds echoes
EDGE = 4  # tone steps below which a slope may be rounding
# pixels: a larger frame is measured at this size, since screens are captured at any scale
SHARP_SIDE = 640
SHARP_COLUMNS = 3  # one of so many is looked at
SPECKLE_SIDE = 8  # second pixels, of a neighborhood
RAYS = 48  # directions in which shadows are looked for
SHADOW_DEPTH = 0.3  # share of the frame's height from which on a ray counts
SHADOW_TONE = 0.25  # of a good ray's mean tone; a ray below it is in shadow
JPEG_BLOCK = 8  # pixels


def tones(gray: Gray, inside: Mask) -> dict[str, float]:
    """Brightness, contrast, peak, and the shares of clipped pixels, all from 0 to 1.

    `brightness` and `contrast` are mean and standard deviation; 99.5 % of the echoes are darker
    than `peak`; `clipped_dark` and `clipped_bright` are the shares of black and white pixels.
    """
    sample, use = (np.ascontiguousarray(plane[::2, ::2]) for plane in (gray, inside.view(np.uint8)))
    counts = cv2.calcHist([sample], [0], use, [256], [0.0, 256.0]).ravel().astype(np.float64)
    share = counts / max(1.0, counts.sum())
    levels = np.arange(256) / 255
    mean = float(share @ levels)
    echoes = np.cumsum(counts[9:])
    peak = 9 + int(np.searchsorted(echoes, 0.995 * echoes[-1])) if echoes[-1] else 0
    return {
        "brightness": mean,
        "contrast": float(np.sqrt(share @ (levels - mean) ** 2)),
        "peak": peak / 255,
        "clipped_dark": float(share[:2].sum()),
        "clipped_bright": float(share[254:].sum()),
    }


def sharpness(gray: Gray, inside: Mask) -> float:
    """Root mean square of curvature over slope along the depth.

    It is 0.4 to 0.9 for speckle in focus and below 0.2 for blur. A wave with a period of p pixels
    gives tan(pi / p), whatever its gain.
    """
    scale = min(1.0, SHARP_SIDE / max(gray.shape))
    tall, wide = (max(1, round(side * scale)) for side in gray.shape)
    size = (-(-wide // SHARP_COLUMNS), tall)
    if scale <= 0.5:
        gray = shrink(gray, wide, tall)
    lines = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    use = _tissue(
        lines, cv2.resize(inside.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, (3, 9)
    )
    slope = cv2.subtract(lines[2:], lines[:-2], dtype=cv2.CV_16S)
    curve = cv2.subtract(
        cv2.add(lines[2:], lines[:-2], dtype=cv2.CV_16S),
        cv2.add(lines[1:-1], lines[1:-1], dtype=cv2.CV_16S),
    )
    steep = (use[1:-1] & (np.abs(slope) >= EDGE)).astype(np.uint8)
    below = cv2.norm(slope, cv2.NORM_L2, steep)
    return float(cv2.norm(curve, cv2.NORM_L2, steep) / below) if below else 0.0


def speckle(gray: Gray, inside: Mask) -> float:
    """Median of standard deviation / mean in square neighborhoods of tissue.

    It describes how coarse the noise is.
    """
    tall, wide = (side // 2 // SPECKLE_SIDE for side in gray.shape)
    if not tall or not wide:
        return 0.0
    place = (slice(0, 2 * SPECKLE_SIDE * tall, 2), slice(0, 2 * SPECKLE_SIDE * wide, 2))
    half = np.ascontiguousarray(gray[place])
    tones = half.astype(np.float32)
    echoes = _not_black(half, 5) & inside[place]
    mean, square, filled = (
        cv2.resize(plane, (wide, tall), interpolation=cv2.INTER_AREA)
        for plane in (tones, cv2.multiply(tones, tones), echoes.astype(np.float32))
    )
    use = (filled > 0.999) & (mean > TISSUE)
    if not use.any():
        return 0.0
    mean, square = mean[use], square[use]
    return float(np.median(np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1)))


def shadow(gray: Gray, sector: Sector) -> float:
    """Share of the rays of a cropped frame that have almost no echo.

    Columns are used if the apex is unknown.
    """
    x0, y0, x1, y1 = sector.box
    step = max(1, max(gray.shape) // 120)
    ray = np.clip(across_sector(sector, step) * RAYS, 0, RAYS - 1).astype(np.int64)
    use = sector.inside[y0:y1:step, x0:x1:step].copy()
    use[: int(SHADOW_DEPTH * len(use))] = False
    count = np.bincount(ray[use], minlength=RAYS)
    total = np.bincount(ray[use], weights=gray[::step, ::step][use], minlength=RAYS)
    long = count > 0.2 * count.max()
    if not long.any():
        return 0.0
    mean = total[long] / count[long]
    return float((mean < SHADOW_TONE * np.percentile(mean, 80)).mean())


def blockiness(gray: Gray, inside: Mask) -> float:
    """Mean step over the borders of 8 x 8 blocks over the mean step elsewhere; 1 for none.

    The grid of the blocks may begin anywhere.
    """
    across = _block_contrast(gray[::5], inside[::5])
    return min(
        across,
        _block_contrast(
            np.ascontiguousarray(gray[:, ::5].T), np.ascontiguousarray(inside[:, ::5].T)
        ),
    )


def _block_contrast(gray: Gray, inside: Mask) -> float:
    step = cv2.absdiff(gray[:, 1:], gray[:, :-1])
    both = (inside[:, 1:] & inside[:, :-1]).astype(np.uint8)
    total = cv2.reduce(cv2.multiply(step, both), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    count = cv2.reduce(both, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    phases = [slice(phase, None, JPEG_BLOCK) for phase in range(JPEG_BLOCK)]
    means = sorted(float(total[phase].sum()) / max(1, int(count[phase].sum())) for phase in phases)
    rest = float(np.mean(means[:-1]))
    return means[-1] / rest if rest else 1.0


def colored(rgb: NDArray[np.uint8] | None, inside: Mask) -> tuple[Mask, Mask]:
    """Colored areas (flow) and colored strokes (calipers, letters) inside."""
    nothing = np.zeros_like(inside)
    if rgb is None:
        return nothing, nothing
    red, green, blue = cv2.split(rgb)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    color = ((spread >= COLOR_SPREAD) & inside).astype(np.uint8)
    if not color.any():
        return nothing, nothing
    blobs = cv2.morphologyEx(color, cv2.MORPH_OPEN, np.ones((STROKE_SIDE, STROKE_SIDE), np.uint8))
    return np.asarray(blobs > 0), np.asarray(color > blobs)


def strokes(gray: Gray, inside: Mask) -> tuple[Mask, Mask]:
    """Pixels of thin, nearly white strokes, and of those with one even tone.

    The strokes are brighter than both of their sides. A bright echo has a few of the former and
    none of the latter; resampled letters have no even tone.
    """
    fine, broad = (_standing_out(gray, side) for side in (3, STROKE_SIDE))
    light = cv2.bitwise_and(_at_least(gray, 190), inside.view(np.uint8))
    bright = cv2.bitwise_and(light, _at_least(broad, 110)).view(np.bool_)
    lighter = cv2.bitwise_and(light, _at_least(gray, 200))
    sharp = cv2.bitwise_and(lighter, _at_least(fine, 50)).view(np.bool_)
    soft = cv2.bitwise_and(light, _at_least(broad, 80)).view(np.bool_)
    return bright, _flat_parts(gray, sharp, 6, 8) | _flat_parts(gray, soft, 8, 16)


def _at_least(gray: Gray, level: int) -> Gray:
    """1 where a picture [H, W] has `level` or more, else 0."""
    return np.asarray(cv2.threshold(gray, level - 1, 1, cv2.THRESH_BINARY)[1], np.uint8)


def _standing_out(gray: Gray, side: int) -> Gray:
    """How much brighter each pixel is than an opening of `side` pixels."""
    opened = cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    return np.asarray(cv2.subtract(gray, opened), np.uint8)


def _flat_parts(gray: Gray, thin: Mask, spread: int, smallest: int) -> Mask:
    """The components of `thin` in which most pixels are within `spread` of the brightest."""
    # rows and columns far from any such pixel are left out, which cuts no part and is far quicker
    rows, columns = (_near(np.asarray(thin.any(axis=axis))) for axis in (1, 0))
    place = np.ix_(rows, columns)
    part = thin[place]
    result = np.zeros_like(thin)
    if np.count_nonzero(part) < smallest:
        return result
    count, found = cv2.connectedComponents(part.view(np.uint8), connectivity=8)
    labels, tone = np.asarray(found, np.int64)[part], gray[place][part].astype(np.int64)
    brightest = np.zeros(count, np.int64)
    np.maximum.at(brightest, labels, tone)
    area = np.bincount(labels, minlength=count)
    even = np.bincount(labels[tone >= brightest[labels] - spread], minlength=count)
    part[part] = ((even >= 0.7 * area) & (area >= smallest))[labels]
    result[place] = part
    return result


def _near(line: Mask) -> NDArray[np.intp]:
    """Where a line [N] or one of its neighbors is true."""
    near = line.copy()
    near[1:] |= line[:-1]
    near[:-1] |= line[1:]
    return np.flatnonzero(near)


def share(part: Mask, inside: Mask) -> float:
    """Number of pixels of `part` inside, over all pixels inside."""
    return int(np.count_nonzero(part & inside)) / _area(inside)


def _area(inside: Mask) -> int:
    return int(np.count_nonzero(inside)) or 1


def _tissue(gray: Gray, inside: Mask, window: tuple[int, int]) -> Mask:
    """Pixels whose `window` (columns, rows) contains echoes, no border and no black pixels.

    `inside` is generous, and the sector's own edge is not detail.
    """
    kernel = np.ones(window[::-1], np.uint8)
    apart = (inside & _not_black(gray, min(5, window[0]))).view(np.uint8)
    core = cv2.erode(apart, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray((core > 0) & (cv2.blur(gray, window) > TISSUE))


def _not_black(gray: Gray, columns: int) -> Mask:
    """Everything except black areas at least 5 rows high and `columns` wide."""
    black = cv2.morphologyEx(
        cv2.inRange(gray, 0, 2), cv2.MORPH_OPEN, np.ones((5, columns), np.uint8)
    )
    return np.asarray(black == 0)
