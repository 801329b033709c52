"""Cross-validation over the women of FETAL_PLANES_DB: how well does a run from scratch know other women's planes?

Makes a study from the published folder, trains one run a fold and evaluates it on the women held out, with whole
frames, with annotated masks and with proposed ones. Prints a table and writes it beside the study.

Usage: python benchmarks/barcelona.py DATA OUT [--folds 5] [--only FOLD ...] [--set key=value ...]
       DATA holds FETAL_PLANES_DB_data.csv, Images/ and landmark_masks.coco.json.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd

from sono.annotation.captions import build_captions
from sono.annotation.mask_import import import_masks
from sono.curation.config import override
from sono.curation.engine import Engine
from sono.curation.qc import QcOptions, run_qc
from sono.curation.splits import fold_splits
from sono.curation.tables import IMAGES
from sono.curation.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.training.config import TrainingConfig
from sono.training.train import train

SCORES = ("top1_macro", "top1_micro", "top5_macro")


def open_study(data: Path, out: Path) -> Workspace:
    """The study in `out`, made from `data` where it does not exist."""
    if (out / "study" / "captions.parquet").exists():
        return Workspace.find(out / "study")
    study = Workspace.create(out / "study")
    records = data / "FETAL_PLANES_DB_data.csv"
    run_qc(study, QcOptions(data, records, center_from="US_Machine"), Engine.create(None, None))
    import_masks(study, data / "landmark_masks.coco.json")
    build_captions(study)
    return study


def run_fold(study: Workspace, fold: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Train and evaluate one fold; a row a set of frames and mask mode."""
    images = study.images()
    # all other women train and the last epoch is scored: nothing is chosen, so no validation split is needed
    study.write(IMAGES, images.assign(split=fold_splits(images, arguments.folds, fold, seed=0, val=0.0)))
    changes = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    config = override(TrainingConfig(), **changes)
    started = time.perf_counter()
    summary = train(study, config, f"{arguments.name}-{fold}")
    minutes = (time.perf_counter() - started) / 60
    result = evaluate(
        study, EvaluationOptions(run=summary.run, modes=tuple(arguments.modes)), Engine.create(None, None)
    )
    rows = []
    for group in result.metrics["groups"]:
        for mode, values in group["modes"].items():
            row = {"fold": fold, "frames": group["title"], "n": group["frames"], "mask": mode}
            rows.append(row | {name: values[name]["point"] for name in SCORES} | {"minutes": minutes})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--name", default="fold")
    parser.add_argument("--set", nargs="*", default=[], help="training settings, e.g. epochs=20 targets='\"caption\"'")
    parser.add_argument("--modes", nargs="*", default=["all_one", "annotated", "shuffled"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study = open_study(arguments.data, arguments.out)
    rows = []
    for fold in arguments.only or range(arguments.folds):
        rows += run_fold(study, fold, arguments)
        table = pd.DataFrame(rows)
        table.to_csv(arguments.out / f"{arguments.name}.csv", index=False)
        print(table[table["fold"] == fold].to_string(index=False), flush=True)
    print(table.groupby(["frames", "mask"], sort=False)[[*SCORES, "minutes"]].agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
