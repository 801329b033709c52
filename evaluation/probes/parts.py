"""Which frames a probe is fitted on, chosen on and tested on: never one patient in two of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.column_values import SPLITS
from sono.curation.core.errors import SonoError
from sono.curation.dataset.related_frames import related_rows
from sono.curation.dataset.splits import fold_splits
from sono.curation.records.centers import like_centers
from sono.evaluation.selection import Target, resolve_target

Rows = NDArray[np.intp]

VALIDATION = 0.2  # share of the patients of a fold that are not tested


@dataclass(frozen=True)
class Part:
    """Row numbers of the frames to fit on, to choose on, and to test on."""

    train: Rows
    val: Rows
    test: Rows

    @property
    def pool(self) -> Rows:
        """The frames that are not tested."""
        return np.sort(np.concatenate([self.train, self.val]))

    def within(self, kept: NDArray[np.bool_]) -> "Part":
        """Only the rows that are True in `kept`, with their numbers in the whole table."""
        return Part(*(rows[kept[rows]] for rows in (self.train, self.val, self.test)))


@dataclass(frozen=True)
class Protocol:
    """How frames are divided: by the splits of the study, a held-out center, or folds."""

    center: str | None = None
    folds: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of the folder of results, after that of what is probed."""
        if self.folds is not None:
            return f"{self.folds} folds"
        return Target(self.center).folder

    def spelled_as_in(self, images: pd.DataFrame) -> "Protocol":
        """The same with the center as the images table spells it."""
        return replace(self, center=resolve_target(images, Target(self.center)).center)

    @property
    def words(self) -> str:
        """As in "5 folds by patient"."""
        if self.folds is not None:
            return f"{self.folds} folds by patient"
        return "split test" if self.center is None else f"center {self.center}, fitted on others"


def parts_of(
    images: pd.DataFrame, frames: pd.DataFrame, protocol: Protocol, chosen_on: bool = True
) -> list[Part]:
    """The parts of `frames`, rows of the accepted `images` with their index.

    Every fold is a part. The center is spelled as in the table. Raises SonoError for a part without
    frames to fit, choose or test on. If nothing is `chosen_on` validation frames, folds without
    frames to fit or test on are left out.
    """
    if protocol.folds is not None:
        parts = [
            _by_split(fold_splits(images, protocol.folds, fold, protocol.seed, VALIDATION), frames)
            for fold in range(protocol.folds)
        ]
    elif protocol.center is not None:
        parts = [_by_split(_held_out(images, protocol.center), frames)]
    else:
        parts = [_by_split(images["split"], frames)]
    if not chosen_on and (kept := [part for part in parts if len(part.pool) and len(part.test)]):
        return kept
    for part in parts:
        _refuse_empty(images, part, protocol)
    return parts


def rows_tested(parts: Sequence[Part]) -> Rows:
    """The rows that any part tests."""
    return np.unique(np.concatenate([part.test for part in parts]))


def shuffled(values: NDArray[Any], part: Part, rng: np.random.Generator) -> NDArray[Any]:
    """The values [n] with those that are fitted and chosen on in random order."""
    others = values.copy()
    others[part.pool] = rng.permutation(values[part.pool])
    return others


def _by_split(splits: "pd.Series[str]", frames: pd.DataFrame) -> Part:
    own = splits.loc[frames.index].to_numpy(object)
    return Part(*(np.flatnonzero(own == name) for name in SPLITS))


def _held_out(images: pd.DataFrame, center: str) -> "pd.Series[str]":
    """The splits with all frames of `center` in test, and nothing related to them elsewhere.

    As in training, frames without a center, and of centers that may be this one by their names, are
    in no split.
    """
    held = images["center"].isin([center]).to_numpy(bool)
    alike = like_centers([center], images["center"].dropna().unique())
    barred = images[images["center"].isin(alike)]
    near = related_rows(images, images, set(barred["image_id"]), ()).to_numpy(bool)
    splits = images["split"].astype(object).where(images["split"].isin(["train", "val"]), None)
    splits[near | images["center"].isna().to_numpy(bool)] = None
    splits[held] = "test"
    return splits


def _refuse_empty(images: pd.DataFrame, part: Part, protocol: Protocol) -> None:
    for name in SPLITS:
        if len(getattr(part, name)):
            continue
        advice = f"give {_other_ways(images, protocol)}, or run `sono split`"
        if protocol.folds is not None:
            advice = f"give fewer folds than {protocol.folds}, or add patients"
        raise SonoError(f"{protocol.words}: no frame to probe is in '{name}'; {advice}")


def _other_ways(images: pd.DataFrame, protocol: Protocol) -> str:
    """The options that divide the frames in another way."""
    centers = sorted(set(images["center"].dropna()) - {protocol.center})
    held = [f"--center {centers[-1]}"] if len(centers) > (protocol.center is None) else []
    return " or ".join(["--folds 5", *held])
