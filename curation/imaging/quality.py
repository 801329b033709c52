"""Quality thresholds, and the reason codes that a frame's measures give."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sono.curation.core.arrays import Gray
from sono.curation.core.config import Config
from sono.curation.imaging import measures
from sono.curation.imaging.cine import CineConfig
from sono.curation.imaging.display_modes import ViewConfig
from sono.curation.imaging.ood import known_kind
from sono.curation.imaging.sector import Sector


class QualityConfig(Config):
    """Thresholds of the quality checks: section `[qc]` of `sono.toml`."""

    min_brightness: float = Field(0.02, ge=0, le=1)  # mean tone of the sector; below: too_dark
    max_brightness: float = Field(0.65, ge=0, le=1)  # above: too_bright
    min_peak: float = Field(0.49, ge=0, le=1)  # tone of the brightest echoes; below: low_gain
    # share of saturated pixels; above: clipped
    max_clipped_bright: float = Field(0.0025, ge=0, le=1)
    # curvature over slope along the depth; below: blurred
    min_sharpness: float = Field(0.185, ge=0)
    fair_sharpness: float = Field(0.235, ge=0)  # the same; below: soft
    max_shadow: float = Field(0.4, ge=0, le=1)  # share of rays without echoes; above: shadowed
    # steps at the borders of 8 x 8 blocks over others; above: compressed
    max_blockiness: float = Field(1.9, ge=1)
    # pixels of the longer side of the sector's box; below: low_resolution
    min_side: int = Field(300, ge=1)
    # sector over frame area; below: small_sector
    min_sector_fraction: float = Field(0.12, ge=0, le=1)
    max_doppler: float = Field(0.005, ge=0, le=1)  # share of colored pixels; above: doppler
    # share of the sector under even strokes; above: overlay
    max_overlay: float = Field(0.00005, ge=0, le=1)
    # share of the sector under bright strokes; above: overlay
    max_strokes: float = Field(0.001, ge=0, le=1)
    max_text: float = Field(0.008, ge=0, le=1)  # the same; above: text_in_sector
    # likeness to the fetal frames known; below: unknown_kind
    min_known_kind: float = Field(0.3, ge=0, le=1)
    cine: CineConfig = CineConfig()
    views: ViewConfig = ViewConfig()
    # what a line of print on the tissue makes of a frame
    burned_text: Literal["quarantine", "remark"] = "quarantine"
    # how print on the tissue is found: by the text detector of the extra `ocr` (where it is not
    # installed, by rules), by the shape of strokes alone, or not at all
    text: Literal["detector", "rules", "off"] = "detector"


def measure(gray: Gray, sector: Sector, rgb: NDArray[np.uint8] | None = None) -> dict[str, float]:
    """The measures of a frame [H, W] cropped to its sector, by column name.

    `rgb` [H, W, 3] are its colors, if any.
    """
    x0, y0, x1, y1 = sector.box
    inside = sector.inside[y0:y1, x0:x1]
    blobs, colored = measures.colored(rgb, inside)
    bright, even = measures.strokes(gray, inside)
    return {
        **measures.tones(gray, inside),
        "sharpness": measures.sharpness(gray, inside),
        "speckle": measures.speckle(gray, inside),
        "shadow": measures.shadow(gray, sector),
        "blockiness": measures.blockiness(gray, inside),
        "doppler": measures.share(blobs, inside),
        "overlay": measures.share(even, inside),
        "strokes": measures.share(bright | colored, inside),
        "known_kind": known_kind(gray),
    }


def judge(found: dict[str, float], sector: Sector, config: QualityConfig) -> list[str]:
    """The reason codes that a frame's measures and its sector give."""
    x0, y0, x1, y1 = sector.box
    findings = {
        "too_dark": found["brightness"] < config.min_brightness,
        "too_bright": found["brightness"] > config.max_brightness,
        "low_gain": found["peak"] < config.min_peak,
        "clipped": found["clipped_bright"] > config.max_clipped_bright,
        "blurred": found["sharpness"] < config.min_sharpness,
        "soft": config.min_sharpness <= found["sharpness"] < config.fair_sharpness,
        "shadowed": found["shadow"] > config.max_shadow,
        "compressed": found["blockiness"] > config.max_blockiness,
        "low_resolution": max(x1 - x0, y1 - y0) < config.min_side,
        "small_sector": sector.fraction < config.min_sector_fraction,
        "sector_unsure": sector.kind == "full",
        "doppler": found["doppler"] > config.max_doppler,
        "overlay": found["overlay"] > config.max_overlay or found["strokes"] > config.max_strokes,
        "text_in_sector": found["strokes"] > config.max_text,
        "unknown_kind": found["known_kind"] < config.min_known_kind,
    }
    return [code for code, present in findings.items() if present]


def flat_picture(gray: Gray) -> str | None:
    """`blank` for a picture of one tone, `mask_image` for a few flat tones, otherwise None."""
    counts = cv2.calcHist([gray[::2]], [0], None, [256], [0.0, 256.0]).ravel()
    common, total = int(counts.argmax()), counts.sum()
    if counts[max(0, common - 2) : common + 3].sum() >= 0.9995 * total:
        return "blank"
    few = np.sort(counts)[-12:].sum() > 0.995 * total
    return "mask_image" if few and np.count_nonzero(counts) < 40 else None
