"""Measures of a frame's quality inside its sector, and what they mean for its acceptance."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sono.curation.config import Config

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SHARPNESS_SIDE = 384  # longer side at which sharpness is measured, so that a frame's size does not matter
STROKE_SIDE = 5  # pixels; letters and calipers are drawn with thinner strokes
COLOUR_SPREAD = 48  # between the largest and the smallest channel; compressed gray stays below


class QualityConfig(Config):
    """Thresholds of the quality checks: section `[qc]` of `sono.toml`."""

    min_brightness: float = Field(0.02, ge=0, le=1)  # mean tone of the sector; below: too_dark
    max_brightness: float = Field(0.65, ge=0, le=1)  # above: too_bright
    max_clipped_bright: float = Field(0.03, ge=0, le=1)  # share of saturated pixels; above: clipped
    min_sharpness: float = Field(0.09, ge=0)  # fine over coarse detail; below: blurred
    min_sector_fraction: float = Field(0.12, ge=0, le=1)  # sector over frame area; below: small_sector
    max_doppler: float = Field(0.005, ge=0, le=1)  # share of coloured pixels; above: doppler
    max_overlay: float = Field(0.001, ge=0, le=1)  # share of the sector under strokes; above: overlay
    max_text: float = Field(0.008, ge=0, le=1)  # the same; above: text_in_sector


def measure(gray: Gray, inside: Mask, rgb: NDArray[np.uint8] | None = None) -> dict[str, float]:
    """The measures of a cropped frame [H, W] (and its colours [H, W, 3]) inside the sector; all from 0 to 1
    but `sharpness`, the ratio of fine to coarse detail. All zero where nothing is inside.
    """
    counts = cv2.calcHist([gray], [0], inside.astype(np.uint8), [256], [0.0, 256.0]).ravel()
    tones = counts.astype(np.float64) / _area(inside)
    levels = np.arange(256) / 255
    mean = float(tones @ levels)
    blobs, strokes = _coloured(rgb, inside)
    return {
        "brightness": mean,
        "contrast": float(np.sqrt(tones @ (levels - mean) ** 2)),
        "clipped_dark": float(tones[:2].sum()),
        "clipped_bright": float(tones[254:].sum()),
        "sharpness": _sharpness(gray, inside),
        "doppler": _share(blobs, inside),
        "overlay": _share(_bright_strokes(gray, inside) | strokes, inside),
    }


def judge(measures: dict[str, float], sector_fraction: float, sector_kind: str, config: QualityConfig) -> list[str]:
    """The reason codes that a frame's measures earn."""
    findings = {
        "too_dark": measures["brightness"] < config.min_brightness,
        "too_bright": measures["brightness"] > config.max_brightness,
        "clipped": measures["clipped_bright"] > config.max_clipped_bright,
        "blurred": measures["sharpness"] < config.min_sharpness,
        "small_sector": sector_fraction < config.min_sector_fraction,
        "sector_unsure": sector_kind == "full",
        "doppler": measures["doppler"] > config.max_doppler,
        "overlay": measures["overlay"] > config.max_overlay,
        "text_in_sector": measures["overlay"] > config.max_text,
    }
    return [code for code, found in findings.items() if found]


def flat_picture(gray: Gray) -> str | None:
    """`blank` for a picture of one tone, `mask_image` for a label picture of a few flat tones, else None."""
    counts = np.bincount(gray.ravel(), minlength=256)
    common = int(counts.argmax())
    if counts[max(0, common - 2) : common + 3].sum() >= 0.9995 * gray.size:
        return "blank"
    few = np.sort(counts)[-12:].sum() > 0.995 * gray.size
    return "mask_image" if few and np.count_nonzero(counts) < 40 else None


def _area(inside: Mask) -> int:
    return int(np.count_nonzero(inside)) or 1


def _share(part: Mask, inside: Mask) -> float:
    return int(np.count_nonzero(part & inside)) / _area(inside)


def _sharpness(gray: Gray, inside: Mask) -> float:
    """Root mean square of the detail finer than 1 pixel over that of 1 to 6 pixels, at one scale for all frames."""
    scale = SHARPNESS_SIDE / max(gray.shape)
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(gray, size, interpolation=how), np.float32)
    inner = np.asarray(cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0)
    # the sector's own edge is no detail; `inside` is generous, so the black that joins it from outside goes first
    inner &= ~_background(small, inner)
    core = cv2.erode(inner.astype(np.uint8), np.ones((13, 13), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    fine, coarse = cv2.GaussianBlur(small, (0, 0), 1.0), cv2.blur(small, (21, 21))
    detail = cv2.norm(small, fine, cv2.NORM_L2, core)
    structure = cv2.norm(fine, coarse, cv2.NORM_L2, core)
    weakest = 0.1 * float(np.sqrt(_area(core > 0)))
    return detail / structure if structure > weakest else 0.0


def _background(small: NDArray[np.float32], inner: Mask) -> Mask:
    """Black areas [H, W] that touch what is outside the sector or the picture's edge."""
    black = cv2.morphologyEx((small <= 2).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
    _, labels = cv2.connectedComponents(np.pad(black | ~inner, 1, constant_values=True).astype(np.uint8))
    return np.asarray(labels == labels[0, 0])[1:-1, 1:-1]


def _coloured(rgb: NDArray[np.uint8] | None, inside: Mask) -> tuple[Mask, Mask]:
    """Coloured areas (flow) and coloured strokes (calipers, letters)."""
    if rgb is None:
        return np.zeros_like(inside), np.zeros_like(inside)
    red, green, blue = cv2.split(rgb)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    colour = (spread >= COLOUR_SPREAD).astype(np.uint8)
    if not colour.any():
        return np.zeros_like(inside), np.zeros_like(inside)
    blobs = cv2.morphologyEx(colour, cv2.MORPH_OPEN, np.ones((STROKE_SIDE, STROKE_SIDE), np.uint8))
    return np.asarray(blobs > 0), np.asarray(colour > blobs)


def _bright_strokes(gray: Gray, inside: Mask) -> Mask:
    """Pixels of thin, nearly white strokes that stand out from both their sides."""
    opened = cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones((STROKE_SIDE, STROKE_SIDE), np.uint8))
    return np.asarray((cv2.subtract(gray, opened) >= 110) & (gray >= 190) & inside)
