"""Score image features that others have published, as the HDF5 files of SonoCLIP, one per image.

Each file has `image_features` [D], `label` and `class_name`. Zero-shot needs the text features of
the classes: those of the run of an imported SonoCLIP checkpoint (`--run`, with the five prompts of
its test script), or a NumPy file whose keys are the class names, each [D] or [prompts, D]
(`--texts`). Without them, the features are scored by their nearest neighbors, each image by all
others. Features can be scored, but not how they were made: the files name neither patient nor
mask, so intervals are over images and too narrow, neighbors may be of the same patient, and a mask
that reveals the class cannot be seen.

Example: python benchmarks/published_features.py FEATURES --run study/runs/sonoclip
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError, counted
from sono.evaluation.statistics.bootstrap import (
    Draws,
    Interval,
    Sample,
    clustered_intervals,
    macro,
    micro,
)
from sono.evaluation.statistics.metrics import top_k_hits, unit

SUFFIXES = (".h5", ".hdf5")
NEIGHBORS = 10
KEYS = ("image_features", "label", "class_name")
# of test_sonoclip_ul.py
PROMPTS = (
    "A fetal ultrasound {} view.",
    "An ultrasound image of the fetal {} view.",
    "A standard fetal ultrasound scan showing the {} view.",
    "This is a fetal ultrasound image in the {} view.",
    "A prenatal ultrasound image of the fetal {} view.",
)
Reals = NDArray[np.float64]


def read_features(folder: Path) -> tuple[Reals, NDArray[np.int64], list[str], Counter[str]]:
    """Unit features [n, D], classes [n], class names, and why files were left out.

    Raises SonoError if h5py is not installed, no file can be used, or a label has two names.
    """
    try:
        import h5py
    except ImportError as error:
        raise SonoError("HDF5 files need h5py: pip install h5py") from error
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SonoError(f"{folder}: no file ends in {' or '.join(SUFFIXES)}; give another folder")
    rows: list[Reals] = []
    labels: list[tuple[int, str]] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        try:
            with h5py.File(path, "r") as file:
                feature, label, name = _parsed(file)
            if rows and len(feature) != len(rows[0]):
                raise ValueError(f"{len(feature)} numbers instead of {len(rows[0])}")
        except (OSError, KeyError, TypeError, ValueError) as error:
            left_out[_why(error)] += 1
            continue
        rows.append(feature)
        labels.append((label, name))
    if not rows:
        raise SonoError(
            f"{folder}: none of {counted(len(paths), 'file')} can be used: {_listed(left_out)}"
        )
    names = dict(labels)
    if len(names) != len(set(labels)) or len(set(names.values())) != len(names):
        raise SonoError(f"{folder}: a label has two class names, or a class name two labels")
    order = sorted(names)
    classes = np.searchsorted(order, [label for label, _ in labels])
    return unit(np.stack(rows)), classes, [names[label] for label in order], left_out


def _parsed(file: Any) -> tuple[Reals, int, str]:
    """Feature [D], label and class name of a file."""
    if missing := [key for key in KEYS if key not in file]:
        raise ValueError(f"no {missing[0]}")
    feature = np.asarray(file["image_features"], np.float64).ravel()
    if not feature.size or not np.isfinite(feature).all() or not feature.any():
        raise ValueError("features that are not finite, or all 0")
    name = np.asarray(file["class_name"]).ravel()[0]
    text = name.decode("utf-8") if isinstance(name, bytes) else str(name)
    return feature, int(np.asarray(file["label"]).ravel()[0]), text


def _why(error: Exception) -> str:
    return "not readable as HDF5" if isinstance(error, OSError) else str(error)


def _listed(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} with {why}" for why, count in left_out.most_common())


def read_texts(path: Path, names: Sequence[str], size: int) -> Reals:
    """Unit text features [classes, D]: the mean of the unit features of each class's prompts."""
    try:
        with np.load(path, allow_pickle=False) as known:
            arrays = {name: np.asarray(known[name], np.float64) for name in known.files}
    except (OSError, ValueError, AttributeError) as error:
        raise SonoError(f"{path}: not a NumPy file of arrays by name (.npz)") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise SonoError(f"{path}: no text features of {', '.join(missing)}")
    wrong = [name for name in names if arrays[name].shape[-1:] != (size,)]
    if wrong or not all(np.isfinite(arrays[name]).all() for name in names):
        raise SonoError(
            f"{path}: {', '.join(wrong) or 'some'} not finite, or not of {size} numbers"
        )
    return unit(np.stack([unit(np.atleast_2d(arrays[name])).mean(axis=0) for name in names]))


