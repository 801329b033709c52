"""How similar a cropped frame is to fetal B-mode frames that sono knows: a score from 0 to 1.

A logistic regression on 37 features of the frame at 64 x 64 pixels and on their squares, because
unlike frames may be on either side. `ood.toml` holds its coefficients and their provenance;
`benchmarks/known_kind.py` fits them. It separates photographs, pages and breast ultrasound from
fetal frames well, but other ultrasound with a fan, CT and MR poorly.
"""

import tomllib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray

Reals = NDArray[np.float64]

MODEL = Path(__file__).with_name("ood.toml")
SIDE = 64  # pixels of the small picture
SCALES = 5  # halvings at which detail is compared
REACH = 4.0  # deviations from the mean beyond which a feature is clipped


def known_kind(gray: Gray) -> float:
    """The score of a frame [H, W] cropped to its sector and black outside; 0 for a black one."""
    if not gray.any():
        return 0.0
    mean, spread, weights, bias = _model()
    terms = terms_of(np.array(list(features(gray).values())), mean, spread)
    return float(1 / (1 + np.exp(-(bias + terms @ weights))))


def terms_of(found: Reals, mean: Reals, spread: Reals) -> Reals:
    """Features [..., N] as terms of the regression [..., 2 N].

    They are standardized and clipped, followed by their squares minus one.
    """
    standard = np.clip((found - mean) / spread, -REACH, REACH)
    return np.concatenate([standard, standard**2 - 1], axis=-1)


def features(gray: Gray) -> dict[str, float]:
    """The features of a frame [H, W] by name.

    Gain and a flip from left to right do not change them.
    """
    step = max(1, max(gray.shape) // (3 * SIDE))
    small = cv2.resize(
        np.ascontiguousarray(gray[::step, ::step]), (SIDE, SIDE), interpolation=cv2.INTER_AREA
    )
    counts = np.bincount(small.ravel(), minlength=256)
    peak = max(1, int(np.searchsorted(np.cumsum(counts), 0.99 * small.size)))
    tones = np.asarray(small / peak, np.float64)
    return {
        **_tones(counts / small.size, peak),
        **_detail(tones),
        **_layout(tones),
        **_grain(tones),
    }


@cache
def _model() -> tuple[Reals, Reals, Reals, float]:
    """Mean and spread [N] of the features, the weights of their terms [2 N], and the bias."""
    model = tomllib.loads(MODEL.read_text(encoding="utf-8"))
    mean, spread, *weights = np.array(list(model["features"].values())).T
    return mean, spread, np.concatenate(weights), float(model["bias"])


def _tones(share: Reals, peak: int) -> dict[str, float]:
    """Statistics of the tones divided by the peak.

    Some quantiles, the shares of black and white, moments, and the entropy of 16 bins.
    """
    levels = np.arange(256) / peak
    below = np.cumsum(share)
    found = {
        f"tone_{part}": float(levels[np.searchsorted(below, part / 100)])
        for part in (5, 25, 50, 75, 90)
    }
    mean = float(share @ levels)
    apart = levels - mean
    deviation = max(1e-3, float(np.sqrt(share @ apart**2)))
    bins = np.bincount(np.minimum(15, 16 * levels).astype(np.int64), weights=share)
    found |= {"black": float(below[int(0.06 * peak)]), "white": float(1 - below[int(0.9 * peak)])}
    found |= {"skewness": float(share @ apart**3) / deviation**3}
    found |= {"kurtosis": float(np.log(share @ apart**4 / deviation**4 + 1e-3))}
    return found | {"entropy": -float(bins @ np.log(bins + 1e-9))}


def _detail(tones: Reals) -> dict[str, float]:
    """Logarithms of the horizontal, vertical and diagonal (Haar) energies at each scale.

    They are shares of the variance.
    """
    variance = float(tones.var()) + 1e-6
    found = {}
    for scale in range(SCALES):
        odd, even = tones[:, ::2] - tones[:, 1::2], tones[:, ::2] + tones[:, 1::2]
        parts = {
            "across": odd[::2] + odd[1::2],
            "down": even[::2] - even[1::2],
            "diagonal": odd[::2] - odd[1::2],
        }
        for name, part in parts.items():
            energy = float(np.vdot(part, part)) / part.size
            found[f"{name}_{scale}"] = float(np.log(energy / (4 * variance) + 1e-5))
        tones = (even[::2] + even[1::2]) / 4
    return found


def _layout(tones: Reals) -> dict[str, float]:
    """Where the frame is bright: four bands, the outer columns and the corners, over the mean.

    Also the shares of the variance between rows and between columns.
    """
    mean, variance = float(tones.mean()), float(tones.var()) + 1e-6
    rows, columns = tones.mean(axis=1), tones.mean(axis=0)
    found = {
        f"band_{band}": float(part.mean()) - mean for band, part in enumerate(np.split(rows, 4))
    }
    quarter, corner = SIDE // 4, 3 * SIDE // 16
    outer = np.concatenate([columns[:quarter], columns[-quarter:]])
    found |= {"outer_columns": float(outer.mean()) - mean}
    for name, part in (("upper_corners", tones[:corner]), ("lower_corners", tones[-corner:])):
        found[name] = float(part[:, :corner].mean() + part[:, -corner:].mean()) / 2 - mean
    return found | {
        "between_rows": float(rows.var()) / variance,
        "between_columns": float(columns.var()) / variance,
    }


def _grain(tones: Reals) -> dict[str, float]:
    """Low, middle and high ratio of deviation to mean in neighborhoods of 5 small pixels.

    Black neighborhoods are not used.
    """
    mean, square = cv2.blur(tones, (5, 5)), cv2.sqrBoxFilter(tones, -1, (5, 5))
    use = mean > 0.06
    ratio = np.sort(np.sqrt(np.maximum(square - mean**2, 0))[use] / mean[use])
    return {f"grain_{part}": float(ratio[len(ratio) * part // 100]) for part in (10, 50, 90)}
