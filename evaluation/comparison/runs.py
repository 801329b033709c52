"""Read the evaluations of several runs, and refuse those that are not of the same frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import read_json
from sono.curation.core.errors import SonoError, counted, did_you_mean
from sono.curation.core.workspace import Workspace
from sono.evaluation.run_facts import AGAIN, up_to_date
from sono.evaluation.selection import Target
from sono.evaluation.summaries import Scored
from sono.training.model.checkpoints import RUN, find_run

METRICS, PREDICTIONS = "metrics.json", "predictions.parquet"
COLUMNS = ["image_id", "cluster", "plane", "mode", "scores"]
FRAMES_NAMED = 3  # in a message


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: a label, its frames, their clusters, and the scores of one mask mode."""

    label: str
    title: str
    image_ids: tuple[str, ...]
    scored: Scored
    notes: tuple[str, ...]


def read_evaluations(
    workspace: Workspace | None, given: Sequence[str], on: str | None, mode: str
) -> list[Evaluated]:
    """The evaluations of the runs `given` on the same target, with one mask `mode`.

    `given` are names or folders of runs, or folders of evaluations; `on` is the name of the
    evaluation's folder, needed if the runs have several in common. Raises SonoError if they are not
    of the same frames, labels and planes.
    """
    if len(given) < 2:
        raise SonoError("give two runs or more, as in `sono compare runs/a runs/b`")
    folders = [_evaluations(workspace, each) for each in given]
    target = on or _common(given, folders)
    found = [
        _read(_chosen(each, evaluations, target), mode)
        for each, evaluations in zip(given, folders, strict=True)
    ]
    for other in found[1:]:
        _check_same(found[0], other)
    return _distinct(found)


def _evaluations(workspace: Workspace | None, given: str) -> dict[str, Path]:
    """The evaluations of a run by their name; one if its own folder is given."""
    folder = Path(given)
    if (folder / METRICS).is_file():
        return {folder.resolve().name: folder}
    if not (folder / RUN).is_file():
        if workspace is None:
            raise SonoError(f"{given}: not the folder of a run or of an evaluation")
        folder = find_run(workspace, given)
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"eval/[!.]*/{METRICS}"))}
    if not found:
        raise SonoError(f"{folder}: not evaluated yet; run `sono eval --run {folder.name}`")
    return found


def _common(given: Sequence[str], folders: Sequence[dict[str, Path]]) -> str | None:
    """The one evaluation that all runs have; None if each was given as its own folder."""
    if all(len(each) == 1 for each in folders):
        return None
    shared = sorted(set.intersection(*(set(each) for each in folders)))
    if len(shared) == 1:
        return shared[0]
    listed = "; ".join(
        f"{run}: {', '.join(each)}" for run, each in zip(given, folders, strict=True)
    )
    if not shared:
        raise SonoError(f"the runs have no evaluation in common ({listed}); run `sono eval` first")
    raise SonoError(f"the runs have several evaluations in common ({listed}); choose one with --on")


def _chosen(given: str, evaluations: dict[str, Path], target: str | None) -> Path:
    if target is None or (len(evaluations) == 1 and target in evaluations):
        return next(iter(evaluations.values()))
    for name in (target, Target(target).folder):  # that of the folder, or of the center
        if name in evaluations:
            return evaluations[name]
    raise SonoError(f"{given}: no evaluation '{target}'{did_you_mean(target, evaluations)}")


def _read(folder: Path, mode: str) -> Evaluated:
    try:
        metrics = read_json(folder / METRICS)
        table = pd.read_parquet(folder / PREDICTIONS)
    except (OSError, ValueError) as error:
        raise SonoError(f"{folder}: damaged ({short(error)}); run `sono eval` again") from error
    missing = set(COLUMNS) - set(table.columns)
    known = isinstance(metrics, dict) and isinstance(metrics.get("candidates"), list)
    if missing or not known or not {"run", "first_line", "checkpoint"} <= set(metrics):
        raise SonoError(f"{folder}: of an older version of sono; run `sono eval` again")
    metrics = up_to_date(folder.resolve().parent.parent, metrics)
    if not table[["image_id", "mode"]].map(lambda name: isinstance(name, str)).all(axis=None):
        raise SonoError(f"{folder}: damaged (a frame or a mask without a name); {AGAIN}")
    modes = sorted(table["mode"].unique())
    if mode not in modes:
        raise SonoError(f"{folder}: has no scores of mask '{mode}'{did_you_mean(mode, modes)}")
    rows = table[table["mode"] == mode].sort_values("image_id")
    if rows["image_id"].duplicated().any():
        raise SonoError(f"{folder}: has a frame twice; {AGAIN}")
    return Evaluated(
        f"{metrics['run']}/{metrics['checkpoint']}",
        str(metrics["first_line"]),
        tuple(rows["image_id"]),
        _scored(folder, metrics, rows, mode),
        tuple(metrics.get("notes") or ()),
    )


def _scored(folder: Path, metrics: dict[str, Any], rows: pd.DataFrame, mode: str) -> Scored:
    planes = tuple(metrics["candidates"])
    try:
        scores = np.stack([np.asarray(each, np.float64) for each in rows["scores"]])
        clusters: NDArray[np.int64] = rows["cluster"].fillna(-1).to_numpy(np.int64)
        truth = np.array([planes.index(plane) for plane in rows["plane"]], np.int64)
        is_sound = scores.shape == (len(rows), len(planes)) and bool(np.isfinite(scores).all())
        is_sound = is_sound and bool(rows["cluster"].notna().all())
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise SonoError(
            f"{folder}: its scores do not fit its planes, or are no numbers; run `sono eval` again"
        )
    return Scored(planes, truth, clusters, {mode: scores})


def _check_same(first: Evaluated, other: Evaluated) -> None:
    """Raise SonoError unless both are of the same frames, with the same planes and patients."""
    lost, more = set(first.image_ids) - set(other.image_ids), set(other.image_ids)
    more -= set(first.image_ids)
    both = f"'{first.label}' ({first.title}) and '{other.label}' ({other.title})"
    if lost or more:
        parts = [
            f"{counted(len(ids), 'frame')} only in {run.label} ({_listed(ids)})"
            for run, ids in ((first, lost), (other, more))
            if ids
        ]
        raise SonoError(
            f"{both} were evaluated on different frames: {'; '.join(parts)}; evaluate both "
            "again on the same center or split, after the last change of the study"
        )
    if first.scored.planes != other.scored.planes:
        odd = sorted(set(first.scored.planes) ^ set(other.scored.planes))
        raise SonoError(
            f"{both} were scored among different planes ({', '.join(odd) or 'another order'}); "
            "evaluate both again with the same planes file"
        )
    moved = first.scored.truth != other.scored.truth
    if moved.any():
        ids = [name for name, odd in zip(first.image_ids, moved, strict=True) if odd]
        raise SonoError(
            f"{both} have another plane for {counted(len(ids), 'frame')} ({_listed(ids)}): the "
            "records changed between them; evaluate both again"
        )
    if (first.scored.clusters != other.scored.clusters).any():
        raise SonoError(f"{both} have other patients for their frames; evaluate both again")


def _listed(ids: Sequence[str] | set[str]) -> str:
    shown = sorted(ids)[:FRAMES_NAMED]
    return ", ".join(shown) + (", ..." if len(ids) > len(shown) else "")


def _distinct(found: list[Evaluated]) -> list[Evaluated]:
    labels = [each.label for each in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise SonoError(f"{', '.join(twice)} was given twice; give different runs")
    return found
