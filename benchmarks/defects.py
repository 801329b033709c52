"""Recall and precision of `sono qc` on defects planted in real frames.

Each clean frame is written once as it is and once with every defect, and all files go through the
complete analysis, from the file's bytes to the reason codes. A clean frame may really have
calipers, shadow or compression: anything reported on it still counts as a false alarm, so the
precision is a lower bound (write them with --alarms and check).

Example: python benchmarks/defects.py ../shared/data --frames 300 --alarms /tmp/alarms
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.drawing import contact_sheet
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.tables import Row
from sono.curation.imaging.analysis import AnalysisTask, analyze, crashed
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, across_sector, find_sector

Gray = NDArray[np.uint8]
FOLDERS = ("barcelona/Images", "nijmegen", "shenzhen")
INK = 255


class Defect(NamedTuple):
    """What is done to a frame, and the codes of which any one is a hit."""

    name: str
    plant: Callable[[Gray, Sector, np.random.Generator], Gray]
    codes: frozenset[str]


def blur(sigma: float, gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Out of focus by `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma), np.uint8)


def gain(factor: float, gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Another receive gain, saturating at white."""
    return np.clip(gray * factor, 0, 255).astype(np.uint8)


def shadow(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Half of the sector's width with a tenth of its echoes, from a fifth of the depth down."""
    x0, y0, x1, y1 = sector.box
    position = across_sector(sector)
    left = rng.uniform(0, 0.5)
    soft = np.clip(np.minimum(position - left, left + 0.5 - position) / 0.03, 0, 1)
    rows = np.linspace(0, 1, y1 - y0)[:, None]
    deep = np.clip((rows - 0.2) / 0.05, 0, 1)
    dimmed = gray.copy()
    dimmed[y0:y1, x0:x1] = gray[y0:y1, x0:x1] * (1 - 0.9 * soft * deep)
    return dimmed


def calipers(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Two crosses and the dotted line between them."""
    drawn, (start, end) = gray.copy(), (_place(sector, rng, 30), _place(sector, rng, 30))
    for x, y in (start, end):
        cv2.line(drawn, (x - 7, y), (x + 7, y), INK, 1)
        cv2.line(drawn, (x, y - 7), (x, y + 7), INK, 1)
    steps = max(2, round(float(np.hypot(end[0] - start[0], end[1] - start[1])) / 8))
    for share in np.linspace(0, 1, steps):
        x, y = (round(a + share * (b - a)) for a, b in zip(start, end, strict=True))
        drawn[y : y + 2, x : x + 2] = INK
    return drawn


def text(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """A name and a number in the scanner's letters."""
    drawn = gray.copy()
    words = f"{''.join(rng.choice(list('ABDEGHKLMNRST'), 7))} {rng.integers(10**5, 10**6)}"
    x, y = _place(sector, rng, 100)
    cv2.putText(
        drawn, words, (max(0, x - 100), y), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA
    )
    return drawn


def _place(sector: Sector, rng: np.random.Generator, margin: int) -> tuple[int, int]:
    """A point inside the sector, `margin` pixels from its left and right border if possible."""
    core = cv2.erode(
        sector.inside.astype(np.uint8), np.ones((9, 2 * margin + 1), np.uint8), borderValue=0
    )
    rows, columns = np.nonzero(core if core.any() else sector.inside)
    pick = int(rng.integers(len(rows)))
    return int(columns[pick]), int(rows[pick])


def shrink(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """A thumbnail of a quarter of the size."""
    return np.asarray(
        cv2.resize(gray, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8
    )


def shrink_and_enlarge(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """A thumbnail brought back to the old size."""
    small = shrink(gray, sector, rng)
    return np.asarray(cv2.resize(small, gray.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def jpeg(quality: int, gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Saved as a poor JPEG once upon a time."""
    encoded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def same(gray: Gray, sector: Sector, rng: np.random.Generator) -> Gray:
    """Nothing is done to the pixels."""
    return gray


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


DEFECTS = (
    Defect("blur, sigma 3", partial(blur, 3.0), _codes("blurred")),
    Defect("blur, sigma 6", partial(blur, 6.0), _codes("blurred")),
    Defect("gain -60 %", partial(gain, 0.4), _codes("low_gain", "too_dark")),
    Defect("gain +60 %", partial(gain, 1.6), _codes("clipped", "too_bright")),
    Defect("shadow over half", shadow, _codes("shadowed")),
    Defect("calipers", calipers, _codes("overlay", "text_in_sector")),
    Defect("text", text, _codes("overlay", "text_in_sector")),
    Defect("truncated file", same, _codes("truncated")),
    Defect("shrunk to a quarter", shrink, _codes("low_resolution", "too_small")),
    Defect("shrunk and enlarged", shrink_and_enlarge, _codes("soft", "blurred")),
    Defect("JPEG quality 10", partial(jpeg, 10), _codes("compressed")),
)


def choose(data: Path, count: int, seed: int) -> list[Path]:
    """`count` frames of all folders, each folder by its share, drawn by `seed`.

    Mask pictures are left out.
    """
    rng = np.random.default_rng(seed)
    kinds = {".png", ".jpg", ".jpeg", ".bmp", ".tif"}
    pools = []
    for folder in FOLDERS:
        files = sorted(path for path in (data / folder).rglob("*") if path.suffix.lower() in kinds)
        pools.append([path for path in files if "mask" not in str(path.relative_to(data)).lower()])
    total = sum(map(len, pools))
    return [
        pool[i]
        for pool in pools
        for i in sorted(rng.permutation(len(pool))[: round(count * len(pool) / total)])
    ]


def _read(path: Path) -> Gray:
    return np.asarray(
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8
    )


def write_files(frames: list[Path], folder: Path, seed: int) -> Iterator[tuple[bytes, int, str]]:
    """Path, frame number and defect ("" for none) of each file written."""
    for number, path in enumerate(frames):
        gray = _read(path)
        sector, rng = find_sector(gray), np.random.default_rng([seed, number])
        for defect in (None, *DEFECTS):
            name = defect.name if defect else ""
            planted = defect.plant(gray, sector, rng) if defect else gray
            content = cv2.imencode(".png", planted)[1].tobytes()
            file = folder / f"{number}-{name or 'clean'}.png"
            file.write_bytes(
                content[: len(content) * 6 // 10] if name == "truncated file" else content
            )
            yield os.fsencode(file), number, name


def main() -> None:
    """Plant, analyze, count, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="worker processes; else one a core")
    parser.add_argument(
        "--alarms",
        type=Path,
        help="contact sheets of the clean frames that are reported, a code each",
    )
    parser.add_argument("--measures", type=Path, help="write every measure of every file as CSV")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = list(
            write_files(choose(options.data, options.frames, options.seed), folder, options.seed)
        )
        rows = analyse_all(
            [path for path, _, _ in files], folder, Engine.create(options.jobs, None)
        )
        table = pd.DataFrame(
            [{**rows[path], "number": number, "defect": defect} for path, number, defect in files]
        )
        if options.alarms:
            write_alarms(table, options.alarms)
    if options.measures:
        numbers = table.select_dtypes("number").columns
        table[["defect", *numbers]].to_csv(options.measures, index=False)
    print(score(table).to_string(index=False))


def analyse_all(paths: list[bytes], folder: Path, engine: Engine) -> dict[bytes, Row]:
    """The first row of each file."""
    task = AnalysisTask(
        os.fsencode(folder), bytes(32), folder / "frames", folder / "quarantine", QualityConfig()
    )
    batches = run_batches(engine, partial(analyze, task), paths, partial(crashed, task), "defects")
    return {rows[0]["path"]: rows[0] for batch in batches for rows in batch}


def score(table: pd.DataFrame) -> pd.DataFrame:
    """Recall and precision of each defect, and the share of clean frames reported."""
    clean = table[table["defect"] == ""]
    lines = []
    for defect in DEFECTS:
        planted = table[table["defect"] == defect.name]
        hits, alarms = (
            int(part["reasons"].map(lambda codes, d=defect: bool(d.codes & set(codes))).sum())
            for part in (planted, clean)
        )
        lines.append(
            {
                "defect": defect.name,
                "codes": " ".join(sorted(defect.codes)),
                "frames": len(planted),
                "recall": hits / len(planted),
                "precision": hits / max(hits + alarms, 1),
                "clean reported": alarms,
            }
        )
    return pd.DataFrame(lines).round(3)


def write_alarms(table: pd.DataFrame, target: Path) -> None:
    """A contact sheet of the clean frames under each code."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    clean = table[table["defect"] == ""]
    for code in sorted(set(clean["reasons"].explode().dropna())):
        own = clean[clean["reasons"].map(lambda codes, code=code: code in codes)].head(48)
        tiles = [
            (_read(Path(os.fsdecode(path))), str(number))
            for path, number in zip(own["path"], own["number"], strict=True)
        ]
        (target / f"{code}.png").write_bytes(contact_sheet(tiles, 8, 220))


if __name__ == "__main__":
    main()
