"""Do soft labels, the attribute graph, other towers or rewritten captions help?

The study is the phantom of `lesions.py`, whose findings can be seen. A draw is one of three folds
of its patients: each patient is tested once in each arm. All arms see about 300 steps of 32 pairs;
the end is scored, so nothing is chosen. By default they train the same heads on towers that stay
frozen (`frozen_heads.py`, seconds); with `--full` they are runs of `sono train` (minutes), all from
ImageNet and MiniLM unless the arm changes that.
Differences are paired by frame or mask, with intervals over the patients of all draws that both
arms have. `echocare` is plain CLIP: the settings of `ultrasound-clip` without soft labels and
graph. `shuffled` gives each frame the attributes of another frame, in the soft labels and in the
graph. `paraphrases` are those of rules, not of a language model.

Usage: python benchmarks/semantics.py OUT [--full] [--only ARM ...] [--draws 0 1 2]
       [--tables]
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from frozen_heads import SIDE, Frozen, train_heads
from full_models import train_fully
from lesions import open_study
from semantic_scores import Arrays, Model, score

from sono.annotation.rewriting.rewrite import template_of
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.splits import fold_splits
from sono.evaluation.captions import own_captions
from sono.evaluation.statistics.bootstrap import paired_difference
from sono.templates.loader import load_templates
from sono.training.config import training_config
from sono.training.data.pairs import PairSet
from sono.training.data.read_pairs import load_pairs

PATIENTS, FOLDS, DRAW = 60, 3, 2026
SAME: dict[str, Any] = {"batch_size": 32}
REGIONS, WHOLE = {"epochs": 19}, {"epochs": 32}  # about 300 steps, with region pairs and without
SOFT, GRAPH = {"semantic_weight": 1.0}, {"graph_gate": 0.05}


@dataclass(frozen=True)
class Arm:
    """A recipe with changes, the captions it trains on, and whether attributes are shuffled."""

    recipe: str = "sono"
    changes: dict[str, Any] = field(default_factory=dict)
    captions: str = "templates"
    shuffled: bool = False


ARMS = {
    "default": Arm(),
    "ultrasound-clip": Arm("ultrasound-clip"),
    "ultrasound-clip, shuffled": Arm("ultrasound-clip", shuffled=True),
    "default, paraphrases": Arm(captions="paraphrases"),
    "default, both": Arm(captions="both"),
    "echocare": Arm("echocare"),
    "echocare, paraphrases": Arm("echocare", captions="paraphrases"),
    "default + soft labels + graph": Arm(changes=SOFT | GRAPH),
    "ultrasound-clip, soft labels": Arm("ultrasound-clip", {"graph_gate": 0.0}),
    "ultrasound-clip, graph": Arm("ultrasound-clip", {"semantic_weight": 0.0}),
    "echocare, both": Arm("echocare", captions="both"),
}
# Only with --full: what of the towers learns, and other text towers.
FULL = ARMS | {
    "echocare, heads": Arm("echocare", {"trainable": "heads"}),
    "echocare, last 2 blocks": Arm("echocare", {"trainable": "last:2"}),
    "echocare, MiniLM learns": Arm("echocare", {"text_trainable": "all", "trunk_rate": 0.1}),
    "echocare, CLIP text": Arm("echocare", {"text": "clip"}),
}
# What each arm is compared with.
AGAINST: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ARMS, ("default",)),
    **dict.fromkeys(FULL.keys() - ARMS.keys(), ("echocare",)),
    "default": (),
    "ultrasound-clip": ("default", "echocare"),
    "ultrasound-clip, shuffled": ("ultrasound-clip", "echocare"),
    "ultrasound-clip, soft labels": ("echocare",),
    "ultrasound-clip, graph": ("echocare",),
    "echocare, paraphrases": ("echocare",),
    "echocare, both": ("echocare",),
}
# The columns of the tables, and whether the mean is over classes.
COLUMNS = {
    "plane": "plane, macro", "plane_unseen": "unseen prompts", "finding": "finding, macro",
    "overlap": "shared words", "map": "retrieval, mAP", "map_plane": "in the plane, mAP",
    "map_other": "paraphrased, mAP", "map_other_plane": "paraphrased, in the plane",
    "naming": "naming", "naming_unseen": "naming, unseen",
}  # fmt: skip
MACRO = {"plane": "planes", "plane_unseen": "planes", "finding": "findings"}
OF_MASKS = ("naming", "naming_unseen")


def with_captions(out: Path, which: str) -> tuple[PairSet, float]:
    """All pairs with the captions of an arm, and the share of these that are paraphrases.

    A caption whose paraphrase was refused stays a template's.
    """
    copy = out / which
    for part in ("study", "study.vault"):
        shutil.copytree(out / part, out / part.replace("study", which), dirs_exist_ok=True)
    study, rewritten = Workspace.find(copy), template_of("rules")
    table = study.read(CAPTIONS)
    own, new = (
        table[table["template"] == name] for name in (load_templates("standard").id, rewritten)
    )
    if which == "paraphrases":
        key = ["image_id", "mask_id"]
        text = new.set_index(pd.MultiIndex.from_frame(new[key].fillna("")))["text"]
        found = own[key].fillna("").apply(tuple, axis=1).map(text.to_dict())
        kept, own = own, own.assign(text=found.fillna(own["text"]))
        share = float((kept["text"] != own["text"]).mean())
    else:
        own = pd.concat([own, new]) if which == "both" else own
        share = float(own["template"].eq(rewritten).mean())
    study.write(CAPTIONS, own)
    templates = load_templates("standard")
    return load_pairs(study, study.accepted_images(), TRAINED_STATES, templates, SIDE), share


def shuffled(pairs: PairSet, seed: int) -> PairSet:
    """Each whole frame gets the attributes of another frame."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    others = (pairs.examples[number] for number in order)
    examples = (
        replace(one, attributes=other.attributes, path=other.path)
        for one, other in zip(pairs.examples, others, strict=True)
    )
    return replace(pairs, examples=tuple(examples))


