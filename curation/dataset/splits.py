"""Splits that leak nothing.

Whatever belongs to one patient or to near duplicates stays together.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from sono.curation.core.column_values import SPLITS
from sono.curation.core.config import MAX_SEED, Config, override
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, replace_column
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import components, exam_ties, orphan_counts, train_only
from sono.curation.dataset.split_search import balance, make_columns
from sono.curation.privacy.gate import check_privacy
from sono.curation.records.centers import centers_called, like_centers
from sono.curation.records.partition import cell_form

SPLIT_COLUMNS = (
    "source_id", "image_id", "patient_id", "patient_group", "study_id", "exam_id",
    "duplicate_group", "plane", "center", "status", "partition", "split",
)  # fmt: skip
TRAIN = SPLITS.index("train")


class SplitConfig(Config):
    """Shares of the splits (they sum to 1), the seed, what keeps frames of unknown patients
    together, and a partition.

    `column` of the records table names the split of a row, in words that `values` maps to train,
    val and test.
    """

    train: float = Field(0.7, ge=0, le=1)
    val: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.2, ge=0, le=1)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    # file: every file without a patient is of another one
    without_patient: Literal["folder", "file"] = "folder"
    column: str = ""
    values: dict[str, str] = Field(default_factory=dict)

    @field_validator("values")
    @classmethod
    def _are_splits(cls, values: dict[str, str]) -> dict[str, str]:
        odd = sorted(set(values.values()) - set(SPLITS))
        if odd:
            raise ValueError(f"'{odd[0]}' is no split; a cell means train, val or test")
        spelled: dict[str, str] = {}
        for cell, split in values.items():
            first = spelled.setdefault(cell_form(cell), cell)
            if values[first] != split:
                raise ValueError(
                    f"'{first}' and '{cell}' are one cell, but mean {values[first]} and {split}"
                )
        return values

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SplitConfig":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, val and test sum to {total:g} instead of 1")
        return self


def assign_splits(
    images: pd.DataFrame, config: SplitConfig, standing: pd.Series | None = None
) -> pd.Series:
    """The split of every accepted row, null for the others; in any order of rows the same.

    Rows that share a patient, a duplicate group or a file stay together; so do rows without a
    patient and their study or exam folder, and those that have neither are train. A hash with the
    seed places each component, then some move until patients, frames, centers and planes have their
    shares of every split, as near as whole patients allow (or within 2 %). Components whose rows
    agree in a `standing` split (null: none) keep it. Where `config` names the column of a
    partition, components with rows in it are where it says; SonoError where one crosses it.
    """
    accepted = images[images["status"] == "accepted"]
    accepted = accepted if config.column else accepted.assign(partition=None)
    before = np.full(len(accepted), -1)
    if standing is not None:
        before = np.asarray(
            pd.Categorical(standing[accepted.index].astype(object), list(SPLITS)).codes
        )
    if config.column:
        published = _published(accepted)
        before = np.where(published >= 0, published, before)
    before = np.where(train_only(accepted), TRAIN, before)
    shares = np.array([config.train, config.val, config.test])
    parts = _assign(accepted, shares, f"split {config.seed}", np.asarray(before))
    return _named(images, accepted, np.array(SPLITS, dtype=object)[parts])


def _published(accepted: pd.DataFrame) -> NDArray[np.integer]:
    """The part [rows] that the partition gives each component; -1 where it says nothing.

    SonoError for a crossing.
    """
    for column, kind in (("patient_id", "patients"), ("duplicate_group", "groups of duplicates")):
        torn = torn_ids(accepted[column], accepted["partition"])
        if torn:
            raise SonoError(
                f"{len(torn)} {kind} cross the published partition ({shown(torn)}), so it would "
                f"leak; "
                "correct its column in the records table, or leave [splits] column out"
            )
    if accepted.empty:
        return np.zeros(0, int)
    component = components(accepted)
    stated = np.asarray(pd.Categorical(accepted["partition"].astype(object), list(SPLITS)).codes)
    lowest, highest = _extremes(component, stated)
    if (crossing := lowest[component] < highest[component]).any():
        torn = sorted(accepted["source_id"][crossing].unique())
        raise SonoError(
            f"{len(torn)} files that belong together cross the published partition "
            f"({shown(torn)}), so it would leak; "
            "correct its column in the records table, or leave [splits] column out"
        )
    return np.asarray(highest[component])


def standing_splits(images: pd.DataFrame, earlier: pd.DataFrame) -> pd.Series:
    """The split that each row's patient, else its pixels, had in an `earlier` images table.

    Null for new ones.
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
    """Cross-validation over components.

    Fold `fold` (from 0) is test, the share `val` of the rest is val.
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
        few = f"give at most {groups}" if groups > 1 else "one cannot be split; add others"
        held = f"; {pinned.sum()} frames of unknown patients stay in train" if pinned.any() else ""
        raise SonoError(f"{folds} folds of {groups} patients (with their duplicates): {few}{held}")
    parts = _assign(free, np.full(folds, 1 / folds), f"fold {seed}")
    rest = free[parts != fold]
    placed = np.full(len(free), "test", dtype=object)
    placed[parts != fold] = np.array(SPLITS, dtype=object)[
        _assign(rest, np.array([1 - val, val]), f"fold {seed} val")
    ]
    names = np.full(len(accepted), "train", dtype=object)
    names[~pinned] = placed
    return _named(images, accepted, names)


def check_splits(images: pd.DataFrame) -> None:
    """SonoError that names the pseudonyms where a patient, a duplicate group or a file is in two
    splits.

    So it is with a study or exam folder that holds frames without a patient, and with such frames
    of neither in val or
    test: any of them may be of a patient in train.
    """
    placed = images[images["split"].notna()]
    study, exam = exam_ties(placed)
    kinds = (
        (placed["patient_id"], "patients are"),
        (
            placed["patient_group"],
            "groups of patients who may be one (by leading zeros, an unknown hospital, or a number "
            "in two centers) are",
        ),
        (placed["duplicate_group"], "duplicate groups are"),
        (placed["source_id"], "files are"),
        (study, "studies with frames of unknown patients are"),
        (exam, "exam folders with frames of unknown patients are"),
    )
    problems = [
        f"{len(torn)} {kind} in more than one split ({shown(torn)})"
        for ids, kind in kinds
        if (torn := torn_ids(ids, placed["split"]))
    ]
    advice = "assign the splits again by `sono split`"
    loose = placed["source_id"][train_only(placed) & (placed["split"] != "train").to_numpy(bool)]
    if len(loose):
        names = shown(sorted(loose.unique()))
        problems.append(
            f"{len(loose)} frames without patient, study and exam folder are in val or test "
            f"({names})"
        )
        advice = "run `sono qc` again, then `sono split`"
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise SonoError(f"splits leak: {'; '.join(problems)}; {advice}; {count}")


def torn_ids(ids: pd.Series, splits: pd.Series) -> list[str]:
    """The `ids` that occur with more than one of `splits`, sorted."""
    pairs = (
        pd.DataFrame({"id": ids.astype(object), "split": splits.astype(object)})
        .dropna()
        .drop_duplicates()
    )
    return sorted(pairs["id"][pairs["id"].duplicated()].unique())


def shown(ids: Sequence[str]) -> str:
    """The first five of `ids`, for a message."""
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def related_rows(
    frames: pd.DataFrame,
    images: pd.DataFrame,
    image_ids: Collection[str],
    patients: Collection[str],
) -> "pd.Series[bool]":
    """Whether each of `frames` is one of `image_ids`, of one of `patients`, or a near duplicate of
    such an image.

    So is a frame in a study or exam folder of such an image, if it holds frames whose patient is
    not known.
    """
    known = images["image_id"].isin(list(image_ids))
    groups = set(images.loc[known, "duplicate_group"].dropna())
    own = known | images["patient_id"].isin(list(patients))
    possible = set(images.loc[own, "patient_group"].dropna())
    tied = pd.Series(False, index=frames.index)
    for ids in exam_ties(images):
        own = ids[images["image_id"].isin(frames["image_id"]).to_numpy(bool)]
        near = set(images.loc[own.index[own.isin(set(ids[known].dropna()))], "image_id"])
        tied |= frames["image_id"].isin(near)
    return (
        tied
        | frames["image_id"].isin(list(image_ids))
        | frames["patient_id"].isin(list(patients))
        | frames["patient_group"].isin(list(possible))
        | frames["duplicate_group"].isin(list(groups))
    )


def training_rows(images: pd.DataFrame, hold_out: Sequence[str]) -> pd.DataFrame:
    """The accepted rows that share no center, patient, exam folder or duplicate group with the
    centers of `hold_out`.

    Those are the centers that `hold_out` means in any spelling, and all that may be one with them
    by their names (North General for North). Rows without a center are left out too, since they may
    come from a held-out one. SonoError for an unknown center.
    """
    accepted = images[images["status"] == "accepted"]
    if not hold_out:
        return accepted
    _check_centers(images, hold_out)
    centers = like_centers(hold_out, images["center"].dropna().unique())
    held = images[images["center"].isin(centers)]
    keep = accepted["center"].notna() & ~accepted["center"].isin(centers)
    for column in ("patient_id", "patient_group", "exam_id", "duplicate_group", "image_id"):
        keep &= ~accepted[column].astype(object).isin(set(held[column].dropna()))
    if not keep.any():
        raise SonoError(
            f"nothing is left to train on without {', '.join(hold_out)}; hold out fewer centers"
        )
    return accepted[keep]


def split_counts(images: pd.DataFrame) -> pd.DataFrame:
    """Frames by plane (rows; "unlabeled" for none) and split (columns).

    The last row, "patients", counts patients.
    """
    placed = images[images["split"].notna()]
    planes = placed["plane"].astype(object).where(placed["plane"].notna(), "unlabeled")
    counts = pd.crosstab(planes, placed["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts.loc["patients"] = (
        placed.groupby("split")["patient_id"].nunique().reindex(list(SPLITS), fill_value=0)
    )
    return counts.rename_axis(index="plane", columns=None)


def split_workspace(
    workspace: Workspace, folds: int | None, fold: int, seed: int | None
) -> dict[str, dict[str, int]]:
    """Assign the splits of a workspace again, or as one of `folds`.

    Returns frames and patients of each split.
    """
    config = override(workspace.settings("splits", SplitConfig), seed=seed)
    with workspace.lock():
        images = workspace.images(SPLIT_COLUMNS)
        workspace.refuse_none_accepted(images)
        if config.column and not folds and images["partition"].isna().all():
            raise SonoError(
                f"{workspace.root}: no frame has a value of '{config.column}' ([splits] column); "
                "run `sono qc` again with --records"
            )
        images["split"] = (
            fold_splits(images, folds, fold, config.seed)
            if folds
            else assign_splits(images, config)
        )
        check_splits(images)
        replace_column(
            workspace.path(IMAGES), IMAGES, "split", images["split"], workspace.study().key_check
        )
        check_privacy(workspace)
    return _sizes(images)


def checked_splits(workspace: Workspace) -> dict[str, dict[str, int]]:
    """Frames and patients of each split as it stands.

    SonoError where a patient or a near duplicate leaks.
    """
    images = workspace.images(SPLIT_COLUMNS)
    workspace.refuse_none_accepted(images)
    if images["split"].isna().all():
        raise SonoError(
            f"{workspace.root}: no frame is in a split, so nothing was checked; run `sono split` "
            f"first"
        )
    check_splits(images)
    return _sizes(images)


def _sizes(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Frames and patients of each split, and what happens to frames without a patient where
    there are any.
    """
    frames = images["split"].value_counts().to_dict()
    patients = images.groupby("split")["patient_id"].nunique().to_dict()
    sizes = {
        name: {"frames": int(frames.get(name, 0)), "patients": int(patients.get(name, 0))}
        for name in SPLITS
    }
    orphans = orphan_counts(images)
    possible = possible_counts(images)
    return (
        sizes
        | ({"without patient": orphans} if orphans else {})
        | ({"may be one": possible} if possible else {})
    )


