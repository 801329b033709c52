"""The stage `leave-one-center-out`: one run per center, evaluated on the center it has not seen."""

import csv
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.curation.core.console import stderr_console
from sono.curation.core.csv_files import plain_cell
from sono.curation.core.engine import Engine
from sono.curation.core.errors import MAX_NAME, SonoError, counted
from sono.curation.core.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.result_tables import MISSING, PERCENT, POINTS
from sono.evaluation.selection import Target, shortened
from sono.evaluation.statistics.bootstrap import Interval, cluster_index
from sono.evaluation.text_tables import TextTable, check_outputs, write_table
from sono.training.config import TrainingConfig
from sono.training.model.checkpoints import END, is_used, read_run
from sono.training.runs.run_info import data_hash, settings_of_run
from sono.training.train import train

LONGEST_NAME = MAX_NAME - 24  # before the name of a center
LEAST_PATIENTS = 2  # of a center: one gives no interval
HEADINGS = (
    "held-out center",
    "frames",
    "patients",
    "Top-1 macro",
    "same run, seen centers",
    "unseen minus seen, points",
    "region naming",
    "without a mask",
)
EXPLANATION = (
    "Percent [95 % interval over patients], all-one mask, among the planes present. Each run is "
    "trained without the center of its row; the seen centers are the test split of the others. "
    "Region naming: the structure under its mask, among those of the plane. The last row is the "
    "mean over the centers and its standard deviation."
)


@dataclass(frozen=True)
class CentersOptions:
    """The name of the runs, the settings of their training, and the files to write.

    `given` are settings of the training that replace those of the recipe and of `sono.toml`.
    """

    name: str = "without"
    recipe: str | None = None
    given: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class CenterScores:
    """The scores of a run on the center that it has not seen; None: not measured.

    `seen` is Top-1 macro on the test split of the centers in training.
    """

    center: str
    run: str
    frames: int
    patients: int
    top1: Interval
    seen: Interval | None
    naming: Interval | None
    naming_without_mask: Interval | None

    @property
    def change(self) -> float:
        """Top-1 macro of the unseen center minus that of the seen ones; NaN if not measured."""
        return float("nan") if self.seen is None else self.top1.point - self.seen.point


