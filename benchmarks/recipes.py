"""Recipes and their parts on FETAL_PLANES_DB: what helps a small model trained from scratch?

One draw of patients is the fixed test set; the others are drawn into train and val once per seed.
`ablate` changes one thing of BASE at a time, from which the former recipe `sono` (from scratch)
came, and scores the last epoch on val. `search` evaluates longer training and larger frames on val.
`compare` trains complete recipes on the same tower and number of samples, and that recipe for 100
epochs, lets val pick the epoch, and scores the test patients, zero-shot and by a probe, under
all-one, proposed and annotated masks. A run uses one thread; finished runs are kept in OUT and not
repeated.

Usage: python benchmarks/recipes.py DATA OUT ablate|search|compare|tables [--seeds 0 1 2] [--epochs
30] [--only N ...]

DATA contains FETAL_PLANES_DB_data.csv, Images/ and landmark_masks.coco.json.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe_variants import ABLATIONS, BASE, FORMER, PHANTOM, SEARCH, comparisons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score

from sono.annotation.captions import build_captions
from sono.annotation.mask_import import import_masks
from sono.annotation.propose import propose_masks
from sono.curation.core.config import merged
from sono.curation.core.engine import Engine
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.splits import fold_splits
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc
from sono.evaluation.modes import annotated_masks, mask_for, plan_masks
from sono.evaluation.outlines import StoredMask, proposed_outlines
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.zero_shot import class_features, mode_features
from sono.templates.loader import load_templates
from sono.training.config import training_config
from sono.training.model.checkpoints import END, load_model
from sono.training.train import train

FOLDS = 4  # of all patients: the first is the test; of the others: one a seed is val
DRAW = 2026

MODES = ("all_one", "proposed", "annotated")


@dataclass(frozen=True)
class Job:
    """One run: of a recipe with changes, on the draw of a seed."""

    stage: str
    name: str
    recipe: str
    changes: dict[str, Any]
    seed: int
    out: Path

    @property
    def row(self) -> Path:
        """The path of its scores."""
        return self.out / "rows" / self.stage / f"{self.run}-{self.seed}.json"

    @property
    def run(self) -> str:
        """The name of the run in the study of its seed."""
        return f"{self.stage}-" + "".join(
            letter if letter.isalnum() else "-" for letter in self.name
        )


def open_study(data: Path, out: Path) -> Workspace:
    """The study in `out`, made from `data` if it does not exist, with its masks.

    The masks are annotated and proposed ones.
    """
    root = out / "study"
    if (root / "captions.parquet").exists():
        return Workspace.find(root)
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(root.with_name("study.vault"), ignore_errors=True)
    study = Workspace.create(root)
    records = data / "FETAL_PLANES_DB_data.csv"
    run_qc(study, QcOptions(data, records, center_from="US_Machine"), Engine.create(None, None))
    import_masks(study, data / "landmark_masks.coco.json")
    propose_masks(study, engine=Engine.create(None, None))
    build_captions(study)
    return study


def open_draw(data: Path, out: Path, seed: int) -> Workspace:
    """The study with the patients of `seed` in val."""
    root = out / f"seed-{seed}"
    if root.exists():
        return Workspace.find(root)
    study = open_study(data, out)
    images = study.images()
    images["split"] = fold_splits(images, FOLDS, 0, DRAW, val=0.0)
    known = images[images["split"] != "test"]
    images.loc[known.index, "split"] = fold_splits(known, FOLDS, seed, DRAW, val=0.0).replace(
        "test", "val"
    )
    partial = root.with_name(f"{root.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(study.root, partial)
    Workspace.find(partial).write(IMAGES, images)
    shutil.copytree(study.vault, root.with_name(f"{root.name}.vault"), dirs_exist_ok=True)
    partial.rename(root)
    return Workspace.find(root)


def proposals(study: Workspace, out: Path) -> dict[str, StoredMask]:
    """The proposals that evaluation would make for each frame, made once."""
    kept = out / "proposals.json"
    if not kept.exists():
        images = study.accepted_images()
        files = [study.root / file for file in images["file"]]
        found = proposed_outlines(Engine.create(None, None), images["image_id"].tolist(), files)
        kept.write_text(
            json.dumps({image_id: asdict(outlines[0]) for image_id, outlines in found.items()})
        )
    return {image_id: StoredMask(**mask) for image_id, mask in json.loads(kept.read_text()).items()}


def learn_phantoms(out: Path, epochs: int) -> Path:
    """The run folder of a model trained only on phantoms.

    The phantoms show 24 planes, with as many frames as the study has.
    """
    study = out / "phantoms"
    if not study.exists():
        export = out / "export"
        make_phantom(export, 110, 8, 1)
        workspace = Workspace.create(study)
        run_qc(
            workspace, QcOptions(export / "raw", export / "records.csv"), Engine.create(None, None)
        )
        import_masks(workspace, export / "masks.coco.json")
        build_captions(workspace)
    workspace = Workspace.find(study)
    folder = workspace.runs / PHANTOM
    if not folder.exists():
        short = {"epochs": epochs, "validate_every": epochs}
        train(workspace, training_config(workspace, "sono", merged(FORMER, short, BASE)), PHANTOM)
    return folder


def carry_out(job: Job) -> dict[str, Any]:
    """Train and score a run."""
    torch.set_num_threads(1)
    workspace = Workspace.find(job.out / f"seed-{job.seed}")
    config = training_config(workspace, job.recipe, {**job.changes, "seed": job.seed})
    shutil.rmtree(workspace.runs / job.run, ignore_errors=True)  # of a stage that was cut short
    started = time.process_time()
    summary = train(workspace, config, job.run)
    row = {"name": job.name, "seed": job.seed, "cpu_minutes": (time.process_time() - started) / 60}
    row |= {
        "val": summary.best_score,
        "steps": summary.steps,
        "samples": summary.steps * config.batch_size,
        "epoch": summary.best_epoch,
    }
    folder = summary.folder / END if job.stage == "ablate" else summary.folder
    split = "test" if job.stage == "compare" else "val"
    row["scores"] = score(workspace, folder, split, proposals(workspace, job.out))
    job.row.parent.mkdir(parents=True, exist_ok=True)
    job.row.write_text(json.dumps(row, indent=1))
    return row


def score(
    workspace: Workspace, folder: Path, split: str, proposed: dict[str, StoredMask]
) -> dict[str, dict[str, float]]:
    """Top-1 and probe scores of the frames of `split` in each mask mode.

    Annotated masks are scored on the frames that have one.
    """
    model, info = load_model(folder)
    images = workspace.accepted_images()
    images = images[images["plane"].isin(workspace.planes().by_id)]
    frames = images[images["split"].isin(["train", split])].reset_index(drop=True)
    files, ids = [workspace.root / file for file in frames["file"]], frames["image_id"].tolist()
    masks = plan_masks(annotated_masks(workspace.masks(), frames), proposed, seed=0)
    features = mode_features(
        model.eval(),
        files,
        MODES,
        lambda mode, number: mask_for(masks, mode, ids[number], model.image_size),
    )
    planes = sorted(frames["plane"].unique())
    names, templates = workspace.planes().by_id, load_templates(info.template)
    classes = class_features(
        model, [templates.render_prompts(names[plane].name) for plane in planes]
    )
    truth, asked = frames["plane"].to_numpy(), (frames["split"] == split).to_numpy()
    marked = np.array([image_id in masks.annotated for image_id in ids])
    found: dict[str, dict[str, float]] = {}
    for mode, rows in (
        *((mode, np.ones(len(ids), bool)) for mode in MODES[:2]),
        ("annotated", marked),
        ("all_one", marked),
    ):
        learned, scored = rows & ~asked, rows & asked
        answers = np.array(planes)[cosines(features[mode][scored], classes).argmax(1)]
        probe = LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced")
        probed = probe.fit(features[mode][learned], truth[learned]).predict(features[mode][scored])
        title = f"{mode}, frames with an annotated mask" if rows is marked else mode
        found[title] = (
            {"frames": int(scored.sum())}
            | _tops(truth[scored], answers, "")
            | _tops(truth[scored], probed, "probe_")
        )
    return found


def _tops(truth: Any, answers: Any, prefix: str) -> dict[str, float]:
    macro = recall_score(
        truth, answers, labels=sorted(set(truth)), average="macro", zero_division=0.0
    )
    return {f"{prefix}macro": float(macro), f"{prefix}micro": float(accuracy_score(truth, answers))}


def table(out: Path, stage: str) -> str:
    """One row per name: macro Top-1 (mean and standard deviation) / micro / macro of the probe.

    The columns are mask modes; the standard deviation is over seeds.
    """
    found = [json.loads(path.read_text()) for path in sorted((out / "rows" / stage).glob("*.json"))]
    if not found:
        return f"{stage}: nothing was run"
    order = [*ABLATIONS, *SEARCH, *(name for name, _, _ in comparisons(0))]
    names = sorted(
        {row["name"] for row in found},
        key=lambda name: (order.index(name) if name in order else 99, name),
    )
    modes = list(found[0]["scores"])
    lines = [
        f"| {stage} | seeds | {' | '.join(modes)} | CPU minutes |",
        "|---" * (len(modes) + 3) + "|",
    ]
    for name in names:
        rows = [row for row in found if row["name"] == name]
        cells = [_cell([row["scores"][mode] for row in rows]) for mode in modes]
        minutes = np.mean([row["cpu_minutes"] for row in rows])
        lines.append(f"| {name} | {len(rows)} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(lines)


def _cell(scores: list[dict[str, float]]) -> str:
    macro, micro, probe = (
        np.array([one[name] for one in scores]) for name in ("macro", "micro", "probe_macro")
    )
    spread = f" ± {macro.std(ddof=1):.3f}" if len(scores) > 1 else ""
    return f"{macro.mean():.3f}{spread} / {micro.mean():.3f} / {probe.mean():.3f}"


def jobs_of(arguments: argparse.Namespace) -> list[Job]:
    """The runs of a stage."""
    if arguments.stage == "compare":
        asked = comparisons(arguments.epochs)
    elif arguments.stage == "search":
        asked = [(name, "sono", FORMER | changes) for name, changes in SEARCH.items()]
    else:
        short = {"epochs": arguments.epochs, "validate_every": arguments.epochs}
        asked = [
            (name, "sono", merged(FORMER, short, BASE, changes))
            for name, changes in ABLATIONS.items()
        ]
    return [
        Job(arguments.stage, name, recipe, changes, seed, arguments.out)
        for name, recipe, changes in asked
        for seed in arguments.seeds
        if not arguments.only or name in arguments.only
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("stage", choices=["ablate", "search", "compare", "tables"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.stage == "tables":
        print(
            *(table(arguments.out, stage) for stage in ("compare", "search", "ablate")), sep="\n\n"
        )
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    draws = [open_draw(arguments.data, arguments.out, seed) for seed in arguments.seeds]
    proposals(draws[0], arguments.out)
    waiting = [job for job in jobs_of(arguments) if not job.row.exists()]
    if any(job.changes.get("init") for job in waiting):
        learned = learn_phantoms(arguments.out, arguments.epochs)
        for draw in draws:
            shutil.copytree(learned, draw.runs / PHANTOM, dirs_exist_ok=True)
    with ProcessPoolExecutor(
        arguments.processes, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for done in as_completed([pool.submit(carry_out, job) for job in waiting]):
            row = done.result()
            print(
                row["name"],
                row["seed"],
                f"{row['cpu_minutes']:.1f} CPU minutes",
                row["scores"],
                flush=True,
            )
    print(table(arguments.out, arguments.stage))


if __name__ == "__main__":
    main()
