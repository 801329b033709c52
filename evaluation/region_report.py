"""Region control in the report (figure) and as regions.parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sono.curation.core.atomic import atomic_path, sha256
from sono.curation.core.frame_files import read_stored
from sono.evaluation.metrics import UNDECIDED
from sono.evaluation.plots import Panel, region_plot
from sono.evaluation.region_control import (
    CONDITIONS,
    TRAINING,
    Indices,
    RegionFeatures,
    name_regions,
    region_ranks,
)
from sono.evaluation.regions import Regions

FRAMES, MASKS = 6, 3  # of the figure


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
    for suffix, candidates in {"": data.in_plane[rows], "_of_all": data.everything[rows]}.items():
        part[f"predicted{suffix}"] = _names(
            name_regions(features, texts, candidates), data.structures
        )
        part[f"rank{suffix}"] = region_ranks(features, texts, truth, candidates)
    return part


def regions_picture(
    regions: Regions, image_ids: Sequence[str], files: Sequence[Path], planes: Sequence[str]
) -> bytes:
    """Real frames under two or three of their masks, with the answers, as PNG bytes.

    The result is empty if no frame has two structures. `planes` [frames] are the names of the
    frames' planes.
    """
    if regions.data is None:
        return b""
    data = regions.data
    answers = {name: _named(data, name) for name in ("own", "all_one")}
    shown: dict[str, list[Panel]] = {}
    for rows in pick_masks(data, image_ids):
        frame = int(data.frame[rows[0]])
        gray = read_stored(files[frame])
        title = f"{planes[frame]}; without a mask: {answers['all_one'][rows[0]]}"
        while title in shown:
            title += " "
        shown[title] = [
            Panel(
                gray,
                regions.masks[row].pixels(),
                data.structures[data.structure[row]],
                answers["own"][row],
            )
            for row in rows
        ]
    return region_plot(shown) if shown else b""


def pick_masks(data: RegionFeatures, image_ids: Sequence[str]) -> list[list[int]]:
    """Masks (rows) of up to six frames with two structures or more.

    The planes take turns; the order is that of a hash.
    """
    by_frame: dict[int, list[int]] = {}
    for row in np.flatnonzero(data.open):
        by_frame.setdefault(int(data.frame[row]), []).append(int(row))
    order = sorted(by_frame, key=lambda frame: sha256(image_ids[frame].encode()))
    turn: dict[int, int] = {}
    keyed = []
    for place, frame in enumerate(order):
        rows = by_frame[frame]
        if len(rows) > 1:
            plane = int(data.plane[rows[0]])
            turn[plane] = turn.get(plane, 0) + 1
            keyed.append((turn[plane], place, _first_masks(rows, data, image_ids[frame])))
    return [rows for _, _, rows in sorted(keyed)[:FRAMES]]


def _first_masks(rows: Sequence[int], data: RegionFeatures, key: str) -> list[int]:
    """Up to three masks of a frame, in the order of a hash."""
    return sorted(
        rows, key=lambda row: sha256(f"{key}:{data.structures[data.structure[row]]}".encode())
    )[:MASKS]


def _named(data: RegionFeatures, condition: str) -> list[str]:
    answers = name_regions(data.features[condition], data.texts[TRAINING], data.in_plane)
    return [name or "undecided" for name in _names(answers, data.structures)]


def _names(answers: Indices, structures: Sequence[str]) -> list[str | None]:
    return [None if answer == UNDECIDED else structures[answer] for answer in answers]
