"""Biometry from drawn masks against published values: HC18 and the landmarks of Barcelona.

Bias, standard deviation and 95 % limits of agreement (mask minus published), in mm and percent.

Example: python benchmarks/biometry.py ../shared/data
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from sono.annotation.biometry import UnmeasuredError, measure
from sono.curation.core.rle import decode, from_runs

STRUCTURES = {"bpd": "fetal head", "ofd": "fetal head", "fl": "femur"}


class Pair(NamedTuple):
    """A measurement of a mask and the published one, in mm; None if it was not measured."""

    group: str
    measure: str
    measured: float | None
    published: float
    pixel_mm: float


def hc18(folder: Path) -> Iterator[Pair]:
    """HC of each head mask and of its table row."""
    table = pd.read_csv(folder / "training_set_pixel_size_and_HC.csv")
    for name, spacing, published in table.itertuples(index=False):
        file = folder / "masks" / name.replace(".png", "_Mask.png")
        if file.exists():
            mask = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_GRAYSCALE) > 0
            found = measured(mask, (spacing, spacing), "fetal head").get("hc")
            yield Pair("HC18, drawn heads", "hc", found, published, spacing)


def barcelona(folder: Path) -> Iterator[Pair]:
    """Masks that were drawn from landmarks, against the distances of these landmarks."""
    content = json.loads((folder / "landmark_masks.coco.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    files = {one["id"]: Path(one["file_name"]).stem for one in content["images"]}
    marks = pd.read_csv(folder / "landmarks.csv")
    places = {key: rows.set_index("landmark") for key, rows in marks.groupby("image_name")}
    for one in content["annotations"]:
        rows = places[files[one["image_id"]]]
        counts, size = one["segmentation"]["counts"], one["segmentation"]["size"]
        mask = decode(counts, *size) if isinstance(counts, str) else from_runs(counts, *size)
        first = rows.iloc[0]
        mm = float(first["mm_per_original_pixel"])
        spacing = mm * first["original_height"] / size[0], mm * first["original_width"] / size[1]
        found = measured(mask, spacing, names[one["category_id"]])
        ends = {name[:-2] for name in rows.index}
        sides = {name: mm * distance(rows, name) for name in ends}
        if "tad" in sides:
            sides = {"ac": np.pi / 2 * (sides["tad"] + sides["apad"])}
        for name, published in sides.items():
            group = "Barcelona, masks drawn from landmarks"
            yield Pair(group, name, found.get(name), published, float(np.mean(spacing)))


def distance(rows: pd.DataFrame, name: str) -> float:
    one, other = (rows.loc[f"{name}_{number}", ["x", "y"]].astype(float) for number in (1, 2))
    return float(np.hypot(*(one - other)))


def measured(mask: np.ndarray, spacing: tuple[float, float], structure: str) -> dict[str, float]:
    try:
        return measure(mask, spacing, structure)
    except UnmeasuredError:
        return {}


def table(pairs: list[Pair]) -> str:
    """A row for each group and measure, in Markdown."""
    frame = pd.DataFrame(pairs)
    lines = [
        "| set | measure | masks | not measured | bias, SD in mm | 95 % limits in mm "
        "| bias, SD in % | 95 % limits in % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (group, name), rows in frame.groupby(["group", "measure"], sort=False):
        kept = rows.dropna(subset=["measured"])
        apart = (kept["measured"] - kept["published"]).to_numpy(float)
        share = 100 * apart / kept["published"].to_numpy(float)
        cells = [
            text
            for values in (apart, share)
            for text in (f"{values.mean():+.2f}, {values.std(ddof=1):.2f}", limits(values))
        ]
        lost = len(rows) - len(kept)
        lines.append(f"| {group} | {name.upper()} | {len(kept)} | {lost} | {' | '.join(cells)} |")
    return "\n".join(lines)


def limits(values: np.ndarray) -> str:
    spread = 1.96 * values.std(ddof=1)
    return f"{values.mean() - spread:+.2f} to {values.mean() + spread:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    pairs = list(hc18(data / "nijmegen"))
    print(table([*pairs, *barcelona(data / "barcelona")]))
    outside = [
        (one.measured - one.published) / (2 * np.pi * one.pixel_mm)
        for one in pairs
        if one.measured is not None
    ]
    print(
        f"\nThe outer edge of a drawn head of HC18 is {np.mean(outside):.2f} pixels (SD "
        f"{np.std(outside, ddof=1):.2f}) outside of the published ellipse."
    )


if __name__ == "__main__":
    main()
