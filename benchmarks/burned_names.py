"""How often a name, id or date burned into the sector is found, and what is held by mistake.

Lines in Latin, Cyrillic, Chinese and Arabic script are burned into random places of the sector of
real frames: 7 to 40 pixels high, upright and turned, 30 gray levels above their surroundings or
more, plain, with a shadow or in a box, half of them saved as JPEG of quality 60 afterwards. A line
is found if its frame is held (quarantined) or the line is painted over (at the border). Clean
frames that are held are false alarms, unless they really show text: write them with --alarms and
look at each. What is stored is searched once more: no readable word may be left.

Fonts: matplotlib's for Latin and Cyrillic; Noto CJK and Noto Arabic (Debian: fonts-noto-cjk,
fonts-noto-core) for the others, which are left out where their font is absent.

Example: python benchmarks/burned_names.py ../shared/data --lines 600
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sono.curation.core.drawing import contact_sheet
from sono.curation.core.reasons import status_of
from sono.curation.imaging.analysis import Examined, examine
from sono.curation.imaging.judged_text import LIKELY, is_harmless, is_text
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, find_sector
from sono.curation.imaging.text_detector import find_text, read_text
from sono.curation.phantom.patients import make_patient
from sono.curation.readers.files import Frame, read_source

Gray = NDArray[np.uint8]
FOLDERS = {
    "barcelona": "barcelona/Images/*.*",
    "nijmegen": "nijmegen/**/*_HC.png",
    "shenzhen": "shenzhen/**/*.png",
    "barcelona_head": "barcelona_head/images/*.png",
}
HEIGHTS = (7, 9, 12, 18, 28, 40)  # pixels of capitals
ANGLES = (0, 20, 45, 90, 180)
STYLES = ("faint", "plain", "shadow", "box")
CAPITALS = 0.729  # their height over the size of the font
_TTF = f"{mpl.get_data_path()}/fonts/ttf"
_NOTO = "/usr/share/fonts/{}/noto/Noto{}"
FONTS = {
    "latin": [f"{_TTF}/DejaVu{name}.ttf" for name in ("Sans", "Sans-Bold", "SansMono", "Serif")],
    "cyrillic": [f"{_TTF}/DejaVu{name}.ttf" for name in ("Sans", "Sans-Bold", "Serif")],
    "chinese": [
        _NOTO.format("opentype", f"{name}.ttc")
        for name in ("SansCJK-Regular", "SansCJK-Bold", "SerifCJK-Regular")
    ],
    "arabic": [
        _NOTO.format("truetype", f"{name}.ttf")
        for name in ("NaskhArabic-Regular", "SansArabic-Regular", "SansArabic-Bold")
    ],
}
NAMES = {
    "cyrillic": (
        "Иванова Петрова Сидорова Кузнецова Соколова Волкова Зайцева Морозова Шевченко Жукова",
        "Анна Мария Елена Ольга Наталья Юлия Ирина Светлана",
    ),
    "chinese": (
        "王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 马 朱 胡 郭 何 林",
        "伟明 芳华 秀娜 丽敏 桂静 英丽 艳强 洋磊 小平 玉兰",
    ),
    "arabic": (
        "محمد علي حسن إبراهيم العلي الحسيني المصري خليل سليمان عبدالله",
        "فاطمة مريم عائشة نور سارة ليلى زينب هدى أمينة خديجة",
    ),
}


class Cell(NamedTuple):
    """How a line is written."""

    script: str
    height: int
    angle: int
    style: str
    jpeg: bool


def real_frames(folder: Path, count: int | None) -> Iterator[tuple[str, Frame]]:
    """Names and frames, evenly taken from each set; all without a `count`."""
    for name, pattern in FOLDERS.items():
        paths = sorted(folder.glob(pattern))
        step = max(1, len(paths) * len(FOLDERS) // count) if count else 1
        for path in paths[::step]:
            yield f"{name}/{path.name}", read_source(str(path).encode()).frames[0]


def a_line(script: str, rng: np.random.Generator) -> str:
    """A name, a number or a date of a patient who does not exist."""
    if script == "latin":
        patient = make_patient(int(rng.integers(1000)), "AB"[int(rng.integers(2))], 0)
        name = f"{patient.surname} {patient.forename}"
        number = f"ID {rng.integers(10**6, 10**7)}"
        day = f"{patient.exams[1].day:%d.%m.%Y}"
        return str(rng.choice([name, name.upper(), patient.surname, patient.mrn, number, day]))
    last, first = (str(rng.choice(names.split())) for names in NAMES[script])
    if script == "chinese":
        return str(rng.choice([last + first, f"姓名：{last}{first}", f"{last}{first} 女"]))
    return f"{first} {last}" if script == "arabic" or rng.integers(2) else last


def cover(text: str, font: str, height: int, angle: int) -> tuple[NDArray[np.float64], Gray]:
    """How much of each pixel [h, w] the letters cover, and the box of the line; both turned."""
    letters = ImageFont.truetype(font, max(6, round(height / CAPITALS)))
    x0, y0, x1, y1 = (round(edge) for edge in letters.getbbox(text))
    image = Image.new("L", (x1 - x0 + 8, y1 - y0 + 8))
    ImageDraw.Draw(image).text((4 - x0, 4 - y0), text, fill=255, font=letters)
    box = Image.new("L", image.size, 255)
    turned, around = (
        np.asarray(one.rotate(angle, Image.Resampling.BICUBIC, expand=True)) for one in (image, box)
    )
    return turned / 255.0, np.asarray(around, np.uint8)


def burn(
    gray: Gray, sector: Sector, cell: Cell, rng: np.random.Generator
) -> tuple[Gray, NDArray[np.bool_]] | None:
    """The frame with one line in the sector, and the pixels of its letters; None if it is small."""
    font = str(rng.choice(FONTS[cell.script]))
    part, box = cover(a_line(cell.script, rng), font, cell.height, cell.angle)
    tall, wide = part.shape
    if tall >= gray.shape[0] or wide >= gray.shape[1]:
        return None
    core = cv2.erode(sector.inside.astype(np.uint8), np.ones((tall, wide), np.uint8), borderValue=0)
    rows, columns = np.nonzero(core if core.any() else sector.inside)
    pick = int(rng.integers(len(rows)))
    y = int(np.clip(rows[pick] - tall // 2, 0, gray.shape[0] - tall))
    x = int(np.clip(columns[pick] - wide // 2, 0, gray.shape[1] - wide))
    place = (slice(y, y + tall), slice(x, x + wide))
    below = gray[place] * {
        "box": 1 - box / 255.0,
        "shadow": 1 - np.roll(part, (1, 1), (0, 1)),
    }.get(cell.style, 1.0)
    near = cv2.dilate((part > 0.3).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    faint = float(np.percentile(below[near], 90)) + 30
    if faint > 255:  # the tissue is as bright as ink
        return None
    ink = faint if cell.style == "faint" else max(faint, float(rng.choice([255, 235, 190])))
    written = gray.copy()
    written[place] = np.clip(below * (1 - part) + part * ink, 0, 255)
    letters = np.zeros(gray.shape, np.bool_)
    letters[place] = part > 0.5
    if cell.jpeg:
        encoded = cv2.imencode(".jpg", written, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        written = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return written, letters


def looked_at(frame: Frame, config: QualityConfig) -> Examined:
    return examine(frame, (), config)


def is_found(gray: Gray, letters: NDArray[np.bool_], config: QualityConfig) -> bool:
    """Whether the frame is held for its text, or nine tenths of the letters are painted over."""
    found = looked_at(Frame(0, gray, None, None, None, "not_dicom"), config)
    if "text_in_sector" in found.codes:
        return True
    return found.sector is not None and bool((~found.sector.inside)[letters].mean() >= 0.9)


def measure_recall(frames: list[Gray], count: int, config: QualityConfig) -> None:
    """Print the share of lines found, by height and angle, and by each other property."""
    scripts = [script for script, fonts in FONTS.items() if Path(fonts[0]).is_file()]
    for script in FONTS.keys() - set(scripts):
        print(f"left out: {script}, because {FONTS[script][0]} is not installed")
    rng = np.random.default_rng(3)
    sectors = [find_sector(gray) for gray in frames]
    results: list[tuple[Cell, bool]] = []
    for number in range(count):
        cell = Cell(
            scripts[number % len(scripts)],
            int(rng.choice(HEIGHTS)),
            0 if number % 3 == 0 else int(rng.choice(ANGLES)),
            str(rng.choice(STYLES)),
            bool(rng.integers(2)),
        )
        pick = number % len(frames)
        burned = burn(frames[pick], sectors[pick], cell, rng)
        if burned is not None:
            results.append((cell, is_found(*burned, config)))
    upright = [found for cell, found in results if cell.angle in (0, 180) and cell.height >= 9]
    turned = [found for cell, found in results if cell.angle not in (0, 180) and cell.height >= 12]
    print(f"upright, from 9 pixels: {np.mean(upright):.3f} of {len(upright)}")
    print(f"turned, from 12 pixels: {np.mean(turned):.3f} of {len(turned)}")
    for name in Cell._fields:
        shares: defaultdict[str, list[bool]] = defaultdict(list)
        for cell, found in results:
            way = "" if name == "angle" else "upright" if cell.angle in (0, 180) else "turned"
            shares[f"{getattr(cell, name)!s:>9} {way}"].append(found)
        for key, hits in sorted(shares.items()):
            print(f"{name:>7} {key:18} {np.mean(hits):.3f} of {len(hits)}", flush=True)


def measure_clean(
    data: Path, count: int | None, config: QualityConfig, alarms: Path | None
) -> None:
    """Print how many clean frames are held, what is left in stored frames, and the time."""
    held, left, total, seconds = [], [], 0, 0.0
    for name, frame in real_frames(data, count):
        start = time.process_time()
        found = looked_at(frame, config)
        seconds += time.process_time() - start
        total += 1
        if "text_in_sector" in found.codes:
            held.append((frame.gray, f"{name} {' | '.join(found.printed or ())}"))
        elif found.crop is not None and status_of(found.codes) == "accepted":
            again = [read_text(found.crop, text) for text in find_text(found.crop, least=LIKELY)]
            left += [(name, text) for text in again if is_text(text) and not is_harmless(text)]
    print(f"clean frames held: {len(held)} of {total}; {1000 * seconds / total:.0f} ms a frame")
    print("\n".join(name for _, name in held))
    print(f"readable text left in stored frames: {len(left)}")
    for name, text in left:
        print(f"  {name}: '{text.words}' {text.confidence:.2f}, likeness {text.likeness:.2f}")
    if held and alarms:
        alarms.write_bytes(contact_sheet(held, 4, 480))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--text", choices=("detector", "rules"), default="detector")
    parser.add_argument("--lines", type=int, default=600, help="lines that are burned in")
    parser.add_argument("--frames", type=int, default=60, help="frames that get such lines")
    parser.add_argument(
        "--clean", type=int, default=None, help="clean frames looked at; all by default"
    )
    parser.add_argument("--alarms", type=Path, help="the sheet of false alarms to write")
    given = parser.parse_args()
    config = QualityConfig(text=given.text)
    if given.lines:
        frames = [frame.gray for _, frame in real_frames(given.data, given.frames)]
        measure_recall(frames, given.lines, config)
    if given.clean != 0:
        measure_clean(given.data, given.clean, config, given.alarms)


if __name__ == "__main__":
    main()
