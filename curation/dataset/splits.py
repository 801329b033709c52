"""Assign frames to train, val and test; patients and near duplicates are never separated."""

from hashlib import blake2b
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from sono.curation.core.column_values import SPLITS
from sono.curation.core.config import MAX_SEED, Config
from sono.curation.core.errors import SonoError, counted
from sono.curation.dataset.exams import components, train_only
from sono.curation.dataset.split_checks import first_ids, ids_in_several_splits
from sono.curation.dataset.split_search import balance_splits, make_columns
from sono.curation.records.partition import cell_form

TRAIN = SPLITS.index("train")


class SplitConfig(Config):
    """Shares of the splits (they sum to 1), the seed, and how to use a published partition.

    `without_patient` is what keeps frames of unknown patients together. `column` of the records
    table gives the split of a row; `values` maps its cells to train, val and test.
    """

    train: float = Field(0.7, ge=0, le=1)
    val: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.2, ge=0, le=1)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    # file: every file without a patient is of a patient of its own
    without_patient: Literal["folder", "file"] = "folder"
    column: str = ""
    values: dict[str, str] = Field(default_factory=dict)

    @field_validator("values")
    @classmethod
    def _are_splits(cls, values: dict[str, str]) -> dict[str, str]:
        odd = sorted(set(values.values()) - set(SPLITS))
        if odd:
            raise ValueError(f"'{odd[0]}' is no split; map a cell to train, val or test")
        spelled: dict[str, str] = {}
        for cell, split in values.items():
            first = spelled.setdefault(cell_form(cell), cell)
            if values[first] != split:
                raise ValueError(
                    f"'{first}' and '{cell}' are the same cell, but map to "
                    f"{values[first]} and {split}"
                )
        return values

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SplitConfig":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test sum to {total:g} instead of 1")
        return self


def assign_splits(
    images: pd.DataFrame, config: SplitConfig, earlier: pd.Series | None = None
) -> pd.Series:
    """The split of every accepted row, null for the others; the order of rows does not matter.

    Rows that share a patient, a duplicate group or a file form a component and stay together. A row
    without a patient joins its study or exam folder; with neither, it goes to train. A hash with
    the seed places each component. Then components move until patients, frames, centers and planes
    have their shares of every split, to within 2 % or as near as complete patients allow. A
    component whose rows all have one `earlier` split (null: none) keeps it. Where `config` names a
    partition column, components follow it; raises SonoError if a component crosses the partition.
    """
    accepted = images[images["status"] == "accepted"]
    accepted = accepted if config.column else accepted.assign(partition=None)
    before = np.full(len(accepted), -1)
    if earlier is not None:
        before = np.asarray(
            pd.Categorical(earlier[accepted.index].astype(object), list(SPLITS)).codes
        )
    if config.column:
        published = _partition_splits(accepted)
        before = np.where(published >= 0, published, before)
    before = np.where(train_only(accepted), TRAIN, before)
    shares = np.array([config.train, config.val, config.test])
    parts = _assign_components(accepted, shares, f"split {config.seed}", np.asarray(before))
    return _split_column(images, accepted, np.array(SPLITS, dtype=object)[parts])


def _partition_splits(accepted: pd.DataFrame) -> NDArray[np.integer]:
    """The split index [rows] by the partition, for each row's component; -1 for none.

    Raises SonoError if a component crosses the partition.
    """
    for column, one, several in (
        ("patient_id", "patient crosses", "patients cross"),
        ("duplicate_group", "group of duplicates crosses", "groups of duplicates cross"),
    ):
        torn = ids_in_several_splits(accepted[column], accepted["partition"])
        if torn:
            raise SonoError(
                f"{counted(len(torn), one, several)} the published partition ({first_ids(torn)}), "
                "so it would leak; correct its column in the records table, or leave [splits] "
                "column out"
            )
    if accepted.empty:
        return np.zeros(0, int)
    component = components(accepted)
    stated = np.asarray(pd.Categorical(accepted["partition"].astype(object), list(SPLITS)).codes)
    lowest, highest = _lowest_highest(component, stated)
    if (crossing := lowest[component] < highest[component]).any():
        torn = sorted(accepted["source_id"][crossing].unique())
        raise SonoError(
            f"{counted(len(torn), 'file that belongs', 'files that belong')}"
            " together cross the published partition "
            f"({first_ids(torn)}), so it would leak; correct its column in the records table, or "
            "leave [splits] column out"
        )
    return np.asarray(highest[component])


def earlier_splits(images: pd.DataFrame, earlier: pd.DataFrame) -> pd.Series:
    """The split of each row's patient, else of its pixels, in an `earlier` images table.

    The result is null for new patients and pixels.
    """
    placed = earlier[earlier["split"].notna()].astype(object)
    found = pd.Series(None, index=images.index, dtype=object)
    for column in ("patient_id", "image_id"):
        known = (
            placed[placed[column].notna()]
            .drop_duplicates(column)
            .set_index(column)["split"]
            .to_dict()
        )
        found = found.where(found.notna(), images[column].astype(object).map(known))
    return found