@dataclass
class Bench:
    """The study, its pairs by captions (made when needed), and the frozen towers."""

    out: Path
    study: Workspace
    full: bool
    pairs: dict[str, tuple[PairSet, float]] = field(default_factory=dict)
    frozen: Frozen | None = None

    def of(self, captions: str) -> tuple[PairSet, float]:
        """The pairs of an arm."""
        if captions not in self.pairs:
            self.pairs[captions] = with_captions(self.out, captions)
        return self.pairs[captions]

    def carry_out(self, name: str, draw: int) -> dict[str, Any]:
        """Train and score an arm; the values are stored by frame and mask."""
        arm, started = FULL[name], time.process_time()
        pairs, share = self.of(arm.captions)
        images = self.study.accepted_images()
        split = fold_splits(images, FOLDS, draw, DRAW, val=0.0)
        length = REGIONS if arm.recipe == "sono" else WHOLE
        settings = {**SAME, **length, **arm.changes, "seed": draw}
        model: Model
        if self.full:
            own = Workspace.find(self.out / arm.captions)
            change = partial(shuffled, seed=draw) if arm.shuffled else lambda pairs: pairs
            model, steps = train_fully(own, split, arm.recipe, settings, change)
        else:
            model, steps = self.train_heads(arm, pairs, set(images["image_id"][split == "train"]),
                                            settings)  # fmt: skip
        table = self.study.captions()
        captions = {
            "map": own_captions(table, [load_templates("standard").id]).frames,
            "map_other": own_captions(table, [template_of("other-rules")]).frames,
        }
        frames = images[split == "test"].reset_index(drop=True)
        values = score(model, self.study, captions, frames)
        row = {"name": name, "draw": draw, "steps": steps, "train": int((split == "train").sum())}
        row |= {"paraphrases": share, "cpu_seconds": time.process_time() - started}
        np.savez(self.file(name, draw), facts=json.dumps(row), **values)
        return row

    def train_heads(
        self, arm: Arm, pairs: PairSet, learned: set[str], settings: dict[str, Any]
    ) -> tuple[Model, int]:
        """Heads on frozen towers, and the number of steps."""
        if self.frozen is None:
            template = load_templates("standard").id
            self.frozen = Frozen(self.study, template, pairs, self.out / "texts.pt")
        examples = tuple(one for one in pairs.examples if one.image_id in learned)
        chosen = PairSet(np.zeros((len(examples), 1, 1), np.uint8), examples)
        chosen = shuffled(chosen, settings["seed"]) if arm.shuffled else chosen
        config = training_config(self.study, arm.recipe, settings)
        return train_heads(self.frozen, chosen, config)

    def file(self, name: str, draw: int) -> Path:
        """Where the values of a run are stored."""
        return _file(self.out, name, draw, self.full)


