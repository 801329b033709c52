"""All results of an evaluation as one JSON document, for the report and the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sono.evaluation.modes import ORACLE_MODES, MaskPlan
from sono.evaluation.selection import Selection, Target
from sono.evaluation.statistics.bootstrap import Draws, Interval
from sono.evaluation.strata import stratum_results
from sono.evaluation.summaries import (
    Difference,
    Scored,
    baselines,
    class_rows,
    confusion_of,
    differences,
    measure_modes,
    verdict,
)


@dataclass(frozen=True)
class Evidence:
    """The data of the results: target, frames, masks, scores and training counts.

    `plane_names` maps plane ids to names.
    """

    target: Target
    selection: Selection
    plan: MaskPlan
    scored: Scored
    planes_seen: dict[str, int]
    plane_names: Mapping[str, str]
    how: Draws


def collect_results(evidence: Evidence) -> dict[str, Any]:
    """Metrics by mode, differences, the verdict on masks, counts, confusion and notes."""
    selection, scored = evidence.selection, evidence.scored
    compared = differences(scored, evidence.how)
    helps, sentence = verdict(compared)
    return _counts(evidence) | {
        "planes": scored.present_planes,
        "candidates": list(scored.planes),
        "compared_metric": scored.compared_metric,
        "verdict": {"masks_help": helps, "text": sentence},
        "differences": [_difference(difference) for difference in compared],
        "groups": [_group(evidence, title, rows) for title, rows in _image_sets(scored).items()],
        "classes": class_rows(scored, evidence.planes_seen, evidence.how),
        "confusion": {mode: confusion_of(scored, mode).tolist() for mode in scored.scores},
        "strata": stratum_results(scored, selection.frames, evidence.how),
        "excluded": selection.excluded,
        "notes": notes(evidence),
    }


def notes(evidence: Evidence) -> list[str]:
    """What a reader must know before reading the numbers."""
    scored, plan = evidence.scored, evidence.plan
    found = _class_notes(evidence)
    if "proposed" in scored.scores:
        rest = "; the others get all-one" if len(plan.proposed) < len(scored.truth) else ""
        found.append(
            f"A mask was proposed for {len(plan.proposed)} of {len(scored.truth)} frames{rest}."
        )
    if any(mode in scored.scores for mode in ORACLE_MODES):
        found.append(
            "Annotated, box and shuffled masks are oracle masks: somebody who knew the plane made "
            "them, and which structure is annotated can give the plane away. They are an upper "
            "bound of what masks could do; users do not have them."
        )
    without = int(evidence.selection.frames["patient_id"].isna().sum())
    if without:
        found.append(
            f"{without} frames have no patient id: each study or file counts as a patient of its "
            "own, so intervals are too narrow if several are of one patient, and a leak by "
            "patient cannot be detected."
        )
    return found


def _class_notes(evidence: Evidence) -> list[str]:
    scored = evidence.scored
    classes, found = len(scored.present), []
    if classes == 1:
        found.append(
            "Only one plane is present, so a constant answer is always right among the planes "
            f"present. Masks are compared by Top-1 of all {len(scored.planes)} planes."
        )
    names = evidence.plane_names
    rare = [
        names[plane]
        for plane, count in zip(
            scored.present_planes, np.bincount(scored.present_truth), strict=True
        )
        if count < 10
    ]
    if rare:
        few = f"all {classes} planes" if len(rare) == classes > 1 else ", ".join(rare)
        found.append(f"Fewer than 10 frames: {few}; macro numbers depend on them strongly.")
    untrained = [
        names[plane] for plane in scored.present_planes if not evidence.planes_seen.get(plane)
    ]
    if untrained and not evidence.selection.origin:
        found.append(f"Not in the training set at all: {', '.join(untrained)}.")
    return found


def _counts(evidence: Evidence) -> dict[str, Any]:
    target, selection, frames = evidence.target, evidence.selection, evidence.selection.frames
    return {
        "first_line": selection.first_line(target),
        "center": target.center,
        "split": target.split if target.center is None else None,
        "center_seen": selection.center_seen,
        "seen_frames": selection.seen_frames,
        "frames": len(frames),
        "patients": int(frames["patient_id"].nunique()),
        "frames_without_patient": int(frames["patient_id"].isna().sum()),
        "clusters": int(evidence.scored.clusters.max()) + 1,
        "proposals_found": len(evidence.plan.proposed),
        "annotated_frames": len(evidence.plan.annotated),
    }


def _image_sets(scored: Scored) -> dict[str, NDArray[np.bool_]]:
    """All frames, and those with an annotated mask if only some have one.

    Within a set, all modes are shown on the same images.
    """
    sets = {"all frames": np.ones(len(scored.truth), np.bool_)}
    oracle = next((mode for mode in ORACLE_MODES if mode in scored.scores), None)
    if oracle and not scored.rows(oracle).all():
        sets["frames with an annotated mask"] = scored.rows(oracle)
    return sets


def _group(evidence: Evidence, title: str, rows: NDArray[np.bool_]) -> dict[str, Any]:
    scored = evidence.scored
    return {
        "title": title,
        "frames": int(rows.sum()),
        "clusters": len(np.unique(scored.clusters[rows])),
        "modes": {
            mode: _as_dicts(values)
            for mode, values in measure_modes(scored, rows, evidence.how).items()
        },
        "baselines": baselines(scored, rows, evidence.planes_seen),
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "modes": list(difference.pair),
        "question": difference.question,
        "images": difference.images,
        "clusters": difference.clusters,
        "reading": difference.reading,
        "top1_macro": difference.interval.as_dict(),
    }


def _as_dicts(intervals: dict[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {name: interval.as_dict() for name, interval in intervals.items()}
