"""Fit the score `known_kind` and report its accuracy on unseen hospitals and kinds of pictures.

Fetal frames of three hospitals are compared with breast ultrasound, photographs (parts of three)
and pictures drawn here. Adult ultrasound and CT or MR sections are never trained on. Every table
names what was left out of the fit; the threshold comes only from the training part: 2 in 1,000
frames of each of its hospitals, scored without it, are below.

Example: python benchmarks/known_kind.py ../shared/data --write
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pydicom
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sono.benchmarks import defects
from sono.curation.core.atomic import write_bytes
from sono.curation.imaging.ood import MODEL, features, terms_of
from sono.curation.imaging.sector import crop_to_sector, find_sector
from sono.curation.readers.files import Limits, read_source

Gray = NDArray[np.uint8]
Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

HOSPITALS = ("barcelona", "nijmegen", "shenzhen")
TRAINED = ("breast", "photo", "drawn")
UNTRAINED = ("adult", "section")
STRENGTH = 0.003  # inverse of the ridge
TAIL = 0.002  # share of an unseen hospital's frames that may lie below the threshold
FOLDS = 5
DICOM_ADULT = ("US1_J2KR", "YBR_422", "color-pl", "examples_ybr_color", "gdcm-US-ALOKA-16")
DICOM_SECTIONS = ("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "MR_small", "examples_overlay")
PARTS = 16  # of each photograph
HEADER = """\
# The numbers of sono/curation/imaging/ood.py, written by benchmarks/known_kind.py; do not edit by hand.
# A logistic regression: fetal ultrasound of the hospitals below against the other pictures below. It holds no pixels,
# only means, spreads and weights over all. Trained on, each hospital and each other kind with equal weight:
"""
ORIGINS = {
    "barcelona": (
        "FETAL_PLANES_DB (Burgos-Artizzu 2020), official train split, and Alzubaidi 2023; CC BY 4.0"
    ),
    "nijmegen": "HC18 (van den Heuvel 2018); CC BY 4.0",
    "shenzhen": "fetal NT frames (Cui & Dong 2022); CC BY 4.0",
    "breast": "BUSI (Al-Dhabyani 2020); CC BY 4.0",
    "photo": "parts of china.jpg and flower.jpg (scikit-learn; danielbuechele and vultilion, CC BY "
    "2.0) and of "
    "grace_hopper.jpg (matplotlib; US Navy, public domain)",
    "drawn": "pages, charts, screens, noise and gradients drawn by benchmarks/known_kind.py",
}


class Example(NamedTuple):
    """A picture as a file contains it.

    Pictures of one `source` (patient, file) are never on both sides of a split.
    """

    kind: str
    source: str
    gray: Gray


class Examples(NamedTuple):
    """Features [N, F] and what the pictures are [N]."""

    found: Reals
    kind: NDArray[np.str_]
    source: NDArray[np.str_]

    @property
    def fetal(self) -> Flags:
        return np.isin(self.kind, HOSPITALS)

    def part(self, use: Flags) -> "Examples":
        return Examples(self.found[use], self.kind[use], self.source[use])


Score = Callable[[Reals], Reals]


def frames_of(path: Path, step: int = 1) -> list[Gray]:
    """Every `step`-th frame of a file, read as `sono qc` reads it."""
    frames = read_source(os.fsencode(path), Limits(), False).frames
    return [frames[index].gray for index in range(0, len(frames), step)]


def real_frames(data: Path) -> Iterator[Example]:
    """Fetal, breast and adult frames of the folder of public data."""
    folders = {
        "barcelona": ("barcelona/Images", "barcelona_head/images"),
        "nijmegen": ("nijmegen/training_set",),
        "shenzhen": ("shenzhen/images",),
        "breast": ("breast_out_of_domain",),
    }
    for kind, parts in folders.items():
        for path in (path for part in parts for path in sorted((data / part).iterdir())):
            patient = path.stem.split("_")[0] if kind in ("barcelona", "nijmegen") else path.stem
            yield Example(kind, patient, frames_of(path)[0])
    for name in DICOM_ADULT:
        yield from (
            Example("adult", name, gray) for gray in frames_of(data / "dicom" / f"{name}.dcm", 6)
        )


def sections() -> Iterator[Example]:
    """CT and MR slices among the test files of pydicom."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for name in DICOM_SECTIONS:
        yield Example("section", name, frames_of(folder / f"{name}.dcm")[0])