def fold_splits(
    images: pd.DataFrame, folds: int, fold: int, seed: int, val: float = 0.1
) -> pd.Series:
    """The splits of one fold of a cross-validation over components.

    Fold `fold` (from 0) is test; the share `val` of the remaining components is val, the rest is
    train. Raises SonoError for a fold out of range and for fewer components than folds.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise SonoError(
            f"fold {fold} of {folds}: give at least 2 folds, and a fold from 0 to "
            f"{max(folds - 1, 1)}"
        )
    if not 0 <= val < 1:
        raise SonoError(f"val {val:g}: give a share from 0 to below 1")
    accepted = images[images["status"] == "accepted"].assign(partition=None)
    pinned = train_only(accepted)
    free = accepted[~pinned]
    groups = len(set(components(free))) if len(free) else 0
    if folds > groups:
        few = f"give at most {groups}" if groups > 1 else "one cannot be split; add patients"
        held = (
            f"; {counted(int(pinned.sum()), 'frame stays', 'frames stay')} in train, because the "
            "patient is unknown"
            if pinned.any()
            else ""
        )
        known = free["patient_id"].notna().all()
        who = (
            "patients (with their duplicates)"
            if known
            else "groups of frames of one patient or exam"
        )
        raise SonoError(f"{folds} folds of {groups} {who}: {few}{held}")
    parts = _assign_components(free, np.full(folds, 1 / folds), f"fold {seed}")
    rest = free[parts != fold]
    placed = np.full(len(free), "test", dtype=object)
    placed[parts != fold] = np.array(SPLITS, dtype=object)[
        _assign_components(rest, np.array([1 - val, val]), f"fold {seed} val")
    ]
    names = np.full(len(accepted), "train", dtype=object)
    names[~pinned] = placed
    return _split_column(images, accepted, names)


def _split_column(
    images: pd.DataFrame, accepted: pd.DataFrame, names: NDArray[np.object_]
) -> pd.Series:
    """The split names of the accepted rows as a column of `images`, null elsewhere."""
    column = np.full(len(images), None, dtype=object)
    column[(images["status"] == "accepted").to_numpy(bool)] = names
    return pd.Series(column, index=images.index, name="split", dtype="str")


def _assign_components(
    images: pd.DataFrame,
    shares: NDArray[np.floating],
    salt: str,
    before: NDArray[np.integer] | None = None,
) -> NDArray[np.integer]:
    """The split index [rows] in `shares` of each row of `images`, the same within a component.

    `before` [rows] are earlier split indices (-1: none); components that agree keep theirs.
    """
    if images.empty:
        return np.zeros(0, int)
    found = components(images)
    place = _hash_places(images, found, salt)
    # number components by their hash, so that the order of rows has no effect
    component = np.argsort(np.argsort(place, kind="stable"), kind="stable")[found]
    place = np.sort(place, kind="stable")
    shares = shares / shares.sum()
    # a share of 0 has two equal edges, and no hash is between them
    parts = np.minimum(
        np.searchsorted(np.cumsum(shares), place, side="right"), np.flatnonzero(shares)[-1]
    )
    kept = _agreed_splits(component, before) if before is not None else np.full(len(place), -1)
    parts = np.where(kept >= 0, kept, parts)
    return np.asarray(
        balance_splits(make_columns(images, component), shares, parts, np.flatnonzero(kept < 0))[
            component
        ]
    )


def _agreed_splits(
    component: NDArray[np.integer], before: NDArray[np.integer]
) -> NDArray[np.integer]:
    """The earlier split index [components] on which the rows of a component agree; -1 for none."""
    lowest, highest = _lowest_highest(component, before)
    return np.where(lowest == highest, highest, -1)


def _lowest_highest(
    component: NDArray[np.integer], parts: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The lowest and highest of the `parts` [rows] of each component, ignoring -1.

    A component without any has a very large lowest and the highest -1.
    """
    size = component.max() + 1
    lowest, highest = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(lowest, component[parts >= 0], parts[parts >= 0])
    np.maximum.at(highest, component, parts)
    return lowest, highest


def _hash_places(
    images: pd.DataFrame, component: NDArray[np.integer], salt: str
) -> NDArray[np.floating]:
    """A number in [0, 1) for each component, by a hash of `salt` and its first image id.

    Image ids are digests of pixels, so the same frames and seed give the same splits in every
    study; pseudonyms depend on the key of one study.
    """
    keys = images["image_id"].where(images["image_id"].notna(), images["source_id"])
    codes, names = pd.factorize(keys.to_numpy(object), sort=True)
    first = np.full(component.max() + 1, len(names))
    np.minimum.at(first, component, codes)
    digests = [blake2b(f"{salt} {names[code]}".encode(), digest_size=8).digest() for code in first]
    numbers = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    return (numbers >> np.uint64(11)).astype(float) / 2.0**53