def encode_texts(run: Path, names: Sequence[str]) -> Reals:
    """Unit text features [classes, D] of a run, with the prompts of SonoCLIP's test script."""
    from sono.evaluation.zero_shot import class_features
    from sono.training.model.checkpoints import load_model

    model, _ = load_model(run)
    prompts = [[prompt.format(name) for prompt in PROMPTS] for name in names]
    return np.asarray(class_features(model.eval(), prompts), np.float64)


def neighbor_scores(features: Reals, classes: NDArray[np.int64]) -> Reals:
    """The share of each class [n, classes] among the nearest of the other images.

    Their cosines break ties.
    """
    similar = features @ features.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1)[:, : min(NEIGHBORS, len(features) - 1)]
    found = np.zeros((len(features), int(classes.max()) + 1))
    for column in nearest.T:
        rows = np.arange(len(features))
        found[rows, classes[column]] += 1 + 1e-3 * similar[rows, column]
    return found / NEIGHBORS


def scores_of(scores: Reals, classes: NDArray[np.int64]) -> dict[str, Interval]:
    """Top-1 and, of more than eight classes, Top-5, with intervals over images."""
    ranks = (1, 5) if scores.shape[1] > 8 else (1,)
    hits = np.column_stack([top_k_hits(scores, classes, k) for k in ranks]).astype(np.float64)
    sample = Sample(hits, classes, np.arange(len(classes)))
    statistics = {
        f"Top-{k} {kind.__name__}": kind(column)
        for column, k in enumerate(ranks)
        for kind in (macro, micro)
    }
    return clustered_intervals(sample, statistics, Draws(1000))


def report(folder: Path, texts: Path | None, run: Path | None) -> Iterator[str]:
    """The lines of the result."""
    features, classes, names, left_out = read_features(folder)
    if len(names) < 2:
        raise SonoError(f"{folder}: all images are of one class ({names[0]}); nothing to score")
    size = features.shape[1]
    yield f"{counted(len(classes), 'image')}, {len(names)} classes, {size} numbers each"
    if left_out:
        yield f"left out: {_listed(left_out)}"
    if run is None and texts is None:
        yield f"{NEIGHBORS} nearest neighbors among all other images (zero-shot: give --texts):"
        scores = neighbor_scores(features, classes)
    else:
        yield "zero-shot:"
        known = encode_texts(run, names) if run else read_texts(texts or folder, names, size)
        if known.shape[1] != size:
            raise SonoError(f"{run}: its texts have {known.shape[1]} numbers, the images {size}")
        scores = features @ known.T
    for title, value in scores_of(scores, classes).items():
        limits = f"[{100 * value.low:.2f}, {100 * value.high:.2f}]"
        yield f"  {title} {100 * value.point:.2f} {limits} over images"
    yield (
        "not known from such files: patients (intervals are too narrow), the masks given to the "
        "model, and whether images were in its training"
    )


def main() -> None:
    """Print the scores of a folder of feature files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, help="text features by class name (.npz)")
    parser.add_argument("--run", type=Path, help="run of an imported checkpoint, for its texts")
    options = parser.parse_args()
    try:
        for line in report(options.folder, options.texts, options.run):
            print(line)
    except SonoError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