def photos(rng: np.random.Generator) -> Iterator[Example]:
    """The three photographs and parts of them, half of them mirrored."""
    hopper = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    pictures = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    pictures["hopper"] = cv2.imdecode(
        np.frombuffer(hopper.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB
    )
    for name, rgb in pictures.items():
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        yield Example("photo", name, gray)
        for number in range(PARTS - 1):
            height, width = (int(side * rng.uniform(0.3, 0.9)) for side in gray.shape)
            y, x = rng.integers(0, gray.shape[0] - height), rng.integers(0, gray.shape[1] - width)
            part = gray[y : y + height, x : x + width]
            yield Example(
                "photo", name, cv2.resize(part[:, ::-1] if number % 2 else part, (640, 480))
            )


def drawn(rng: np.random.Generator) -> Iterator[Example]:
    """Other files in a folder of exports: printed pages, charts, screens, and plain noise."""
    makers = {"page": page, "chart": chart, "screen": screen, "noise": noise, "gradient": gradient}
    for name, make in makers.items():
        yield from (Example("drawn", name, make(rng)) for _ in range(16))


def page(rng: np.random.Generator) -> Gray:
    """Lines of letters, dark on light or light on dark."""
    paper, ink = (250, 10) if rng.random() < 0.5 else (20, 230)
    gray = np.full((720, 960), paper, np.uint8)
    size = rng.uniform(0.35, 0.9)
    for y in range(40, 720, round(45 * size)):
        if rng.random() < 0.85:
            cv2.putText(
                gray, _words(rng, rng.integers(2, 14)), (30, y), 0, size, ink, 1, cv2.LINE_AA
            )
    return gray


def chart(rng: np.random.Generator) -> Gray:
    """Axes with a curve or bars."""
    gray = np.full((480, 640), 255, np.uint8)
    cv2.rectangle(gray, (60, 40), (600, 430), 0, 1)
    for _ in range(rng.integers(1, 5)):
        heights = 235 + np.clip(rng.normal(0, 12, 270).cumsum(), -190, 190)
        if rng.random() < 0.5:
            curve = np.stack([np.arange(60, 600, 2), heights], axis=1).astype(np.int32)
            cv2.polylines(gray, [curve], False, int(rng.integers(0, 150)), 2, cv2.LINE_AA)
        else:
            for x, top in zip(range(70, 590, 40), heights[::20], strict=False):
                cv2.rectangle(gray, (x, int(top)), (x + 28, 430), int(rng.integers(60, 200)), -1)
    for tick in range(6):
        cv2.putText(gray, f"{tick / 5:.1f}", (20, 430 - 75 * tick), 0, 0.4, 0, 1, cv2.LINE_AA)
    return gray


def screen(rng: np.random.Generator) -> Gray:
    """Windows of a desktop with words in them."""
    gray = np.full((720, 1280), int(rng.integers(0, 235)), np.uint8)
    for _ in range(rng.integers(3, 10)):
        x, y, width, height = (
            int(rng.integers(*span)) for span in ((0, 1000), (0, 600), (80, 700), (60, 500))
        )
        tone = int(rng.integers(0, 255))
        cv2.rectangle(gray, (x, y), (x + width, y + height), tone, -1)
        for line in range(height // 24):
            place = (x + 8, y + 20 + 24 * line)
            cv2.putText(
                gray, _words(rng, width // 70), place, 0, 0.45, (tone + 128) % 256, 1, cv2.LINE_AA
            )
    return gray


def noise(rng: np.random.Generator) -> Gray:
    """Random tones with a power-law spectrum, from white noise to clouds."""
    down, across = np.fft.fftfreq(480)[:, None], np.fft.fftfreq(640)
    fall = np.maximum(np.hypot(down, across), 1 / 640) ** rng.uniform(0, 2)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(480, 640))) / fall).real
    return np.clip(110 + 50 * (field - field.mean()) / field.std(), 0, 255).astype(np.uint8)


def gradient(rng: np.random.Generator) -> Gray:
    """A shaded background."""
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.cos(turn) * np.linspace(0, 1, 640) + np.sin(turn) * np.linspace(0, 1, 480)[:, None]
    tones = 255 * (slope - slope.min()) / np.ptp(slope)
    return np.clip(tones + rng.normal(0, 3, slope.shape), 0, 255).astype(np.uint8)


def _words(rng: np.random.Generator, count: int) -> str:
    letters = list("eeeaaatttoinshrdlucmwfgypbvk")
    return " ".join("".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(count))


def described(examples: Iterator[Example]) -> Examples:
    """The features of each picture, cropped to its sector as `sono qc` does."""
    kinds, sources, rows = [], [], []
    for example in examples:
        kinds.append(example.kind)
        sources.append(f"{example.kind} {example.source}")
        rows.append(
            list(features(crop_to_sector(example.gray, find_sector(example.gray))).values())
        )
    return Examples(np.array(rows), np.array(kinds), np.array(sources))


def equal_weights(examples: Examples) -> Reals:
    """Weights that balance fetal and other pictures, and the hospitals and kinds among them."""
    kinds, place, count = np.unique(examples.kind, return_inverse=True, return_counts=True)
    share = np.where(
        np.isin(kinds, HOSPITALS),
        np.isin(kinds, HOSPITALS).sum(),
        (~np.isin(kinds, HOSPITALS)).sum(),
    )
    return np.asarray(len(examples.kind) / (2 * share * count))[place]


