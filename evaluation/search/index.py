"""Features of a study's frames or regions, kept in the workspace for the next search.

`packed/search/RUN/CHECKPOINT/` contains `frames.safetensors` and `regions.safetensors`: names and
unit features. The key of a file is the hash of the weights and the geometry; an outdated or damaged
file is made again. The folder may be deleted at any time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.atomic import file_sha256
from sono.curation.core.console import stderr_console
from sono.curation.core.workspace import Workspace
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.zero_shot import Features
from sono.training.data.frame_cache import FOLDER
from sono.training.data.frame_cache import VERSION as GEOMETRY
from sono.training.data.mapped_arrays import (
    Arrays,
    bytes_of_text,
    keep_arrays,
    map_arrays,
    text_of_bytes,
    whole_arrays,
)
from sono.training.model.checkpoints import WEIGHTS, chosen_checkpoint

AT_A_TIME = 20_000  # entries encoded between two writings of the file
NOISE = 1e-5  # more than the error of a product in single precision


@dataclass(frozen=True)
class IndexPlace:
    """The file of an index, and the key of everything its features depend on besides names."""

    path: Path
    key: str


@dataclass(frozen=True)
class Stored:
    """Features [n, d] in the order of the names, and how many are new or were removed."""

    features: Features
    encoded: int
    removed: int


def index_place(workspace: Workspace, run: Path, side: int, kind: str) -> IndexPlace:
    """The index of the checkpoint that is used of `run`; `kind` is frames or regions."""
    checkpoint = chosen_checkpoint(run)
    folder = workspace.root / FOLDER / "search" / checkpoint.relative_to(workspace.runs)
    weights = file_sha256(checkpoint / WEIGHTS)
    return IndexPlace(folder / f"{kind}.safetensors", f"{kind} {weights} {side} {GEOMETRY}")


def stored_features(
    place: IndexPlace, names: Sequence[str], encode: Callable[[list[int]], Features]
) -> Stored:
    """The features of `names`, which identify the pixels; `encode` gets the rows of new ones.

    The file then has exactly these names. It is also written after every 20,000 new ones, so that
    an interrupted search continues from there.
    """
    known, features = _read(place)
    if list(known) == list(names):
        return Stored(features, 0, 0)
    row_of = {name: row for row, name in enumerate(known)}
    missing = [row for row, name in enumerate(names) if name not in row_of]
    table: Features | None = None
    for start in range(0, len(missing), AT_A_TIME):
        part = missing[start : start + AT_A_TIME]
        made = encode(part)
        if table is None:
            table = _taken(names, row_of, features, made.shape[1])
        table[part] = made
        if part[-1] != missing[-1]:
            later = set(missing[start + AT_A_TIME :])
            done = [row for row in range(len(names)) if row not in later]
            _write(place, [names[row] for row in done], table[done])
    if table is None:
        table = _taken(names, row_of, features, features.shape[1])
    _write(place, names, table)
    return Stored(table, len(missing), len(known) - (len(names) - len(missing)))


def best_rows(
    features: Features, query: Features, count: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `count` rows of `features` [n, d] with the largest products with `query` [d], and these.

    The search is exact: candidates of single precision are computed again in double. Equal ones are
    in the order of their rows. Only rows in `allowed` [n] are found.
    """
    scores = np.array(features @ query)
    if allowed is not None:
        scores[~allowed] = -np.inf
    count = min(count, len(features) if allowed is None else int(allowed.sum()))
    if not count:
        return np.zeros(0, np.int64), np.zeros(0)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    rows = np.flatnonzero(scores >= least - NOISE)
    exact = cosines(features[rows], query[None])[:, 0]
    order = np.argsort(-exact, kind="stable")[:count]
    return rows[order], exact[order]


def _taken(
    names: Sequence[str], row_of: dict[str, int], features: Features, width: int
) -> Features:
    """A table [names, width] with the known features; the other rows are not yet filled."""
    table = np.empty((len(names), width), np.float32)
    kept = [row for row, name in enumerate(names) if name in row_of]
    if kept:
        table[kept] = features[[row_of[names[row]] for row in kept]]
    return table


def _read(place: IndexPlace) -> tuple[list[str], Features]:
    """Names and features of an index; empty for a missing, damaged or outdated file."""
    arrays = whole_arrays(place.path, place.key)
    if arrays is not None:
        names = text_of_bytes(arrays["names"]).splitlines()
        return names, arrays["features"]
    if place.path.exists():
        stderr_console.print(f"{place.path}: {_why_not(place)}; it is made again", markup=False)
    return [], np.zeros((0, 0), np.float32)


def _why_not(place: IndexPlace) -> str:
    try:
        other = map_arrays(place.path)[0] != place.key
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        other = False
    return "of other weights or another geometry" if other else "damaged"


def _write(place: IndexPlace, names: Sequence[str], features: Features) -> None:
    """Write an index; a workspace that cannot hold it goes without."""
    parts: Arrays = {"names": bytes_of_text("\n".join(names)), "features": features}
    keep_arrays(place.path, place.key, parts, "the next search encodes again")
