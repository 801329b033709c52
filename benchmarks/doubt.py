"""Which order brings the wrong masks to the front of the review: risk-coverage of doubt scores.

Takes the weight-free outline and the masks of a segmenter for each frame of a study that has
accepted masks and that the segmenter has not seen, and compares orders by the score alone, by the
stability, by augmented frames (mirrored, scaled, shifted), by the agreement of both proposers, and
by the doubt that `sono masks propose` stores.

Example: python benchmarks/doubt.py study --with runs/segmenter --csv masks.csv
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.masks import dice, pixels
from sono.annotation.proposers import OutlineProposer, Proposal
from sono.annotation.segmenter.proposer import SegmenterProposer
from sono.curation.core.frame_files import read_stored
from sono.curation.core.workspace import Workspace

WRONG = 0.9  # Dice, below which a mask is wrong
FRONT = 0.2  # of the queue
MOVES = ((0.85, 0.0), (1.15, 0.0), (1.0, 0.06), (1.0, -0.06))  # scale, and shift by share of side
PLANES = {"fetal head": "transthalamic", "fetal abdomen": "abdominal_circumference"}


def of_frame(
    gray: NDArray[np.uint8], plane: str, structures: list[str], segmenter: SegmenterProposer
) -> dict[tuple[str, str], Proposal]:
    """The proposals of a frame by source and structure."""
    outlines = OutlineProposer().propose(gray, plane, None, ())
    found = {("heuristic", str(one.structure)): one for one in outlines}
    drawn = {str(one.structure): one for one in segmenter.propose(gray, plane, None, ())}
    return found | {("model", name): drawn[name] for name in structures if name in drawn}


def moved(gray: NDArray[np.uint8], scale: float, shift: float) -> tuple[Any, Any]:
    """A frame scaled and shifted, and a function that moves its masks back."""
    height, width = gray.shape
    side, center = max(height, width), (width / 2, height / 2)
    matrix = cv2.getRotationMatrix2D(center, 0, scale)
    matrix[:, 2] += shift * side

    def back(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height), flags=flags) > 0

    return cv2.warpAffine(gray, matrix, (width, height)), back


def measure(
    workspace: Workspace, segmenter: SegmenterProposer, augment: bool, every: int = 1
) -> pd.DataFrame:
    """A row for each proposal on an unseen frame whose structure has an accepted mask."""
    frames = workspace.accepted_images().drop_duplicates("image_id")
    frames = frames[~frames["image_id"].isin(segmenter.info.image_ids_seen)]
    masks = workspace.masks()
    masks = masks[masks["state"].isin(["accepted", "edited"])]
    rows = []
    for frame in frames.sort_values("image_id").iloc[::every].to_dict("records"):
        mine = masks[masks["image_id"] == frame["image_id"]]
        truth = {str(row["structure"]): pixels(row) for row in mine.to_dict("records")}
        planes = [PLANES[name] for name in truth if name in PLANES]  # of HC18, which has no labels
        plane = frame["plane"] if isinstance(frame["plane"], str) else next(iter(planes), None)
        if not truth or plane is None:
            continue
        gray = read_stored(workspace.root / str(frame["file"]))
        found = of_frame(gray, plane, list(truth), segmenter)
        again: dict[tuple[str, str], list[float]] = {}
        views = [(gray[:, ::-1].copy(), lambda mask: mask[:, ::-1])]
        views += [moved(gray, *move) for move in MOVES]
        for view, back in views if augment else ():
            other = of_frame(view, plane, list(truth), segmenter)
            for key, one in found.items():
                same = dice(one.mask, back(other[key].mask)) if key in other else 0.0
                again.setdefault(key, []).append(same)
        for (source, name), one in found.items():
            if name not in truth:
                continue
            others = [
                two.mask for (by, what), two in found.items() if what == name and by != source
            ]
            rows.append({
                "frame": frame["image_id"], "source": source, "structure": name,
                "dice": dice(one.mask, truth[name]), "score": one.score,
                "stability": one.stability,
                "augmented": np.mean(again.get((source, name), [np.nan])),
                "agreement": dice(one.mask, others[0]) if others else np.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def orders(table: pd.DataFrame) -> dict[str, pd.Series]:
    """How sure a mask is, by each order; the lowest comes first."""
    agreed = table["agreement"].fillna(1.0)
    found = {
        "score": table["score"],
        "stability": table["stability"],
        "score x stability": table["score"] * table["stability"],
        "augmented frames": table["augmented"],
        "score x augmented": table["score"] * table["augmented"],
        "doubt (score, agreement)": np.minimum(table["score"], agreed),
        "ideal": table["dice"],
    }
    return {name: order for name, order in found.items() if order.notna().all()}


def area(sure: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The mean risk (1 - Dice) of the masks kept, over all coverages; lower is better."""
    risk = 1 - scores[np.argsort(-sure, kind="stable")]
    return float(np.mean(np.cumsum(risk) / np.arange(1, len(risk) + 1)))


def report(table: pd.DataFrame) -> None:
    """Print one line for each order: wrong masks in front, and the area with its difference."""
    scores, frames = table["dice"].to_numpy(), table["frame"].to_numpy()
    front, wrong = int(np.ceil(FRONT * len(table))), int((scores < WRONG).sum())
    print(f"{len(table)} masks, {wrong} below {WRONG}; the first {FRONT:.0%} are {front}")
    draw, groups = np.random.default_rng(0), [np.flatnonzero(frames == one) for one in set(frames)]
    samples = [
        np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        for _ in range(500)
    ]
    base = table["score"].to_numpy()
    for name, order in orders(table).items():
        sure = order.to_numpy()
        first = np.argsort(sure, kind="stable")[:front]
        kept = [f"{area(sure, scores):.4f}"]
        gains = [area(sure[i], scores[i]) - area(base[i], scores[i]) for i in samples]
        low, high = np.percentile(gains, [2.5, 97.5])
        kept.append(f"minus that of the score: {low:+.4f} to {high:+.4f}")
        print(f"{name:26} {(scores[first] < WRONG).sum():3} of {wrong:3}; area {'; '.join(kept)}")


def main() -> None:
    """Propose, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--with", dest="segmenter", type=Path, required=True)
    parser.add_argument("--csv", type=Path, help="the measured masks; read if it exists")
    parser.add_argument(
        "--augment", action="store_true", help="augmented frames, six times as long"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame only")
    options = parser.parse_args()
    if options.csv is not None and options.csv.exists():
        table = pd.read_csv(options.csv)
    else:
        workspace = Workspace.find(options.study)
        table = measure(
            workspace, SegmenterProposer.load(options.segmenter), options.augment, options.every
        )
        if options.csv is not None:
            table.to_csv(options.csv, index=False)
    for sources in (["heuristic"], ["model"], ["heuristic", "model"]):
        print(f"\n{' and '.join(sources)}:")
        report(table[table["source"].isin(sources)].reset_index(drop=True))


if __name__ == "__main__":
    main()
