"""The answers of an evaluation, one by one: predictions.parquet and regions.parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.atomic import atomic_path
from sono.evaluation.region_control.measures import (
    CONDITIONS,
    TRAINING,
    RegionFeatures,
    name_regions,
    region_ranks,
)
from sono.evaluation.region_control.regions import Regions
from sono.evaluation.statistics.metrics import UNDECIDED
from sono.evaluation.summaries import Scored


def write_predictions(path: Path, frames: pd.DataFrame, scored: Scored) -> None:
    """Write one row per frame and mode: truth, answer, rank of the truth, cosines.

    Ties count against the truth; `cluster` numbers the patients, and frames of unknown ones by
    study or file; `scores` holds the cosine with every candidate plane.
    """
    parts = []
    for mode in scored.scores:
        rows = np.flatnonzero(scored.rows(mode))
        part = frames.loc[rows, ["image_id", "patient_id", "center", "plane"]].assign(mode=mode)
        part["predicted"] = names_of(scored.predictions(mode)[rows], scored.present_planes)
        part["cluster"] = scored.clusters[rows]
        scores = scored.scores[mode][rows]
        own = scores[np.arange(len(rows)), scored.truth[rows]]
        part["rank"] = (scores[:, scored.present] >= own[:, None]).sum(axis=1)
        parts.append(part.assign(scores=list(scores.astype(np.float32))))
    with atomic_path(path) as temporary:
        pd.concat(parts, ignore_index=True).to_parquet(temporary, index=False)


def write_region_predictions(path: Path, frames: pd.DataFrame, regions: Regions) -> None:
    """Write one row per mask and condition.

    Each row has the structure named and the rank of the true one, in the plane and among all.
    """
    columns = ["image_id", "patient_id", "center", "plane"]
    own = frames.loc[[region.frame for region in regions.masks], columns].reset_index(drop=True)
    own["structure"] = [region.structure for region in regions.masks]
    own["mask_ids"] = [list(region.mask_ids) for region in regions.masks]
    data = regions.data
    parts = (
        [_answers(own, data, name) for name in CONDITIONS if name in data.features] if data else []
    )
    nothing = own.assign(condition="", predicted=None, rank=0, predicted_of_all=None, rank_of_all=0)
    with atomic_path(path) as temporary:
        pd.concat(parts or [nothing], ignore_index=True).to_parquet(temporary, index=False)


def _answers(own: pd.DataFrame, data: RegionFeatures, condition: str) -> pd.DataFrame:
    rows = np.flatnonzero(data.has(condition))
    features, truth, texts = (
        data.features[condition][rows],
        data.structure[rows],
        data.texts[TRAINING],
    )
    part = own.loc[rows].assign(condition=condition)
    for suffix, candidates in {
        "": data.in_plane[rows],
        "_of_all": data.all_structures[rows],
    }.items():
        part[f"predicted{suffix}"] = names_of(
            name_regions(features, texts, candidates), data.structures
        )
        part[f"rank{suffix}"] = region_ranks(features, texts, truth, candidates)
    return part


def names_of(answers: NDArray[np.integer], names: Sequence[str]) -> list[str | None]:
    """The name of each answer; None where it is undecided."""
    return [None if answer == UNDECIDED else names[answer] for answer in answers]
