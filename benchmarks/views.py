"""How often screens other than one plain B-mode view are recognized: recall by kind, false alarms.

The positives are made of real frames: two side by side, with M-mode or a spectrum below, with a
color box, as a tinted or a gray surface rendering, and pages of measurements with and without a
small picture. They are imitations: the recall on screens of real machines may differ. `held` counts
the pictures that are not accepted, for any reason.

Example: python benchmarks/views.py ../shared/data --frames 100 --sheet /tmp/views.png
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.drawing import contact_sheet
from sono.curation.core.reasons import status_of
from sono.curation.imaging import quality
from sono.curation.imaging.display_modes import detect_modes
from sono.curation.imaging.judged_text import judge_text
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import crop_to_sector, find_sector
from sono.curation.readers.files import read_source
from sono.curation.readers.source import Frame, split_color

Picture = NDArray[np.uint8]  # gray [H, W] or RGB [H, W, 3]
Pair = tuple[Picture, Picture]  # frames of two patients
FOLDERS = ("barcelona/Images/*.*", "nijmegen/**/*_HC.png", "shenzhen/images/*.png")
VIEWS = {"dual_view", "m_mode", "spectral_doppler", "rendering", "measurement_screen"}
CONFIG = QualityConfig()


def side_by_side(pair: Pair, rng: np.random.Generator) -> Picture:
    """Two frames with a gap of 2 to 20 pixels, black or dark gray, sometimes with a line in it."""
    one, other = (
        np.asarray(cv2.resize(gray, (480, 480), interpolation=cv2.INTER_AREA), np.uint8)
        for gray in pair
    )
    gap = np.full((480, int(rng.integers(2, 21))), int(rng.choice([0, 0, 16])), np.uint8)
    if gap.shape[1] > 6 and rng.integers(2):
        gap[:, gap.shape[1] // 2] = 120
    return np.hstack([one, gap, other])


def two_sectors(pair: Pair, rng: np.random.Generator) -> Picture:
    """Two whole sectors on one black screen of 1024 x 768."""
    screen = np.zeros((768, 1024), np.uint8)
    for number, gray in enumerate(pair):
        crop = crop_to_sector(gray, find_sector(gray))
        scale = min(500 / crop.shape[1], 680 / crop.shape[0])
        small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = 40, 512 * number + (512 - small.shape[1]) // 2
        screen[top : top + small.shape[0], left : left + small.shape[1]] = small
    return screen


def with_strip(gray: Picture, strip: Picture) -> Picture:
    """A screen of the frame's size: the frame above at half its size, the strip below."""
    height, width = gray.shape
    screen = np.zeros_like(gray)
    small = cv2.resize(gray, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    screen[: height // 2, width // 4 : width // 4 + width // 2] = small
    screen[height - len(strip) :] = strip
    return screen


def m_mode(pair: Pair, rng: np.random.Generator) -> Picture:
    """One line of the frame over time, moved by a heart, below it."""
    gray = pair[0]
    height, width = gray.shape
    line, depth = (
        gray[:, int(rng.uniform(0.4, 0.6) * width)],
        np.linspace(0, height - 1, height // 2),
    )
    move = rng.uniform(2, 0.02 * height) * np.sin(np.arange(width) / width * rng.uniform(20, 75))
    strip = np.stack(
        [np.interp(depth + one * depth / height, np.arange(height), line) for one in move], axis=1
    )
    strip *= 1 + cv2.GaussianBlur(rng.normal(0, 0.7, strip.shape), (0, 0), 1.0)
    return with_strip(gray, np.clip(strip, 0, 255).astype(np.uint8))


def spectrum(pair: Pair, rng: np.random.Generator) -> Picture:
    """The velocities of an artery, beat by beat, above a base line, below the frame."""
    height, width = pair[0].shape
    tall = height // 2
    base = round(tall * rng.uniform(0.5, 0.85))
    phase = np.arange(width) / width * rng.uniform(5, 12) % 1
    reach = 0.9 * base * (0.25 + 0.75 * np.exp(-3 * phase)) * np.minimum(1, phase / 0.08)
    up = base - np.arange(tall)[:, None]
    inside = (up > 0) & (up < reach)
    tone = rng.uniform(90, 160) + 40 * cv2.GaussianBlur(
        rng.normal(0, 1, inside.shape), (0, 0), sigmaX=0.8, sigmaY=1.2
    )
    strip = np.where(inside, np.clip(tone, 0, 255), rng.integers(0, 8, inside.shape))
    strip[base] = 200
    return with_strip(pair[0], strip.astype(np.uint8))


def color_box(pair: Pair, rng: np.random.Generator) -> Picture:
    """Flow in vessels of 1 to 5 % of the frame, blended into the tissue of a color box."""
    gray = pair[0]
    height, width = gray.shape
    field = cv2.GaussianBlur(rng.normal(0, 1, gray.shape), (0, 0), 0.02 * width)
    y, x = (int(rng.uniform(0.25, 0.45) * side) for side in (height, width))
    box = np.zeros(gray.shape, np.bool_)
    box[y : y + height // 3, x : x + width // 3] = True
    flow = np.where(box, np.abs(field), 0)
    vessels = flow > np.quantile(flow[box], 1 - 9 * rng.uniform(0.01, 0.05))
    hue = np.where((field > 0)[..., None], np.array([220, 50, 30]), np.array([40, 90, 225]))
    share = np.where(vessels, rng.uniform(0.5, 0.9), 0.0)[..., None]
    return np.asarray(gray[..., None] * (1 - share) + hue * share, np.uint8)


def surface(pair: Pair, rng: np.random.Generator) -> Picture:
    """A lit surface as high as the smoothed frame is bright, cut out of black.

    It imitates a gray 3-D rendering.
    """
    gray = cv2.resize(pair[0], (640, 640), interpolation=cv2.INTER_AREA)
    height = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), rng.uniform(5, 9))
    across, down = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    steep = rng.uniform(0.15, 0.3)
    light = (1 - 0.6 * steep * across - 0.6 * steep * down) / np.sqrt(
        1 + (steep * across) ** 2 + (steep * down) ** 2
    )
    lit = np.clip(90 * light * (0.4 + height / 128) + rng.normal(0, 2, gray.shape), 0, 255)
    y, x = np.mgrid[-1:1:640j, -1:1:640j]
    edge = cv2.GaussianBlur(rng.normal(0, 1, gray.shape), (0, 0), 60) * 8
    return np.where(np.hypot(x, y) + edge < 0.85, lit, 0).astype(np.uint8)


def tinted(pair: Pair, rng: np.random.Generator) -> Picture:
    """The same in the colors of skin."""
    return np.asarray(
        surface(pair, rng)[..., None]
        * np.array([1.0, rng.uniform(0.7, 0.85), rng.uniform(0.4, 0.65)]),
        np.uint8,
    )


def page(pair: Pair, rng: np.random.Generator, picture: bool = False) -> Picture:
    """A table of biometry in the scanner's font, on black or dark gray.

    `picture` adds a small frame.
    """
    screen = np.full((768, 1024), int(rng.choice([0, 0, 24, 40])), np.uint8)
    size = rng.uniform(0.5, 0.8)
    for row in range(int(rng.integers(8, 20))):
        name = ("BPD", "HC", "AC", "FL", "HL", "EFW", "CRL", "OFD")[row % 8]
        age, share = f"{rng.integers(12, 40)}w{rng.integers(7)}d", rng.uniform(1, 99)
        text = f"{name:<5} {rng.uniform(10, 300):6.1f} mm   {age}   {share:4.1f}%"
        cv2.putText(
            screen, text, (50, 50 + 36 * row), cv2.FONT_HERSHEY_SIMPLEX, size, 210, 1, cv2.LINE_AA
        )
    if picture:
        screen[500:740, 700:1000] = cv2.resize(pair[0], (300, 240), interpolation=cv2.INTER_AREA)
    return screen


def page_with_picture(pair: Pair, rng: np.random.Generator) -> Picture:
    """A page of measurements with a small frame in its corner."""
    return page(pair, rng, picture=True)


Maker = Callable[[Pair, np.random.Generator], Picture]
KINDS: dict[str, tuple[Maker, set[str]]] = {
    "side by side": (side_by_side, {"dual_view"}),
    "two sectors": (two_sectors, {"dual_view"}),
    "M-mode": (m_mode, {"m_mode"}),
    "spectrum": (spectrum, {"spectral_doppler"}),
    "color Doppler": (color_box, {"doppler"}),
    "tinted rendering": (tinted, {"rendering"}),
    "gray rendering": (surface, {"rendering"}),
    "page": (page, {"measurement_screen"}),
    "page with picture": (page_with_picture, {"measurement_screen"}),
}


def codes_of(picture: Picture) -> set[str]:
    """What the analysis says of a picture, as far as views and quality are concerned."""
    gray, rgb = split_color(picture)
    flat = quality.flat_picture(gray)
    if flat:
        return {flat}
    sector = find_sector(gray)
    x0, y0, x1, y1 = sector.box
    colors = None if rgb is None else rgb[y0:y1, x0:x1]
    found = quality.judge(
        quality.measure(crop_to_sector(gray, sector), sector, colors), sector, CONFIG
    )
    frame = Frame(0, gray, rgb, None, None, "not_dicom")
    _, print_codes, _ = judge_text(gray, sector, CONFIG)
    return {*found, *print_codes, *detect_modes(frame, sector.inside, CONFIG.views)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument(
        "--sheet", type=Path, help="a PNG with the first pictures of each kind, and the alarms"
    )
    given = parser.parse_args()
    paths = [path for pattern in FOLDERS for path in sorted(given.data.glob(pattern))]
    few = paths[:: max(1, len(paths) // given.frames)][: given.frames]
    frames = [read_source(str(path).encode()).frames[0].gray for path in few]
    tiles: list[tuple[Picture, str]] = []
    print(
        f"{'kind':<18} {'found':>6} {'held':>6}   {len(frames)} pictures each; codes of those not "
        "found"
    )
    for kind, (make, right) in KINDS.items():
        rng = np.random.default_rng(0)
        pictures = [
            make((frames[i], frames[(i + 7) % len(frames)]), rng) for i in range(len(frames))
        ]
        found = [codes_of(picture) for picture in pictures]
        other = Counter(code for codes in found if not codes & right for code in codes)
        hits = np.mean([bool(codes & right) for codes in found])
        held = np.mean([status_of(codes) != "accepted" for codes in found])
        print(f"{kind:<18} {hits:>6.3f} {held:>6.3f}   {dict(other.most_common(4))}", flush=True)
        tiles += [
            (picture, f"{kind}: {', '.join(codes & (VIEWS | right))}")
            for picture, codes in zip(pictures[:4], found[:4], strict=True)
        ]
    alarms = []
    for path in paths:
        gray = read_source(str(path).encode()).frames[0].gray
        frame = Frame(0, gray, None, None, None, "not_dicom")
        codes = set(detect_modes(frame, np.ones(gray.shape, np.bool_), CONFIG.views)) & VIEWS
        alarms += [(gray, f"{path.name}: {', '.join(sorted(codes))}")] * bool(codes)
    print(f"alarms on single frames: {len(alarms)} of {len(paths)}")
    print("\n".join(text for _, text in alarms))
    if given.sheet:
        given.sheet.write_bytes(contact_sheet([*tiles, *alarms], 8, 200))


if __name__ == "__main__":
    main()
