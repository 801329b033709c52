"""The mode `regions`: outlines found without a label, scored together with the whole frame."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.console import progress
from sono.curation.core.geometry import letterbox_mask
from sono.curation.core.planes import OTHER
from sono.curation.dataset.related_frames import related_rows
from sono.curation.records.centers import like_centers
from sono.evaluation.modes import derangement
from sono.evaluation.outlines import Outlines, StoredMask
from sono.evaluation.plane_from_regions import (
    Choice,
    RegionScores,
    choose,
    plane_evidence,
    plane_scores,
)
from sono.evaluation.region_control.regions import RegionStudy, shown_structures
from sono.evaluation.statistics.bootstrap import Interval
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.summaries import points
from sono.evaluation.zero_shot import class_features, masked_features, mode_features, read_squares


@dataclass(frozen=True)
class Weighting:
    """How much regions count: the kind of evidence, the weight, and its origin.

    `tried` is by weight on `frames` validation frames; both are empty if the settings give the
    weight.
    """

    kind: str
    weight: float
    frames: int = 0
    tried: tuple[Choice, ...] = ()

    @property
    def source(self) -> str:
        """As in "weight 0.5, chosen on 23 validation frames"."""
        origin = f"chosen on {self.frames} validation frames" if self.frames else "set in sono.toml"
        return f"weight {self.weight:g}, {origin}"


def validation_frames(
    images: pd.DataFrame, held_out: Sequence[str], evaluated: pd.DataFrame
) -> pd.DataFrame:
    """The labeled validation frames unrelated to held-out centers and `evaluated` frames.

    With a held-out center, frames without a center are left out too, since they may come from it.
    """
    centers = like_centers(held_out, images["center"].dropna().unique())
    barred = pd.concat([images[images["center"].isin(centers)], evaluated])
    frames = images[
        (images["split"] == "val") & images["plane"].notna() & (images["plane"] != OTHER)
    ]
    if held_out:
        frames = frames[frames["center"].notna()]
    related = related_rows(
        frames, images, set(barred["image_id"]), set(barred["patient_id"].dropna())
    )
    return frames[~related].reset_index(drop=True)


def choose_weight(study: RegionStudy, outlines: Outlines, kind: str) -> Weighting | None:
    """The weight of the regions chosen on the validation frames of `study`.

    The result is None if they show one plane or none.
    """
    present, truth = np.unique(study.plane_index, return_inverse=True)
    if len(present) < 2:
        return None
    regions = region_scores(study, [outlines.get(key, ()) for key in study.keys])
    everywhere = np.ones((study.side, study.side), np.bool_)
    whole = mode_features(
        study.model, study.files, ["all_one"], lambda mode, row: everywhere, study.batch_size
    )
    scores = cosines(whole["all_one"], _plane_texts(study))
    best, tried = choose(scores[:, present], regions.of(present), truth.astype(np.int64), kind)
    return Weighting(kind, best.weight, len(truth), tuple(tried))


def region_modes(
    study: RegionStudy, whole: NDArray[np.float64], weighting: Weighting, outlines: Outlines
) -> dict[str, NDArray[np.float64]]:
    """Scores [frames, planes] with each frame's regions, and with those of another frame.

    The latter are the control. `whole` [frames, planes] are the cosines of the whole frames.
    """
    donor = derangement(outlines, study.seed)
    given = {
        "regions": [outlines.get(key, ()) for key in study.keys],
        "regions_shuffled": [outlines.get(donor.get(key, ""), ()) for key in study.keys],
    }
    return {
        mode: plane_scores(
            whole, plane_evidence(region_scores(study, masks), weighting.kind), weighting.weight
        )
        for mode, masks in given.items()
    }


def region_scores(study: RegionStudy, outlines: Sequence[Sequence[StoredMask]]) -> RegionScores:
    """Cosines of the `outlines` of each frame with the texts of all structures."""
    structures = study.planes.structures
    texts = class_features(
        study.model, [study.templates.render_region_prompts(name) for name in structures]
    )
    places = max(map(len, outlines), default=0)
    found = np.full((len(outlines), places, len(structures)), np.nan)
    with progress("encoding proposed regions", len(outlines)) as advance:
        for start in range(0, len(outlines), study.batch_size):
            part = outlines[start : start + study.batch_size]
            squares = read_squares(study.files, range(start, start + len(part)), study.side)
            for place in range(places):
                rows = [row for row, masks in enumerate(part) if len(masks) > place]
                if rows:
                    masks = np.stack(
                        [letterbox_mask(part[row][place].pixels(), study.side) for row in rows]
                    )
                    encoded = masked_features(study.model, squares[rows], masks)
                    found[start + np.array(rows), place] = cosines(encoded, texts)
            advance(len(part))
    return RegionScores(
        found,
        shown_structures(study.planes, structures),
        float(study.model.logit_scale.detach().exp()),
    )


def region_planes_results(
    weighting: Weighting | None, differences: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The weight, its origin, and the sentence on whether regions help.

    `differences` are those of metrics.json.
    """
    if weighting is None:
        text = (
            "Proposed regions were not tested: no validation frames to choose their weight on; "
            "set region_weight."
        )
        return {"text": text, "helps": None}
    found = {
        row["modes"][0]: Interval.from_dict(row["top1_macro"])
        for row in differences
        if row["modes"][1] == "all_one"
    }
    helps, text = regions_verdict(weighting, found["regions"], found["regions_shuffled"])
    return asdict(weighting) | {"text": text, "helps": helps}


def regions_verdict(weighting: Weighting, gain: Interval, control: Interval) -> tuple[bool, str]:
    """Whether proposed regions help, and the sentence that reports it.

    `gain` is that of the regions over the whole frame, `control` that of regions of other
    frames.
    """
    if not weighting.weight and not weighting.frames:
        return False, "Proposed regions are switched off by region_weight = 0."
    if not weighting.weight:
        return (
            False,
            f"Proposed regions do not help: on the {weighting.frames} validation frames, macro "
            "Top-1 is highest without them.",
        )
    effect = (
        f"{points(gain)} macro Top-1 from proposed regions with the whole frame "
        f"({weighting.source})"
    )
    if not gain.above_zero:
        return False, f"{effect}: proposed regions are not shown to help."
    if control.above_zero:
        return (
            False,
            f"{effect}: proposed regions are not shown to help, because those of other frames "
            "gain as well.",
        )
    return True, f"{effect}: proposed regions help, and those of other frames show no gain."


def _plane_texts(study: RegionStudy) -> NDArray[np.float32]:
    return class_features(
        study.model, [study.templates.render_prompts(plane.name) for plane in study.planes.planes]
    )