def _file(out: Path, name: str, draw: int, full: bool) -> Path:
    letters = "".join(letter if letter.isalnum() else "-" for letter in name)
    return out / ("rows-full" if full else "rows") / f"{letters}-{draw}.npz"


def read_rows(out: Path, full: bool) -> dict[str, dict[int, Arrays]]:
    """The values of finished runs, by arm and draw."""
    paths = {(name, draw): _file(out, name, draw, full) for name in FULL for draw in range(FOLDS)}
    found: dict[str, dict[int, Arrays]] = {}
    for (name, draw), path in paths.items():
        if path.exists():
            found.setdefault(name, {})[draw] = dict(np.load(path))
    return found


def tables(out: Path, full: bool) -> str:
    """Means with the standard deviation of the draws, and paired differences in points."""
    found, columns = read_rows(out, full), list(COLUMNS)
    head = [*COLUMNS.values()]
    means = [f"| arm | draws | {' | '.join(head)} | CPU seconds |", "|---" * (len(head) + 3) + "|"]
    gains = [f"| arm | minus | draws | {' | '.join(head)} |", "|---" * (len(head) + 3) + "|"]
    for name, runs in found.items():
        cells = [_spread([_mean(run, column) for run in runs.values()]) for column in columns]
        seconds = np.mean([json.loads(str(run["facts"]))["cpu_seconds"] for run in runs.values()])
        means.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {seconds:.0f} |")
        for reference in AGAINST[name]:
            other = found.get(reference, {})
            if draws := sorted(runs.keys() & other.keys()):
                both = _joined(runs, draws), _joined(other, draws)
                cells = [_gain(*both, column) for column in columns]
                gains.append(f"| {name} | {reference} | {len(draws)} | {' | '.join(cells)} |")
    runs = found.get("default", {})
    bounds = [
        f"by chance, {name}: {_spread([float(np.nanmean(run[name])) for run in runs.values()])}"
        for name in (f"{way}_{known}" for way in ("map", "map_other")
                     for known in ("known_plane", "known"))
    ]  # fmt: skip
    return "\n".join([*means, "", *gains, "", *bounds])


def _mean(run: Arrays, column: str) -> float:
    values = run[column].astype(float)
    if column not in MACRO:
        return float(np.nanmean(values))
    return float(np.mean([values[run[MACRO[column]] == one].mean()
                          for one in np.unique(run[MACRO[column]])]))  # fmt: skip


def _spread(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _joined(runs: dict[int, Arrays], draws: Sequence[int]) -> Arrays:
    """The values of all draws, whose patients differ."""
    return {key: np.concatenate([np.atleast_1d(runs[draw][key]) for draw in draws])
            for key in runs[draws[0]]}  # fmt: skip


def _gain(run: Arrays, other: Arrays, column: str) -> str:
    """The paired difference with its interval over patients, in points; bold if 0 is outside."""
    values = run[column].astype(float), other[column].astype(float)
    known = ~np.isnan(values[0])
    clusters = np.unique(
        run["mask_patients" if column in OF_MASKS else "patients"][known], return_inverse=True
    )[1]
    classes = run[MACRO[column]][known] if column in MACRO else np.zeros(known.sum(), np.int64)
    gain = paired_difference(values[0][known], values[1][known], classes, clusters)
    text = f"{100 * gain.point:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    return f"**{text}**" if gain.above_zero or gain.below_zero else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", action="store_true", help="train the towers, too")
    parser.add_argument("--only", nargs="*", choices=list(FULL))
    parser.add_argument("--draws", type=int, nargs="*", default=range(FOLDS))
    parser.add_argument("--tables", action="store_true", help="only print those of finished runs")
    arguments = parser.parse_args()
    out, full = arguments.out, arguments.full
    arms = arguments.only or list(FULL if full else ARMS)
    if not full and (missing := sorted({*arms} - ARMS.keys())):
        parser.error(f"{', '.join(missing)}: only with --full")
    if not arguments.tables:
        torch.set_num_threads(1)
        bench = Bench(out, open_study(out, PATIENTS), full)
        jobs = [(name, draw) for draw in arguments.draws for name in arms]
        for name, draw in jobs:
            path = bench.file(name, draw)
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                print(bench.carry_out(name, draw), flush=True)
    print(tables(out, full))


if __name__ == "__main__":
    main()