def possible_counts(images: pd.DataFrame) -> dict[str, int]:
    """Accepted frames of patients who may be one with others, and these patients.

    {} where there are none.
    """
    found = images[(images["status"] == "accepted") & images["patient_group"].notna()]
    return (
        {"frames": len(found), "patients": int(found["patient_id"].nunique())} if len(found) else {}
    )


def _check_centers(images: pd.DataFrame, hold_out: Sequence[str]) -> None:
    counts = images["center"].value_counts().sort_index()
    for center in hold_out:
        if not centers_called(center, counts.index):
            known = ", ".join(f"{name} ({count} frames)" for name, count in counts.items())
            raise SonoError(
                f"unknown center '{center}'; known: "
                f"{known or 'none, run `sono qc` with --center or --center-from'}"
            )


def _named(images: pd.DataFrame, accepted: pd.DataFrame, names: NDArray[np.object_]) -> pd.Series:
    """`names` of the accepted rows as a column of `images`, null elsewhere."""
    column = np.full(len(images), None, dtype=object)
    column[(images["status"] == "accepted").to_numpy(bool)] = names
    return pd.Series(column, index=images.index, name="split", dtype="str")


def _assign(
    images: pd.DataFrame,
    shares: NDArray[np.floating],
    salt: str,
    before: NDArray[np.integer] | None = None,
) -> NDArray[np.integer]:
    """The part [rows] of `shares` for every row of `images`, whole components at a time.

    `before` [rows] are the parts that rows stood in (-1: none); components that agree stay there.
    """
    if images.empty:
        return np.zeros(0, int)
    found = components(images)
    place = _hash_places(images, found, salt)
    # their numbers decide nothing
    component = np.argsort(np.argsort(place, kind="stable"), kind="stable")[found]
    place = np.sort(place, kind="stable")
    shares = shares / shares.sum()
    # a share of 0 gives two equal edges, and no hash falls between them
    parts = np.minimum(
        np.searchsorted(np.cumsum(shares), place, side="right"), np.flatnonzero(shares)[-1]
    )
    kept = _agreed(component, before) if before is not None else np.full(len(place), -1)
    parts = np.where(kept >= 0, kept, parts)
    return np.asarray(
        balance(make_columns(images, component), shares, parts, np.flatnonzero(kept < 0))[component]
    )