def fit(examples: Examples) -> tuple[Reals, Reals, Reals, float]:
    """Mean and spread [F] of the features, the weights [2 F] of their terms and the bias."""
    weights = equal_weights(examples)
    mean = np.average(examples.found, axis=0, weights=weights)
    spread = np.sqrt(np.average((examples.found - mean) ** 2, axis=0, weights=weights)) + 1e-3
    model = LogisticRegression(C=STRENGTH, max_iter=5000)
    model.fit(terms_of(examples.found, mean, spread), examples.fetal, weights)
    return mean, spread, model.coef_[0], float(model.intercept_[0])


def scorer(examples: Examples) -> Score:
    """The score of features [N, F] after a fit to `examples`."""
    mean, spread, weights, bias = fit(examples)
    return lambda found: 1 / (1 + np.exp(-(bias + terms_of(found, mean, spread) @ weights)))


def threshold(train: Examples) -> float:
    """The score below which the TAIL of each hospital of `train` lies.

    Scores are by a fit without that hospital.
    """
    tails = []
    for hospital in np.unique(train.kind[train.fetal]):
        own = train.kind == hospital
        tails.append(float(np.quantile(scorer(train.part(~own))(train.found[own]), TAIL)))
    return min(tails)


def leave_out(examples: Examples) -> pd.DataFrame:
    """One row for each hospital and each kind of other picture, left out of fit and threshold."""
    rows = []
    for hospital in HOSPITALS:
        for kind in (*TRAINED, *UNTRAINED):
            seen = ~np.isin(examples.kind, (hospital, kind, *UNTRAINED))
            score, low = scorer(examples.part(seen)), threshold(examples.part(seen))
            own, other = (score(examples.found[examples.kind == name]) for name in (hospital, kind))
            area = roc_auc_score(np.r_[np.ones(len(own)), np.zeros(len(other))], np.r_[own, other])
            alarms, found = float((own < low).mean()), float((other < low).mean())
            rows.append(
                {
                    "hospital": hospital,
                    "kind": kind,
                    "AUC": area,
                    "false alarms": alarms,
                    "found": found,
                }
            )
    return pd.DataFrame(rows)


def new_patients(examples: Examples) -> pd.DataFrame:
    """The share below the threshold for new patients or files of known kinds, in FOLDS folds."""
    names = np.unique(examples.source)
    fold_of = dict(
        zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True)
    )
    folds = np.array([fold_of[name] for name in examples.source])
    below = np.zeros(len(folds), np.bool_)
    for fold in range(FOLDS):
        train = examples.part((folds != fold) & ~np.isin(examples.kind, UNTRAINED))
        below[folds == fold] = scorer(train)(examples.found[folds == fold]) < threshold(train)
    table = pd.DataFrame({"kind": examples.kind, "source": examples.source, "below": below})
    return table.groupby("kind").agg(
        pictures=("below", "size"), sources=("source", "nunique"), below=("below", "mean")
    )


def after_defects(data: Path, examples: Examples) -> pd.Series:
    """The share below the threshold of 60 frames with each planted defect.

    The fit has seen these frames undamaged.
    """
    score, low = scorer(examples), threshold(examples)
    shares = {}
    for defect in (defect for defect in defects.DEFECTS if defect.name != "truncated file"):
        rng, rows = np.random.default_rng(0), []
        for path in defects.choose(data, 60, 0):
            gray = frames_of(path)[0]
            planted = defect.plant(gray, find_sector(gray), rng)
            rows.append(list(features(crop_to_sector(planted, find_sector(planted))).values()))
        shares[defect.name] = float((score(np.array(rows)) < low).mean())
    return pd.Series(shares)


def write_model(examples: Examples, names: list[str]) -> None:
    """Write the fit to all training data, with its provenance, as the file that ships."""
    mean, spread, weights, bias = fit(examples)
    lines = [HEADER]
    for kind, origin in ORIGINS.items():
        own = examples.kind == kind
        sources = len(np.unique(examples.source[own]))
        lines.append(f"# {kind}: {own.sum()} pictures of {sources} sources. {origin}\n")
    lines.append(
        f"\nbias = {bias:.5f}\n\n[features]  # mean, spread, weight, weight of the square less "
        "one\n"
    )
    columns = zip(names, mean, spread, *np.split(weights, 2), strict=True)
    lines += [
        f"{name} = [{', '.join(f'{value:.5f}' for value in values)}]\n" for name, *values in columns
    ]
    write_bytes(MODEL, "".join(lines).encode())


def main() -> None:
    """Describe the pictures, print the tables, perhaps write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="write curation/imaging/ood.toml")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = [*real_frames(options.data), *sections(), *photos(rng), *drawn(rng)]
    examples = described(iter(pictures))
    print(
        "Neither hospital nor kind seen:",
        leave_out(examples).round(3).to_string(index=False),
        sep="\n",
    )
    print("\nPatient or file not seen:", new_patients(examples).round(3).to_string(), sep="\n")
    trained = examples.part(~np.isin(examples.kind, UNTRAINED))
    print(
        "\nFetal frames with a defect:",
        after_defects(options.data, trained).round(3).to_string(),
        sep="\n",
    )
    print(f"\nThreshold after all that is trained on: {threshold(trained):.3f}")
    if options.write:
        write_model(trained, list(features(pictures[0].gray)))


if __name__ == "__main__":
    main()
