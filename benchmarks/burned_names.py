"""How often a name, id and date burned into the sector is noticed, by strokes alone and with Tesseract.

Usage: python benchmarks/burned_names.py FOLDER_OF_FRAMES [--frames 40]
Prints, for real frames as they are and with three lines burned at several letter heights, the share that is quarantined
and the share that is at least remarked (overlay).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation import quality
from sono.curation.phantom.people import Exam, Woman, make_woman
from sono.curation.printed_text import looks_private, read_words, says_private
from sono.curation.quality import QualityConfig
from sono.curation.readers.sources import list_sources, read_source
from sono.curation.sector import crop_to_sector, find_sector

HEIGHTS = {"none": 0.0, "9 px": 0.4, "13 px": 0.6, "18 px": 0.8, "22 px": 1.0}  # of capitals, by OpenCV's font scale


def frames(folder: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    paths = [
        path for path in list_sources(folder) if path.lower().endswith((b".jpg", b".png")) and b"/masks/" not in path
    ]
    for path in paths[:: max(1, len(paths) // count)][:count]:
        source = read_source(path)
        yield from (frame.gray for frame in source.frames[:1])


def burn(gray: NDArray[np.uint8], woman: Woman, exam: Exam, size: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The frame with name, number and date in the middle half of it, on tissue."""
    burned = gray.copy()
    x = int(gray.shape[1] * rng.uniform(0.25, 0.45))
    y = int(gray.shape[0] * rng.uniform(0.35, 0.6))
    for row, line in enumerate(
        (f"{woman.surname} {woman.forename}", woman.mrn, f"{exam.day:%d.%m.%Y}") if size else ()
    ):
        place = (x, y + round(36 * size) * row)
        cv2.putText(burned, line, place, cv2.FONT_HERSHEY_SIMPLEX, size, 235, 1 + (size > 0.7), cv2.LINE_AA)
    return burned


def noticed(gray: NDArray[np.uint8], woman: Woman) -> tuple[bool, bool, bool, bool]:
    """Remarked by strokes, quarantined by strokes, by the look of what Tesseract reads, and with the record known."""
    sector = find_sector(gray)
    stored = crop_to_sector(gray, sector)
    codes = quality.judge(quality.measure(stored, sector), sector, QualityConfig())
    words = read_words(stored) or []
    looks = looks_private(words)
    says = says_private([word.text for word in words], [woman.dicom_name, woman.mrn])
    return "overlay" in codes, "text_in_sector" in codes, looks, looks or says


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=40)
    given = parser.parse_args()
    pictures = list(frames(given.folder, given.frames))
    print(f"{len(pictures)} frames of {given.folder.name}; share noticed")
    print(f"{'letters':<8} {'overlay':>8} {'text_in_sector':>15} {'+ ocr looks':>12} {'+ record':>9}")
    for label, size in HEIGHTS.items():
        rng = np.random.default_rng(0)
        women = [make_woman(number, "AB"[number % 2], 0) for number in range(len(pictures))]
        marks = np.array(
            [noticed(burn(gray, who, who.exams[1], size, rng), who) for gray, who in zip(pictures, women, strict=True)]
        )
        overlay, text, looks, known = marks.T
        shares = (overlay.mean(), text.mean(), (text | looks).mean(), (text | known).mean())
        print(f"{label:<8} {shares[0]:>8.2f} {shares[1]:>15.2f} {shares[2]:>12.2f} {shares[3]:>9.2f}")


if __name__ == "__main__":
    main()
