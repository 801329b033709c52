"""What a run has left in its folder: its record, checkpoint, summary and evaluations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from sono.annotation.weights.image_weights import FILES
from sono.curation.core.atomic import file_sha256, read_json_object
from sono.curation.core.errors import SonoError
from sono.evaluation.partitions import machine_counts, partition_rows
from sono.training.config import IMAGENET, SCRATCH
from sono.training.model.checkpoints import (
    SUMMARY,
    WEIGHTS,
    RunInfo,
    chosen_checkpoint,
    read_run,
)

AGAIN = "run `sono eval` again"
# keys of metrics.json
NEEDED = {
    "candidates", "first_line", "groups", "region_control", "probabilities", "verdict", "strata",
}  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """The record of a run, its checkpoint, its evaluations by folder name, and its frames."""

    info: RunInfo
    checkpoint: Path
    weights: int  # numbers in the checkpoint
    summary: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]
    partitions: list[tuple[str, ...]]  # rows of partitions.HEADINGS
    machines: str


def run_facts(folder: Path, images: pd.DataFrame) -> RunFacts:
    """Read the record, the size and the evaluations of a run; `images` are the accepted frames."""
    checkpoint = chosen_checkpoint(folder)
    summary = read_json_object(folder / SUMMARY, AGAIN) if (folder / SUMMARY).exists() else {}
    identify = cache(weights_id)  # evaluations mostly share a checkpoint, which takes long to read
    evaluations = {
        path.parent.name: up_to_date(folder, read_json_object(path, AGAIN), identify)
        for path in sorted(folder.glob("eval/[!.]*/metrics.json"))
    }
    for name, metrics in evaluations.items():
        if NEEDED - set(metrics):
            raise SonoError(
                f"{folder / 'eval' / name}: of an older version of sono; run `sono eval` again"
            )
    info = read_run(folder)
    return RunFacts(
        info,
        checkpoint,
        _weights(checkpoint),
        summary,
        evaluations,
        partition_rows(images, info.held_out),
        machine_counts(images),
    )


def weights_id(checkpoint: Path) -> str:
    """16 hexadecimal digits that identify the weights of a checkpoint."""
    return file_sha256(checkpoint / WEIGHTS)[:16]


def up_to_date(
    folder: Path, metrics: dict[str, Any], identify: Callable[[Path], str] = weights_id
) -> dict[str, Any]:
    """The metrics of an evaluation of the run in `folder`, marked if its weights have changed."""
    checkpoint = folder / str(metrics.get("checkpoint"))
    known = metrics.get("weights")
    if known is None or not (checkpoint / WEIGHTS).is_file() or identify(checkpoint) == known:
        return metrics
    line = f"{metrics.get('first_line')}; SCORED WITH EARLIER WEIGHTS OF THE RUN"
    note = f"these are the scores of earlier weights of the run; {AGAIN}"
    return metrics | {"first_line": line, "notes": [note, *metrics.get("notes", ())]}


def started_from(info: RunInfo) -> str:
    """The weights from which the vision tower was trained, in words."""
    if info.origin:
        return f"the published checkpoint {info.origin}, whose training data are not known here"
    if info.config.get("init"):
        return f"the run {info.config['init']}"
    usual = IMAGENET if info.config.get("model") in FILES else SCRATCH
    start = str(info.config.get("start") or usual)
    return {IMAGENET: "ImageNet weights", SCRATCH: "random weights"}.get(start, start)


def _weights(checkpoint: Path) -> int:
    """How many numbers the tensors of a checkpoint have, from its header."""
    with safe_open(checkpoint / WEIGHTS, framework="np") as tensors:
        names = list(tensors.keys())
        return sum(prod(tensors.get_slice(name).get_shape()) for name in names)
