"""Dice of the weight-free proposer against hand-drawn masks by structure, and seconds per frame.

It is given the plane, or no label at all, or a box of the structure whose edges are off by up to a
tenth of its size.

Example: python benchmarks/proposals.py ../shared/data --sheets /tmp/sheets
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.masks import dice
from sono.annotation.proposers import OutlineProposer, Prompt, propose_unlabeled
from sono.curation.core.drawing import DrawnMask, overlay
from sono.curation.core.geometry import bounding_box
from sono.curation.core.rle import decode, from_runs

PLANES = {
    "fetal head": "transthalamic",
    "fetal abdomen": "abdominal_circumference",
    "femur": "femur",
}


class Case(NamedTuple):
    """A frame and what is drawn on it."""

    group: str
    structure: str
    frame: Path
    truth: Path | dict


class Outcome(NamedTuple):
    """The result of one frame: Dice by what is given, CPU seconds with the plane, and scores."""

    case: Case
    known: float
    unlabeled: float
    boxed: float
    seconds: float
    score: float
    stability: float


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", type=Path, help="folder with barcelona/ and nijmegen/ in their published layout"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame only")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--sheets", type=Path, help="write contact sheets of the worst frames here")
    options = parser.parse_args()
    cases = [*nijmegen(options.data), *barcelona(options.data)][:: options.every]
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(measure, cases, chunksize=8))
    print_table(outcomes)
    if options.sheets:
        for group in sorted({case.group for case in cases}):
            own = sorted(
                (outcome for outcome in outcomes if outcome.case.group == group),
                key=lambda each: each.known,
            )
            write_sheet(
                options.sheets / f"{group.replace(' ', '_')}.png",
                [outcome.case for outcome in own[:24]],
            )


def nijmegen(data: Path) -> list[Case]:
    """HC18: a filled mask a frame."""
    masks = sorted((data / "nijmegen" / "masks").glob("*_Mask.png"))
    frames = data / "nijmegen" / "training_set"
    return [
        Case("head, Nijmegen", "fetal head", frames / mask.name.replace("_Mask", ""), mask)
        for mask in masks
    ]


def barcelona(data: Path) -> list[Case]:
    """Masks drawn from published landmarks, on the stored square JPEGs."""
    content = json.loads((data / "barcelona" / "landmark_masks.coco.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {
        image["id"]: data / "barcelona" / "Images" / image["file_name"]
        for image in content["images"]
    }
    return [
        Case(f"{names[each['category_id']].split()[-1]}, Barcelona", names[each["category_id"]],
             files[each["image_id"]], each["segmentation"])
        for each in content["annotations"]
    ]  # fmt: skip


def measure(case: Case) -> Outcome:
    """Propose for one frame and compare."""
    cv2.setNumThreads(1)
    gray, truth = read_gray(case.frame), read_truth(case.truth)
    start = time.process_time()
    found = OutlineProposer().propose(gray, PLANES[case.structure], None, ())[0]
    seconds = time.process_time() - start
    free, prompt = propose_unlabeled(gray), Prompt(case.structure, box=rough_box(truth))
    boxed = OutlineProposer().prompted(gray, prompt)
    return Outcome(
        case,
        dice(found.mask, truth),
        dice(free, truth),
        0.0 if boxed is None else dice(boxed.mask, truth),
        seconds,
        found.score,
        found.stability,
    )


def rough_box(truth: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """A box around a mask [H, W] as a hand draws it, within the frame."""
    x, y, width, height = bounding_box(truth)
    off = np.random.default_rng(int(truth.sum())).uniform(-0.1, 0.1, 4)
    return (
        max(0, int(x + off[0] * width)),
        max(0, int(y + off[1] * height)),
        min(truth.shape[1], int(x + width + off[2] * width)),
        min(truth.shape[0], int(y + height + off[3] * height)),
    )


def read_gray(path: Path) -> NDArray[np.uint8]:
    """A frame [H, W]."""
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)


def read_truth(truth: Path | dict) -> NDArray[np.bool_]:
    """A mask [H, W] from a PNG or a COCO segmentation."""
    if isinstance(truth, Path):
        return read_gray(truth) > 127
    unpack = decode if isinstance(truth["counts"], str) else from_runs
    return unpack(truth["counts"], *truth["size"])


def print_table(outcomes: list[Outcome]) -> None:
    """A line a group."""
    print(
        "group              frames | plane known: mean median >=0.8 | no label: mean median >=0.8 "
        "| box: mean median >=0.8 | s/frame"
    )
    for group in sorted({outcome.case.group for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.case.group == group]
        seconds = np.mean([outcome.seconds for outcome in own])
        columns = [
            describe([outcome.known for outcome in own]),
            describe([outcome.unlabeled for outcome in own]),
            describe([outcome.boxed for outcome in own]),
        ]
        print(
            f"{group:18} {len(own):6} |             {columns[0]} |          {columns[1]} | "
            f"    {columns[2]} | "
            f"{seconds:.3f}"
        )
    known = np.array([outcome.known for outcome in outcomes])
    for name in ("score", "stability"):
        guess = np.array([getattr(outcome, name) for outcome in outcomes])
        print(f"correlation of {name} with Dice: {np.corrcoef(known, guess)[0, 1]:.2f}")


def describe(values: list[float]) -> str:
    """Mean, median and share of at least 0.8."""
    return f"{np.mean(values):.3f}  {np.median(values):.3f}  {np.mean(np.array(values) >= 0.8):.2f}"


def write_sheet(path: Path, cases: list[Case]) -> None:
    """Truth in one color, the proposal in another, six frames a row."""
    cells = []
    for case in cases:
        gray = read_gray(case.frame)
        found = OutlineProposer().propose(gray, PLANES[case.structure], None, ())[0]
        drawn = overlay(
            gray,
            [
                DrawnMask("fetal head", read_truth(case.truth)),
                DrawnMask("umbilical vein", found.mask),
            ],
        )
        cells.append(cv2.resize(drawn, (240, 240), interpolation=cv2.INTER_AREA))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 6)
    rows = [np.hstack(cells[start : start + 6]) for start in range(0, len(cells), 6)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))[1].tobytes()
    )


if __name__ == "__main__":
    main()
