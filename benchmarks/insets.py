"""How often a small second sector in a corner is painted over, and what changes on real frames.

Whole fans of other frames, 15 to 30 % as wide as the frame, are set into its corners, with and
without a drawn frame: on a black screen around the picture, and over the tissue of pictures that
fill their file. Painted over means that at most 2 % of the inset's lit pixels are left.

Example: python benchmarks/insets.py ../shared/data --frames 40
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.drawing import contact_sheet
from sono.curation.imaging import sector
from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector
from sono.curation.readers.files import read_source

Gray = NDArray[np.uint8]
PATTERNS = (
    "barcelona/Images/*.*",
    "nijmegen/**/*_HC.png",
    "shenzhen/**/*.png",
    "barcelona_head/images/*.png",
)
LIT = 20  # gray levels of an inset's pixels that count


def frames_of(folder: Path, count: int | None) -> Iterator[Gray]:
    """Frames, evenly taken; all without a `count`."""
    paths = [path for pattern in PATTERNS for path in sorted(folder.glob(pattern))]
    for path in paths[:: max(1, len(paths) // count) if count else 1]:
        yield read_source(str(path).encode()).frames[0].gray


def on_screen(gray: Gray) -> Gray:
    """The frame on a larger black screen."""
    height, width = gray.shape
    screen = np.zeros((round(1.12 * height), round(1.44 * width)), np.uint8)
    y, x = round(0.08 * height), round(0.22 * width)
    screen[y : y + height, x : x + width] = gray
    return screen


def fans(frames: Iterator[Gray]) -> Iterator[Gray]:
    """The sectors of the frames of which both sides are seen."""
    for gray in frames:
        found = find_sector(gray)
        if found.apex_x is not None and found.kind == "convex":
            yield crop_to_sector(gray, found)


def set_into(gray: Gray, fan: Gray, corner: str, wide: int, drawn: bool) -> tuple[Gray, Gray]:
    """The frame with a fan in a corner; and the lit pixels of the fan, which are 255."""
    scale = min(wide / fan.shape[1], 0.4 * gray.shape[0] / fan.shape[0])
    small = cv2.resize(fan, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tall, wide = small.shape
    margin = max(4, gray.shape[1] // 80)
    y = margin if corner[0] == "t" else gray.shape[0] - tall - margin
    x = margin if corner[1] == "l" else gray.shape[1] - wide - margin
    shown, lit = gray.copy(), np.zeros_like(gray)
    shown[y : y + tall, x : x + wide] = small
    lit[y : y + tall, x : x + wide] = np.where(small > LIT, 255, 0)
    if drawn:
        cv2.rectangle(shown, (x - 2, y - 2), (x + wide + 1, y + tall + 1), 200, 1)
    return shown, lit


def without_insets(gray: Gray) -> Sector:
    """The sector as it is found without a search for insets."""
    with (
        patch.object(sector, "framed_insets", lambda _: []),
        patch.object(sector, "lone_insets", lambda _: []),
    ):
        return find_sector(gray)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=40, help="frames that get insets")
    parser.add_argument("--sheet", type=Path, default=Path("insets.png"), help="PNG of those left")
    given = parser.parse_args()
    frames = list(frames_of(given.data, given.frames))
    whole = list(fans(frames_of(given.data, 5 * given.frames)))
    rng = np.random.default_rng(1)
    found: defaultdict[str, list[bool]] = defaultdict(list)
    left = []
    for gray, screen, drawn in product(frames, (True, False), (True, False)):
        base = on_screen(gray) if screen else gray
        corner = ("tl", "tr", "bl", "br")[int(rng.integers(4))]
        wide = round(base.shape[1] * rng.uniform(0.15, 0.3))
        shown, lit = set_into(base, whole[int(rng.integers(len(whole)))], corner, wide, drawn)
        gone = bool(find_sector(shown).inside[lit > 0].mean() <= 0.02)
        key = f"{'drawn frame' if drawn else 'no frame'}, {'screen' if screen else 'tissue'}"
        found[key].append(gone)
        if not gone:
            left.append((shown, f"{key} {corner}"))
    for key, hits in found.items():
        print(f"{key:<22} painted over {np.mean(hits):.3f} of {len(hits)}")
    total = changed = 0
    seconds = {find_sector: 0.0, without_insets: 0.0}
    for gray in frames_of(given.data, None):
        results = []
        for search in seconds:
            start = time.process_time()
            results.append(search(gray))
            seconds[search] += time.process_time() - start
        total += 1
        changed += bool((results[0].inside != results[1].inside).any())
    print(f"real frames changed: {changed} of {total}")
    print(f"{1000 * (seconds[find_sector] - seconds[without_insets]) / total:.1f} ms a frame")
    if left:
        given.sheet.write_bytes(contact_sheet(left, 8, 200))


if __name__ == "__main__":
    main()
