"""How often a name, id or date burned into the sector is detected, by strokes and by Tesseract.

A line in one of several fonts, inks (white to yellow-gray) and styles (plain, with a shadow, in a
black box) is burned into a random place of the sector of real frames, half of them saved as JPEG
afterwards. It is held (the frame is quarantined), painted over (at the border) or missed. Clean
frames that are held are false alarms, unless they really show text: write them with --alarms and
check.

Example: python benchmarks/burned_names.py ../shared/data --frames 150 --ocr-frames 30
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sono.curation.core.drawing import contact_sheet
from sono.curation.imaging.ocr import judge_print
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, crop_to_sector, find_sector
from sono.curation.phantom.patients import make_patient
from sono.curation.readers.files import read_source

Gray = NDArray[np.uint8]
FOLDERS = ("barcelona/Images/*.*", "nijmegen/**/*_HC.png")
HEIGHTS = (7, 8, 10, 13, 18, 24, 30)  # pixels of capitals
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "thin",
    "bold",
)
INKS = (255, 235, 190)
STYLES = ("plain", "shadow", "box")
CAPITALS = 0.729  # their height over the size of the font
STROKES, READ = QualityConfig(), QualityConfig(ocr=True)


class Burned(NamedTuple):
    """A frame with a burned-in line, the place of the line, and its pixels there.

    The place is slices of rows and columns.
    """

    gray: Gray
    place: tuple[slice, slice]
    ink: NDArray[np.bool_]


def real_frames(folder: Path, count: int | None) -> Iterator[tuple[str, Gray]]:
    """Names and frames, evenly taken from Barcelona and Nijmegen; all without a `count`."""
    paths = [path for pattern in FOLDERS for path in sorted(folder.glob(pattern))]
    for path in paths[:: max(1, len(paths) // count) if count else 1][:count]:
        yield path.name, read_source(str(path).encode()).frames[0].gray


def a_line(rng: np.random.Generator) -> str:
    """A name, a number or a date of a patient who does not exist."""
    patient = make_patient(int(rng.integers(1000)), "AB"[int(rng.integers(2))], 0)
    names = (
        f"{patient.surname} {patient.forename}",
        f"{patient.surname.upper()}, {patient.forename}",
        patient.surname,
    )
    return str(
        rng.choice(
            [
                *names,
                patient.mrn,
                f"ID {rng.integers(10**6, 10**7)}",
                f"{patient.exams[1].day:%d.%m.%Y}",
            ]
        )
    )


def cover(text: str, font: str, height: int) -> NDArray[np.float64]:
    """How much of each pixel [h, w] the letters cover, their capitals `height` pixels high."""
    if font in ("thin", "bold"):
        size, pen = height / 21, max(1, round(height / 12 * (1.6 if font == "bold" else 1)))
        (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, pen)
        page = np.zeros((tall + below + 2 * pen + 4, wide + 2 * pen + 4), np.uint8)
        cv2.putText(
            page,
            text,
            (pen + 2, tall + pen + 2),
            cv2.FONT_HERSHEY_SIMPLEX,
            size,
            255,
            pen,
            cv2.LINE_AA,
        )
        return page / 255.0
    letters = ImageFont.truetype(
        f"{mpl.get_data_path()}/fonts/ttf/{font}", max(6, round(height / CAPITALS))
    )
    x0, y0, x1, y1 = (round(edge) for edge in letters.getbbox(text))
    image = Image.new("L", (x1 - x0 + 8, y1 - y0 + 8))
    ImageDraw.Draw(image).text((4 - x0, 4 - y0), text, fill=255, font=letters)
    return np.asarray(image) / 255.0


def burn(gray: Gray, sector: Sector, height: int, rng: np.random.Generator) -> Burned:
    """The frame with one line at a random place, inside the sector if that is wide enough."""
    part = cover(a_line(rng), str(rng.choice(FONTS)), height)[: gray.shape[0], : gray.shape[1]]
    tall, wide = part.shape
    core = cv2.erode(sector.inside.astype(np.uint8), np.ones((tall, wide), np.uint8), borderValue=0)
    rows, columns = np.nonzero(core if core.any() else sector.inside)
    pick = int(rng.integers(len(rows)))
    y = int(np.clip(rows[pick] - tall // 2, 0, gray.shape[0] - tall))
    x = int(np.clip(columns[pick] - wide // 2, 0, gray.shape[1] - wide))
    place, style = (slice(y, y + tall), slice(x, x + wide)), rng.choice(STYLES)
    below = (
        gray[place]
        * {"plain": 1.0, "box": 0.0, "shadow": 1 - np.roll(part, (1, 1), (0, 1))}[str(style)]
    )
    written = gray.copy()
    written[place] = below * (1 - part) + part * int(rng.choice(INKS))
    if rng.integers(2):
        encoded = cv2.imencode(".jpg", written, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        written = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return Burned(written, place, part > 0.5)


def outcome(gray: Gray, config: QualityConfig, burned: Burned | None = None) -> str:
    """`held`, `painted` (nine tenths of the letters) or `missed`."""
    sector = find_sector(gray)
    x0, y0, x1, y1 = sector.box
    codes, _ = judge_print(crop_to_sector(gray, sector), sector.inside[y0:y1, x0:x1], config)
    if "text_in_sector" in codes:
        return "held"
    hidden = burned is not None and (~sector.inside[burned.place])[burned.ink].mean() >= 0.9
    return "painted" if hidden else "missed"


def recall(frames: list[Gray], height: int, config: QualityConfig) -> tuple[float, float, float]:
    """Shares of frames with letters of `height` pixels that are held, painted over and missed."""
    rng = np.random.default_rng(height)
    lines = [burn(gray, find_sector(gray), height, rng) for gray in frames]
    found = np.array([outcome(line.gray, config, line) for line in lines])
    held, painted, missed = (
        float(np.mean(found == name)) for name in ("held", "painted", "missed")
    )
    return held, painted, missed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument(
        "--ocr-frames", type=int, default=30, help="Tesseract takes 0.3 s a frame; 0 for none"
    )
    parser.add_argument(
        "--clean", type=int, default=None, help="clean frames looked at; all by default"
    )
    parser.add_argument(
        "--alarms", type=Path, help="write the clean frames that are held to this PNG"
    )
    given = parser.parse_args()
    frames = [gray for _, gray in real_frames(given.data, given.frames)]
    few = frames[:: max(1, len(frames) // max(1, given.ocr_frames))][: given.ocr_frames]
    print(f"letters   strokes alone ({len(frames)} frames)    with Tesseract ({len(few)} frames)")
    print(
        f"{'px':>7}   {'held':>6} {'painted':>8} {'missed':>7}    {'held':>6} {'painted':>8} "
        f"{'missed':>7}"
    )
    for height in HEIGHTS:
        shares = recall(frames, height, STROKES)
        second = recall(few, height, READ) if few else (np.nan,) * 3
        print(f"{height:>7}   {shares[0]:>6.3f} {shares[1]:>8.3f} {shares[2]:>7.3f}", end="    ")
        print(f"{second[0]:>6.3f} {second[1]:>8.3f} {second[2]:>7.3f}", flush=True)
    clean = list(real_frames(given.data, given.clean))
    held = [(gray, name) for name, gray in clean if outcome(gray, STROKES) == "held"]
    print(f"clean frames held: {len(held)} of {len(clean)} by strokes", end="")
    print(
        f", {sum(outcome(gray, READ) == 'held' for gray in few)} of {len(few)} with Tesseract"
        if few
        else ""
    )
    print("\n".join(name for _, name in held))
    if given.alarms and held:
        given.alarms.write_bytes(contact_sheet(held, 4, 320))


if __name__ == "__main__":
    main()