def _agreed(component: NDArray[np.integer], before: NDArray[np.integer]) -> NDArray[np.integer]:
    """The part [components] that all rows of a component stood in, as far as they stood anywhere.

    -1 for none.
    """
    lowest, highest = _extremes(component, before)
    return np.where(lowest == highest, highest, -1)


def _extremes(
    component: NDArray[np.integer], parts: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The lowest and highest of the `parts` [rows] of each component without its -1.

    A large number and -1 for none.
    """
    size = component.max() + 1
    lowest, highest = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(lowest, component[parts >= 0], parts[parts >= 0])
    np.maximum.at(highest, component, parts)
    return lowest, highest


def _hash_places(
    images: pd.DataFrame, component: NDArray[np.integer], salt: str
) -> NDArray[np.floating]:
    """A number in [0, 1) for each component, from its first image id (a digest of the pixels) and
    `salt` alone.

    Pseudonyms are of one study's key; with the pixels, the same frames and seed give the same
    splits in every study.
    """
    keys = images["image_id"].where(images["image_id"].notna(), images["source_id"])
    codes, names = pd.factorize(keys.to_numpy(object), sort=True)
    first = np.full(component.max() + 1, len(names))
    np.minimum.at(first, component, codes)
    digests = [blake2b(f"{salt} {names[code]}".encode(), digest_size=8).digest() for code in first]
    numbers = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    return (numbers >> np.uint64(11)).astype(float) / 2.0**53
