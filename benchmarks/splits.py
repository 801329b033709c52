"""How close splits of few patients come to their shares, and what they lack.

Deals planes as the phantom does (two centers, all planes in turn), draws several studies of each
size, and splits them 70/10/20. Frames are equal for all patients ("even"), or spread as in
hospitals ("odd": 1 to 60, most have few). Reports means over the seeds: patients and frames of each
split in %, and the planes that train lacks; and in how many studies a split is off by a patient
(and 2 %) or more, and train lacks a center.

Usage: python benchmarks/splits.py [--patients 3 5 8 12 20 50 200] [--seeds 20]
"""

import argparse

import numpy as np
import pandas as pd

from sono.curation.core.column_values import SPLITS
from sono.curation.core.tables import IMAGES, from_rows
from sono.curation.dataset.splits import SplitConfig, assign_splits
from sono.curation.phantom.study import deal_planes

FRAMES = 8
KINDS = ("patients", "frames")
CONFIG = SplitConfig()
SHARES = np.array([CONFIG.train, CONFIG.val, CONFIG.test])


def make_study(patients: int, seed: int, odd: bool) -> pd.DataFrame:
    """The images table of a study without pictures; ids are random, as keyed ones are."""
    rng = np.random.default_rng([patients, seed, odd])
    frames = (
        np.clip(rng.lognormal(1.8, 1.0, patients).round().astype(int), 1, 60)
        if odd
        else np.full(patients, FRAMES)
    )
    rows = []
    for center in (0, 1):
        own = np.arange(center, patients, 2)
        planes = iter(deal_planes(int(frames[own].sum()), rng))
        for place in own:
            patient = rng.bytes(8).hex()
            for number in range(frames[place]):
                row = {
                    "source_id": f"{patient}{number}",
                    "patient_id": patient,
                    "frame": 0,
                    "status": "accepted",
                }
                rows.append(row | {"center": "AB"[center], "plane": next(planes)})
    return from_rows(IMAGES, rows)


def judge(images: pd.DataFrame) -> dict[str, float]:
    """What one study's split gives."""
    patients = (
        images.drop_duplicates("patient_id")["split"]
        .value_counts()
        .reindex(list(SPLITS), fill_value=0)
    )
    frames = images["split"].value_counts(normalize=True).reindex(list(SPLITS), fill_value=0)
    off, total = np.abs(patients - SHARES * patients.sum()).max(), patients.sum()
    train = images[images["split"] == "train"]
    return (
        {f"patients {name}": 100 * patients[name] / total for name in SPLITS}
        | {f"frames {name}": 100 * frames[name] for name in SPLITS}
        | {"off": float(off >= 1 and off > 0.02 * total + 1e-9)}
        | {"lacked": images["plane"].nunique() - train["plane"].nunique()}
        | {"lost": float(train["center"].nunique() < min(2, total))}
    )


def judge_size(patients: int, seeds: int, odd: bool) -> dict[str, object]:
    """A line of the table: means and counts over the seeds."""
    studies = [make_study(patients, seed, odd) for seed in range(seeds)]
    judged = pd.DataFrame([judge(one.assign(split=assign_splits(one, CONFIG))) for one in studies])
    means = judged.mean()
    shares = {
        f"{kind} %": "/".join(f"{means[f'{kind} {name}']:.0f}" for name in SPLITS) for kind in KINDS
    }
    limits = {"off": int(judged["off"].sum()), "planes lacked": round(means["lacked"], 2)}
    return (
        {"frames": "odd" if odd else "even", "n": patients}
        | shares
        | limits
        | {"center lost": int(judged["lost"].sum())}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="*", default=[3, 5, 8, 12, 20, 50, 200])
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    sizes = [(patients, odd) for odd in (False, True) for patients in arguments.patients]
    print(
        pd.DataFrame(
            [judge_size(patients, arguments.seeds, odd) for patients, odd in sizes]
        ).to_string(index=False)
    )


if __name__ == "__main__":
    main()
