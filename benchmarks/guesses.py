"""Which guesses on frames of unknown planes are right, and which are refused, on Barcelona frames.

The planes are hidden. The refusal was chosen on half of the patients; the table is of the others.

Example: python benchmarks/guesses.py ../shared/data
"""

import argparse
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from sono.annotation.guesses import is_abdomen
from sono.annotation.proposers import propose_each_kind
from sono.curation.core.atomic import sha256

STRUCTURES = {
    "Fetal brain": "fetal head", "Fetal abdomen": "fetal abdomen", "Fetal femur": "femur",
    "Fetal thorax": "",
}  # fmt: skip
FRAMES = {"Fetal thorax": 80}  # of a plane, at most
OTHERS = 60
CONFIDENT = 0.5  # score
BINS = (0.0, 0.4, 0.6, 0.8, 1.001)


def number_of(text: str) -> int:
    """A number that looks like chance, the same on every machine."""
    return int(sha256(text.encode()), 16)


def chosen(data: Path) -> pd.DataFrame:
    """Some frames of each plane, of the half of the patients that did not choose the refusal."""
    table = pd.read_csv(data / "FETAL_PLANES_DB_data.csv", sep=";")
    table.columns = [name.strip() for name in table.columns]
    files = {path.stem: path for path in (data / "Images").iterdir()}
    table = table[table["Image_name"].isin(files)]
    table["file"] = table["Image_name"].map(files)
    table["order"] = table["Image_name"].map(number_of)
    groups = table.sort_values("order").groupby("Plane")
    table = pd.concat(group.head(FRAMES.get(str(plane), OTHERS)) for plane, group in groups)
    return table[table["Patient_num"].astype(str).map(number_of) % 2 == 1]


def guess(path: Path) -> tuple[str, float, bool]:
    """The structure and score of the best guess on a frame, and whether it is refused."""
    gray = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    best = propose_each_kind(gray)[0]
    refused = best.structure == "fetal abdomen" and not is_abdomen(gray, best.mask)
    return str(best.structure), best.score, refused


def main() -> None:
    """Guess, print by plane and by score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with barcelona/ in its published layout")
    table = chosen(parser.parse_args().data / "barcelona")
    cv2.setNumThreads(1)
    found = pd.DataFrame([guess(path) for path in table["file"]], table.index)
    table[["structure", "score", "refused"]] = found
    table["right"] = table["structure"] == table["Plane"].map(STRUCTURES)
    for name, group in [*table.groupby("Plane"), ("all", table)]:
        right, refused, sure = group["right"], group["refused"], group["score"] > CONFIDENT
        print(
            f"{name:14} {len(group):4} frames: right {right.sum()}, of them kept "
            f"{(right & ~refused).sum()}; wrong {(~right).sum()}, of them refused "
            f"{(~right & refused).sum()}; wrong above {CONFIDENT}: {(~right & sure).sum()} before, "
            f"{(~right & sure & ~refused).sum()} after"
        )
    for low, high in pairwise(BINS):
        mine = table[(table["score"] >= low) & (table["score"] < high)]
        kept = mine[~mine["refused"]]
        print(
            f"score {low} to {min(high, 1)}: right {mine['right'].sum()} of {len(mine)} before, "
            f"{kept['right'].sum()} of {len(kept)} after"
        )


if __name__ == "__main__":
    main()
