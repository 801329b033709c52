"""Does the mask steer, and what makes it steer? Region control of small models on three studies.

`phantom` holds center B out, `shenzhen` has five folds of files (its frames carry no patient id),
`barcelona` five folds of patients, scored without a mask. A run changes one thing of the default at
a time; validation frames alone pick its epoch. A run takes one thread; finished runs are kept in
OUT and not repeated.

Usage: python benchmarks/region_control.py phantom|shenzhen|barcelona OUT [--data DATA] [--only NAME
...]
       [--draws 0 1 2] [--processes 2] [--tables]
       DATA holds, as published, boxes.csv and images/ (Shenzhen, 11 to 14 weeks), or
FETAL_PLANES_DB_data.csv, Images/ and landmark_masks.coco.json (Barcelona). Draws are seeds of the
phantom's runs and folds of the others.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe_variants import FORMER

from sono.annotation.captions import build_captions
from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.curation.core.atomic import write_text
from sono.curation.core.config import merged
from sono.curation.core.engine import Engine
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.splits import fold_splits
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.selection import Target
from sono.training.config import training_config
from sono.training.model.architectures import SIZES
from sono.training.train import train

# A small transformer, to see whether the recipe steers one too.
SIZES["transformer"] = {
    **SIZES["lite0"],  # type: ignore[dict-item]
    "vision_cfg": {"image_size": 96, "patch_size": 12, "width": 192, "layers": 6, "head_width": 64},
}
FOLDS, DRAW = 5, 2026
BRAIN = ("transthalamic", "transcerebellar", "transventricular")
SHENZHEN = {"CM": "cisterna magna", "IT": "intracranial translucency", "NT": "nuchal translucency"}
# Of each study: as its users would set it. The phantom's other center has other machines
# (benchmarks/demo.toml).
SETTINGS: dict[str, dict[str, Any]] = {
    "phantom": {
        "image_size": 96,
        "hold_out": ("B",),
        "augment": {"scale": 0.3, "gain": 0.5, "speckle": 0.3, "grain": 1.0, "blur": 1.0},
    },
    "shenzhen": {"image_size": 96, "epochs": 24},
    # no mask is scored there, so most pairs are whole frames
    "barcelona": {"image_size": 128, "epochs": 26, "global_fraction": 0.85},
}
TRANSFORMER = {"model": "transformer", "learning_rate": 5e-4, "epochs": 100}
# What each row of the table changes. `old` is the recipe before regions had an objective of their
# own.
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "stem only": {"region_pool": False},
    "1 region of a frame": {"regions_per_frame": 1},
    "2 regions of a frame": {"regions_per_frame": 2},
    "8 regions of a frame": {"regions_per_frame": 8},
    "no stray masks": {"augment": {"mask_stray": 0.0}},
    "batch of 16": {"batch_size": 16},
    "batch of 96": {"batch_size": 96},
    "from scratch": {"start": "scratch"},
    "text from scratch": {"text": "clip"},
    "identity targets": {"targets": "identity"},
    "one phrasing": {"region_prompts": 0.0},
    "no mask rate": {"mask_rate": 1.0},
    "no regions": {"global_fraction": 1.0},
    "transformer from scratch": TRANSFORMER,
    "transformer from scratch, stem only": {**TRANSFORMER, "region_pool": False},
    "transformer from scratch, mask ten times faster": {**TRANSFORMER, "mask_rate": 10.0},
    "old": FORMER,
}


@dataclass(frozen=True)
class Job:
    """One run: the changes of `name`, on the draw of a seed or fold."""

    study: str
    name: str
    draw: int
    out: Path

    @property
    def row(self) -> Path:
        """Where its scores are kept."""
        return self.out / "rows" / self.study / f"{self.run}.json"

    @property
    def run(self) -> str:
        """The name of the run, and of the copy of the study it has for itself."""
        return (
            "".join(letter if letter.isalnum() else "-" for letter in self.name) + f"-{self.draw}"
        )


def open_study(name: str, data: Path | None, out: Path) -> Workspace:
    """The study in `out`, made where it does not exist."""
    root = out / name
    if (root / "captions.parquet").exists():
        return Workspace.find(root)
    for folder in (root, root.with_name(f"{name}.vault")):
        shutil.rmtree(folder, ignore_errors=True)
    study, engine = Workspace.create(root), Engine.create(None, None)
    if name == "phantom":
        export = out / "export"
        if not export.exists():
            make_phantom(export)
        run_qc(
            study, QcOptions(export / "raw", export / "records.csv", center_from="Hospital"), engine
        )
        import_masks(study, export / "masks.coco.json")
    elif data is None:
        raise SystemExit(f"{name}: give --data")
    elif name == "shenzhen":
        settings = study.config_path.read_text(encoding="utf-8")
        write_text(study.config_path, f'{settings}\n[splits]\nwithout_patient = "file"\n')
        run_qc(study, QcOptions(data / "images", shenzhen_records(data, out)), engine)
        import_masks(
            study, data / "boxes.csv", ImportOptions(labels=SHENZHEN, skipped=("nasal skin",))
        )
    else:
        run_qc(
            study,
            QcOptions(data, data / "FETAL_PLANES_DB_data.csv", center_from="US_Machine"),
            engine,
        )
        import_masks(study, data / "landmark_masks.coco.json")
    build_captions(study)
    return study


def shenzhen_records(data: Path, out: Path) -> Path:
    """A table of records: the published one holds boxes alone."""
    records = out / "shenzhen.csv"
    files = sorted(path.name for path in (data / "images").iterdir())
    records.write_text("file,plane\n" + "".join(f"{file},NT\n" for file in files))
    return records


def carry_out(job: Job) -> dict[str, Any]:
    """Train and score a run on a copy of its study."""
    torch.set_num_threads(1)
    root = job.out / job.study
    own = job.out / "runs" / job.study / job.run
    for folder in (own, own.with_name(f"{own.name}.vault")):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root, own)
    shutil.copytree(root.with_name(f"{root.name}.vault"), own.with_name(f"{own.name}.vault"))
    study = Workspace.find(own)
    images = study.images()
    if job.study == "phantom":
        images["split"] = fold_splits(images, 10, 0, DRAW, val=0.0).replace("test", "val")
    else:
        images["split"] = fold_splits(images, FOLDS, job.draw, DRAW)
    study.write(IMAGES, images)
    seed = {"seed": job.draw} if job.study == "phantom" else {}
    config = training_config(study, None, merged(SETTINGS[job.study], CHANGES[job.name], seed))
    started = time.process_time()
    summary = train(study, config, "run")
    minutes = (time.process_time() - started) / 60
    options = EvaluationOptions(
        "run", Target("B" if job.study == "phantom" else None), ("all_one",)
    )
    row = {"name": job.name, "draw": job.draw, "cpu_minutes": minutes, "steps": summary.steps}
    row |= scores(evaluate(study, options).metrics)
    job.row.parent.mkdir(parents=True, exist_ok=True)
    job.row.write_text(json.dumps(row, indent=1))
    return row


def scores(metrics: dict[str, Any]) -> dict[str, float | None]:
    """What the table shows, of metrics.json."""
    control, found = metrics["region_control"], metrics["groups"][0]["modes"]["all_one"]
    row = {"plane": found["top1_macro"]["point"], "plane_micro": found["top1_micro"]["point"]}
    row["brain"] = _mean(
        [
            each["recall"]["all_one"]["point"]
            for each in metrics["classes"]
            if each["plane"] in BRAIN
        ]
    )
    if "conditions" not in control:
        return row
    for condition in ("own", "place_and_shape", "all_one", "box", "gray_frame"):
        row[condition] = control["conditions"][condition]["in_plane"]["point"]
    row["among_all"] = control["conditions"]["own"]["among_all"]["point"]
    row["follow"], row["cosine"] = (
        control["follow"]["point"],
        control["cosine"]["between_masks"]["point"],
    )
    each = [value["point"] for value in control["phrasings"]["in_plane"]["each"].values()]
    return row | {"unseen": _mean(each), "unseen_worst": min(each)}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


COLUMNS = {
    "own": "naming", "place_and_shape": "place and shape", "among_all": "among all",
    "follow": "follow rate", "unseen": "unseen phrasings", "unseen_worst": "worst",
    "plane": "plane, macro", "brain": "brain planes",
    "cpu_minutes": "CPU minutes",
}  # fmt: skip


def table(out: Path, study: str) -> str:
    """A row a name: mean and standard deviation over draws."""
    found = [json.loads(path.read_text()) for path in sorted((out / "rows" / study).glob("*.json"))]
    if not found:
        return f"{study}: nothing was run"
    shown = [column for column in COLUMNS if any(row.get(column) is not None for row in found)]
    lines = [f"| {study} | draws | " + " | ".join(COLUMNS[column] for column in shown) + " |"]
    lines.append("|---" * (len(shown) + 2) + "|")
    for name in CHANGES:
        rows = [row for row in found if row["name"] == name]
        if rows:
            cells = [
                _cell([row[column] for row in rows if row.get(column) is not None])
                for column in shown
            ]
            lines.append(f"| {name} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=list(SETTINGS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=["default"], choices=list(CHANGES))
    parser.add_argument("--draws", type=int, nargs="*")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--tables", action="store_true", help="print the table of finished runs alone"
    )
    arguments = parser.parse_args()
    if not arguments.tables:
        arguments.out.mkdir(parents=True, exist_ok=True)
        open_study(arguments.study, arguments.data, arguments.out)
        draws = arguments.draws or range(3 if arguments.study == "phantom" else FOLDS)
        jobs = [
            Job(arguments.study, name, draw, arguments.out)
            for draw in draws
            for name in arguments.only
        ]
        waiting = [job for job in jobs if not job.row.exists()]
        with ProcessPoolExecutor(
            arguments.processes, mp_context=multiprocessing.get_context("spawn")
        ) as pool:
            for done in as_completed([pool.submit(carry_out, job) for job in waiting]):
                print(json.dumps(done.result()), flush=True)
    print(table(arguments.out, arguments.study))


if __name__ == "__main__":
    main()
