"""Score predictions that others have published with the metrics of `sono eval`.

FetalCLIP ships one JSON file per task in `zero_shot_planes_db`, each with the lists `prediction`
and `label`. The files name neither images nor patients, so intervals over patients cannot be given;
the intervals over images below are too narrow, since FETAL_PLANES_DB has about seven per patient.

Example: python benchmarks/published_scores.py FetalCLIP/zero_shot_planes_db
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.statistics.bootstrap import Draws, Sample, clustered_intervals, macro
from sono.evaluation.statistics.metrics import UNDECIDED, confusion, macro_f1

FILES = {
    "five planes": "test_five_planes_prediction.json",
    "brain planes": "test_brain_subplanes_prediction.json",
}


def class_f1(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """F1 of each class, of confusion counts [..., classes, classes + 1]."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    claimed = matrix.sum(axis=-1) + matrix[..., :-1].sum(axis=-2)
    return np.asarray(2 * right / np.maximum(claimed, 1))


def main() -> None:
    """Print macro F1, accuracy and recall of each task, and the mean F1 over all classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    scores: list[float] = []
    for task, name in FILES.items():
        found = json.loads((options.folder / name).read_text(encoding="utf-8"))
        classes, truth = np.unique(found["label"], return_inverse=True)
        places = {str(label): place for place, label in enumerate(classes)}
        # an answer that is no label, as a distractor, is wrong
        answers = np.array([places.get(name, UNDECIDED) for name in found["prediction"]], np.int64)
        matrix = confusion(answers, truth, len(classes))
        scores += class_f1(matrix).tolist()
        hits = np.eye(len(classes) + 1)[answers]
        sample = Sample(np.column_stack([answers == truth, hits]), truth, np.arange(len(truth)))
        intervals = clustered_intervals(
            sample,
            {
                "F1 macro": lambda sums, _: macro_f1(sums[..., 1:]),
                "Top-1 macro": macro(),
            },
            Draws(1000),
        )
        print(f"{task}: {len(truth)} images, Top-1 micro {100 * (answers == truth).mean():.2f}")
        for title, value in intervals.items():
            low, high = 100 * value.low, 100 * value.high
            print(f"  {title} {100 * value.point:.2f} [{low:.2f}, {high:.2f}] over images")
        for label, score in zip(classes, class_f1(matrix), strict=True):
            print(f"  F1 {label}: {100 * score:.2f}")
    print(f"mean F1 of the {len(scores)} classes: {100 * float(np.mean(scores)):.2f}")


if __name__ == "__main__":
    main()
