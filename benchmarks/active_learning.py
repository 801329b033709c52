"""Does the review in the order of doubt teach a segmenter more than random masks do?

Half of the patients are the pool, the other half is scored. Both orders begin with the same masks,
drawn at random, as many of each structure as of the others. Then one continues so; the other asks
for those pool masks that the segmenter doubts most (1 minus the mean probability of its mask's
pixels; 1 where it finds none). The cost is the number of reviewed masks. At each budget the
segmenter is trained again. A gain is claimed only if its interval over the seeds excludes 0.

Example: python benchmarks/active_learning.py study --budgets 10 20 40 80 --seeds 5
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from sono.annotation.segmenter.config import SegmenterConfig
from sono.annotation.segmenter.examples import Examples, as_input, load_examples, usable_masks
from sono.annotation.segmenter.fit import learn, mean_dice
from sono.annotation.segmenter.model import Segmenter
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.splits import fold_splits

BATCH = 16


class Pool:
    """The frames and masks of a study: a pool to ask about, and others that are scored."""

    def __init__(self, workspace: Workspace, config: SegmenterConfig, seed: int) -> None:
        frames = workspace.accepted_images().drop_duplicates("image_id")
        whole = frames.assign(patient_id=frames["patient_id"].fillna(frames["image_id"]))
        test = fold_splits(whole, 2, 0, seed, val=0) == "test"
        self.workspace, self.config = workspace, config
        self.frames = frames[~test].assign(split="train").sort_values("image_id")
        self.masks = usable_masks(workspace.masks(), self.frames)
        self.masks = self.masks.drop_duplicates(["image_id", "structure"]).reset_index(drop=True)
        self.names = sorted(set(self.masks["structure"]))
        self.unseen = self._load(frames[test], usable_masks(workspace.masks(), frames[test]))
        self.examples = self._load(self.frames, self.masks)
        shown = sorted(set(self.masks["image_id"]))
        self.frame = self.masks["image_id"].map({one: at for at, one in enumerate(shown)})
        self.column = self.masks["structure"].map({one: at for at, one in enumerate(self.names)})

    def _load(self, frames: pd.DataFrame, masks: pd.DataFrame) -> Examples:
        return load_examples(self.workspace, frames, masks, self.names, self.config.image_size)

    def stratified(self, draw: np.random.Generator) -> list[int]:
        """The masks in a random order in which each structure has its turn."""
        shuffled = self.masks.loc[draw.permutation(len(self.masks)), "structure"]
        turn = shuffled.groupby(shuffled).cumcount()
        return list(turn.sort_values(kind="stable").index)

    def train(self, chosen: list[int], seed: int) -> tuple[Segmenter, float]:
        """A segmenter of some masks, and its mean Dice over structures on unseen patients."""
        config = self.config.model_copy(update={"seed": seed})
        masks = self.masks.loc[chosen]
        model = learn(self.workspace, self.frames, masks, self.names, config).model
        return model, float(np.nanmean(mean_dice(model, self.unseen)))

    @torch.inference_mode()
    def doubts(self, model: Segmenter) -> NDArray[np.float64]:
        """The doubt of each mask of the pool, from what the model finds of its structure."""
        frames, found = self.examples.frames, []
        for start in range(0, len(frames), BATCH):
            share = torch.sigmoid(model(as_input(frames[start : start + BATCH])))
            inside = share > 0.5
            mean = (share * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
            found.append(1 - mean.numpy())
        return np.asarray(np.concatenate(found)[self.frame, self.column], np.float64)


def curves(pool: Pool, budgets: list[int], seed: int) -> tuple[list[float], list[float]]:
    """The Dice at each budget, of random masks and of the most doubtful ones."""
    order = pool.stratified(np.random.default_rng(seed))
    chosen = order[: budgets[0]]
    model, start = pool.train(chosen, seed)
    plain, asked = [start], [start]
    for budget in budgets[1:]:
        plain.append(pool.train(order[:budget], seed)[1])
        doubts = pool.doubts(model)
        doubts[chosen] = -1
        chosen = [*chosen, *np.argsort(-doubts, kind="stable")[: budget - len(chosen)].tolist()]
        model, score = pool.train(chosen, seed)
        asked.append(score)
    return plain, asked


def report(budgets: list[int], found: list[tuple[list[float], list[float]]]) -> None:
    """Print the curves with their spread over the seeds, and the gain with its interval."""
    plain, asked = (np.array(one) for one in zip(*found, strict=True))
    print("masks  random (SD over seeds)  most doubtful (SD)  gain, 95 % interval over seeds")
    gains = np.column_stack([asked - plain, (asked - plain)[:, 1:].mean(axis=1)])
    for number, name in enumerate([*map(str, budgets), "mean"]):
        gain = gains[:, number]
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        values = "" if name == "mean" else "  ".join(
            f"{one[:, number].mean():.4f} ({one[:, number].std(ddof=1):.4f})"
            for one in (plain, asked)
        )  # fmt: skip
        print(
            f"{name:>5}  {values:36}  {gain.mean():+.4f} ({gain.mean() - half:+.4f} to "
            f"{gain.mean() + half:+.4f})",
            flush=True,
        )


def main() -> None:
    """Train at each budget for each seed; print the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=96)
    options = parser.parse_args()
    config = SegmenterConfig(image_size=options.image_size, steps=options.steps)
    found = []
    for seed in range(options.seeds):
        pool = Pool(Workspace.find(options.study), config, seed)
        found.append(curves(pool, options.budgets, seed))
        print(seed, *(np.round(one, 4).tolist() for one in found[-1]), flush=True)
        if len(found) > 1:
            report(options.budgets, found)


if __name__ == "__main__":
    main()