@dataclass(frozen=True)
class CentersResult:
    """The scores by center, with their mean."""

    centers: tuple[CenterScores, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> CenterScores:
        """The center with the lowest Top-1 macro."""
        return min(self.centers, key=lambda scores: scores.top1.point)

    @property
    def title(self) -> str:
        """The mean over the unseen centers, and the worst."""
        mean, sd = _mean_and_sd([scores.top1.point for scores in self.centers])
        return (
            f"Leave one center out, {len(self.centers)} centers: Top-1 macro {100 * mean:.1f} % on "
            f"average (SD {100 * sd:.1f}); worst on {self.worst.center}, "
            f"{100 * self.worst.top1.point:.1f} %"
        )

    @property
    def table(self) -> TextTable:
        """One row per center and one of the means, for a file."""
        rows = [_cells(scores) for scores in self.centers]
        columns = [
            [_point(value) for value in values]
            for values in zip(*(_numbers(scores) for scores in self.centers), strict=True)
        ]
        means = [_mean_text(column) for column in columns]
        means.insert(2, _mean_text([scores.change for scores in self.centers]))
        rows.append(["mean (SD)", "", "", *means])
        name = "Leave one center out"
        return TextTable(
            name,
            self.title,
            HEADINGS,
            rows,
            EXPLANATION,
            _csv_text(self.centers),
            self.notes,
            (1, 2),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with numbers between 0 and 1."""
        rows = [
            vars(scores)
            | {
                name: None if value is None else value.as_dict()
                for name, value in vars(scores).items()
                if name in ("top1", "seen", "naming", "naming_without_mask")
            }
            for scores in self.centers
        ]
        mean, sd = _mean_and_sd([scores.top1.point for scores in self.centers])
        return {
            "title": self.title,
            "centers": rows,
            "mean": mean,
            "sd": None if np.isnan(sd) else sd,
            "worst": self.worst.center,
            "notes": list(self.notes),
        }

    def __rich__(self) -> Group:
        """The table and its notes."""
        shown = Table(box=SIMPLE, pad_edge=False)
        for heading in HEADINGS:
            shown.add_column(heading)
        for cells in self.table.rows:
            shown.add_row(*map(Text, cells))
        return Group(
            Text(self.title), shown, Text(EXPLANATION), *(Text(f"- {note}") for note in self.notes)
        )


def leave_one_center_out(
    workspace: Workspace, options: CentersOptions, engine: Engine | None = None
) -> CentersResult:
    """Train one run per center without it, and evaluate it on that center and on the others.

    Finished runs of the same name are kept and unfinished ones resumed, so that an interrupted
    command continues. Raises SonoError for fewer than two centers, or if a run of the name has
    other settings or other data.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SonoError("leave-one-center-out runs in one process; start it without torchrun")
    check_outputs(workspace, options.outputs)
    if len(options.name) > LONGEST_NAME:
        raise SonoError(
            f"--name has {len(options.name)} characters; give a name of at most {LONGEST_NAME}, as "
            "that of the center follows"
        )
    centers, notes = _centers(workspace)
    found = []
    for number, center in enumerate(centers, start=1):
        stderr_console.print(f"center {number} of {len(centers)}: {center}", markup=False)
        run = _trained(workspace, center, options)
        unseen = evaluate(workspace, EvaluationOptions(run, Target(center)), engine).metrics
        seen, why = _on_seen_centers(workspace, run, engine)
        notes += [f"{center}: {note}" for note in unseen["notes"]]
        notes += [f"{center}: seen centers not measured: {why}"] if why else []
        found.append(_scores(center, run, unseen, seen))
    result = CentersResult(tuple(found), tuple(notes))
    for path in options.outputs:
        write_table(result.table, path)
    return result


def _centers(workspace: Workspace) -> tuple[list[str], list[str]]:
    """The centers with two patients or more with a plane, by name, and notes on the others."""
    images = workspace.accepted_images()
    planes = [plane.id for plane in workspace.planes().planes]
    images = images[images["plane"].isin(planes) & images["center"].notna()]
    patients = cluster_index(images["patient_id"], images["study_id"], images["source_id"])
    counts = pd.Series(patients).groupby(images["center"].to_numpy()).nunique().sort_index()
    centers = [str(center) for center in counts.index[counts >= LEAST_PATIENTS]]
    few = [
        f"{center}: not held out, because it has {counted(int(count), 'patient')} with a frame of "
        f"a plane; {LEAST_PATIENTS} are needed"
        for center, count in counts.items()
        if count < LEAST_PATIENTS
    ]
    if len(centers) < 2:
        raise SonoError(
            f"{workspace.root}: {counted(len(centers), 'center')} with {LEAST_PATIENTS} patients "
            "or more with a frame of a plane; leave-one-center-out needs two or more, which come "
            "from sono qc --center or --center-from"
        )
    return centers, few


def run_name(name: str, center: str) -> str:
    """The name of the run without `center`; a long one is cut and ends with a hash."""
    folder, room = Target(center).folder, MAX_NAME - len(name) - 1
    if len(folder) > room:
        folder = shortened(folder, room - 9, center)
    return f"{name}-{folder}"


def _trained(workspace: Workspace, center: str, options: CentersOptions) -> str:
    """The name of the finished run without `center`, trained or resumed if need be."""
    run = run_name(options.name, center)
    folder = workspace.runs / run
    given = options.given | {"hold_out": [center]}
    config = settings_of_run(workspace, None, options.recipe, given)
    if config.shards is not None:
        raise SonoError(
            "shards are written for one held-out center; remove shards from [training] in "
            f"{workspace.config_path.name}"
        )
    used = is_used(folder)
    if used:
        _check_same(workspace, folder, config)
    if not (folder / END).exists():
        train(workspace, config, run, resume=used)
    return run


def _check_same(workspace: Workspace, folder: Path, config: TrainingConfig) -> None:
    """Raise SonoError if a run has other settings or has seen other data."""
    known, now = read_run(folder), config.record()
    other = sorted(name for name in now if known.config.get(name) != now[name])
    if other:
        raise SonoError(f"{folder}: this run differs in {', '.join(other)}; give another --name")
    if known.data_hash != data_hash(workspace, config):
        raise SonoError(
            f"{folder}: images, masks or captions have changed since this run; give another --name"
        )


def _on_seen_centers(
    workspace: Workspace, run: str, engine: Engine | None
) -> tuple[dict[str, Any] | None, str]:
    """The metrics of the test split of the centers in training, or why there are none."""
    try:
        return evaluate(workspace, EvaluationOptions(run), engine).metrics, ""
    except SonoError as error:
        return None, str(error)


def _scores(
    center: str, run: str, unseen: dict[str, Any], seen: dict[str, Any] | None
) -> CenterScores:
    conditions = unseen["region_control"].get("conditions", {})
    naming, without = (
        Interval.from_dict(conditions[name]["in_plane"]) if name in conditions else None
        for name in ("own", "all_one")
    )
    return CenterScores(
        center,
        run,
        unseen["frames"],
        unseen["patients"],
        _top1(unseen),
        None if seen is None else _top1(seen),
        naming,
        without,
    )


def _top1(metrics: dict[str, Any]) -> Interval:
    return Interval.from_dict(metrics["groups"][0]["modes"]["all_one"]["top1_macro"])


def _numbers(scores: CenterScores) -> list[Interval | None]:
    return [scores.top1, scores.seen, scores.naming, scores.naming_without_mask]


def _cells(scores: CenterScores) -> list[str]:
    texts = [MISSING if one is None else PERCENT.text(one) for one in _numbers(scores)]
    texts.insert(2, MISSING if np.isnan(scores.change) else f"{100 * scores.change:+.1f}")
    return [scores.center, str(scores.frames), str(scores.patients), *texts]


def _point(value: Interval | None) -> float:
    return float("nan") if value is None else value.point


def _mean_and_sd(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation of the values that are not NaN; NaN for too few."""
    known = [value for value in values if not np.isnan(value)]
    mean = float(np.mean(known)) if known else float("nan")
    return mean, float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


def _mean_text(values: list[float]) -> str:
    mean, sd = _mean_and_sd(values)
    return MISSING if np.isnan(mean) else f"{100 * mean:.1f} ({100 * sd:.1f})"


def _csv_text(centers: tuple[CenterScores, ...]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("top1_macro", "seen_centers", "region_naming", "region_naming_without_mask")
    limits = ("percent", "percent_low", "percent_high")
    columns = [f"{name}_{limit}" for name in names for limit in limits]
    writer.writerow(["center", "run", "frames", "patients", *columns, "unseen_minus_seen_points"])
    for scores in centers:
        numbers = [
            "" if value is None else PERCENT.number(getattr(value, end))
            for value in _numbers(scores)
            for end in ("point", "low", "high")
        ]
        sizes = [scores.frames, scores.patients]
        labels = map(plain_cell, (scores.center, scores.run))
        writer.writerow([*labels, *sizes, *numbers, POINTS.number(scores.change)])
    return out.getvalue()
