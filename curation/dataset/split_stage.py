"""The `split` stage: assign the splits of a workspace again, or check them."""

from typing import Any

import pandas as pd

from sono.curation.core.column_values import SPLITS
from sono.curation.core.config import override
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, replace_column
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import orphan_counts
from sono.curation.dataset.split_checks import (
    check_splits,
    empty_splits_warning,
    possible_counts,
)
from sono.curation.dataset.splits import SplitConfig, assign_splits, fold_splits
from sono.curation.privacy.gate import check_privacy

SPLIT_COLUMNS = (
    "source_id", "image_id", "patient_id", "patient_group", "study_id", "exam_id",
    "duplicate_group", "plane", "center", "status", "partition", "split",
)  # fmt: skip


def split_workspace(
    workspace: Workspace, folds: int | None, fold: int, seed: int | None
) -> dict[str, Any]:
    """Assign the splits of a workspace again, or as fold `fold` (from 0) of `folds`.

    Returns the fold, the number of frames and patients of each split, a warning on empty splits,
    and a remark on runs that were trained on other splits. Raises SonoError if a split would leak.
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
        before = images["split"]
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
    used = {"test fold": f"{fold} of {folds}; --fold takes 0 to {folds - 1}"} if folds else {}
    shares = dict.fromkeys(SPLITS, 1.0) if folds else _shares(config)
    warning = empty_splits_warning(images, shares)
    return (
        used
        | _sizes(images)
        | ({"warning": warning} if warning else {})
        | _other_runs(workspace, before, images["split"])
    )


def _shares(config: SplitConfig) -> dict[str, float]:
    """The share of each split; none where a published partition gives the splits."""
    return {} if config.column else {name: float(getattr(config, name)) for name in SPLITS}


def _other_runs(workspace: Workspace, before: pd.Series, now: pd.Series) -> dict[str, str]:
    """A remark on the runs that were trained before the splits changed; {} for none."""
    runs = sorted(path.parent.name for path in workspace.runs.glob("*/log.csv"))
    if not runs or before.equals(now):
        return {}
    return {
        "remark": f"{', '.join(runs)}: trained on other splits; `sono eval` leaves out the frames "
        "that a run has seen, so train again to score the complete test split"
    }


def checked_splits(workspace: Workspace) -> dict[str, Any]:
    """Check the present splits and return the number of frames and patients of each.

    Raises SonoError if a patient or a near duplicate is in two splits.
    """
    images = workspace.images(SPLIT_COLUMNS)
    workspace.refuse_none_accepted(images)
    if images["split"].isna().all():
        raise SonoError(
            f"{workspace.root}: no frame is in a split, so nothing was checked; "
            "run `sono split` first"
        )
    check_splits(images)
    warning = empty_splits_warning(images, _shares(workspace.settings("splits", SplitConfig)))
    return _sizes(images) | ({"warning": warning} if warning else {})


def _sizes(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Frames and patients of each split, and counts of unknown and possibly equal patients."""
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
