"""Do maps of a phrase follow the mask: the share of their positive part inside a structure.

For masked structures of --center, drawn by the hash of their masks, the phrase is the mean of the
region prompts of the structure. Each map is made under the structure's mask, without a mask, and
under the mask of another structure of the frame; the share is always that inside the first.
Chance is the share of the structure's area. Intervals resample patients.

Example: python benchmarks/maps.py study --run demo --center B --count 24
"""

import argparse
from pathlib import Path

import numpy as np

from sono.curation.core.workspace import Workspace
from sono.evaluation.maps import cell_map, occlusion_map, positive_share, unit_text
from sono.evaluation.region_control.regions import RegionMask, read_regions
from sono.evaluation.statistics.bootstrap import NUMBER, clustered_interval
from sono.evaluation.zero_shot import read_squares
from sono.templates.loader import load_templates
from sono.training.model.checkpoints import find_run, load_model


def drawn(regions: tuple[RegionMask, ...], count: int) -> list[tuple[RegionMask, RegionMask]]:
    """Up to `count` masks in the order of their hashes, each with another one of its frame."""
    by_frame: dict[int, list[RegionMask]] = {}
    for region in regions:
        by_frame.setdefault(region.frame, []).append(region)
    pairs = []
    for region in sorted(regions, key=lambda each: each.digest):
        others = [one for one in by_frame[region.frame] if one.structure != region.structure]
        apart = [one for one in others if not (one.pixels() & region.pixels()).any()]
        if apart:
            pairs.append((region, min(apart, key=lambda each: each.digest)))
    return pairs[:count]


def main(folder: Path, run: str | None, center: str, count: int) -> None:
    """Print the mean shares with their intervals."""
    study = Workspace.find(folder)
    images = study.accepted_images()
    images = images[images["center"] == center].reset_index(drop=True)
    model, info = load_model(find_run(study, run))
    templates = load_templates(info.template)
    files = [study.root / file for file in images["file"]]
    rows, owners = [], []
    pairs = drawn(read_regions(study.masks(), images, model.image_size).masks, count)
    whole = np.ones((model.image_size, model.image_size), np.bool_)
    for region, other in pairs:
        square = read_squares(files, [region.frame], model.image_size)[0]
        text = unit_text(model, templates.render_region_prompts(region.structure))
        own = region.pixels()
        shares = {"area": float(own.mean())}
        for name, make in (("occlusion", occlusion_map), ("cells", cell_map)):
            for way, mask in (("own", own), ("none", whole), ("other", other.pixels())):
                found = make(model, square, mask, text)
                share = np.nan if found is None else positive_share(found, own)
                shares[f"{name}, {way}"] = 0.0 if np.isnan(share) else share
        rows.append(shares)
        owners.append(str(images.at[region.frame, "patient_id"]))
    clusters = np.unique(owners, return_inverse=True)[1]
    print(f"{len(rows)} masks of {clusters.max() + 1} patients of {center}, run {info.name}")
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        found = clustered_interval(values, np.zeros(len(rows), np.int64), clusters, NUMBER)
        print(
            f"{name:18s} {100 * found.point:5.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--center", required=True)
    parser.add_argument("--count", type=int, default=24)
    given = parser.parse_args()
    main(given.study, given.run, given.center, given.count)
