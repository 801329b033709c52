"""The speed of `sono search` at 1.5 million vectors, next to faiss, and what its parts contribute.

The vectors are random and of unit length; both searches are exact and return the same rows.
faiss (`pip install faiss-cpu`) is left out if it is not installed. With --study the share of right
frames among the first ten is measured for the name of each structure and plane, with and without
the masked structures, on frames of --center.

Example: python benchmarks/search.py --vectors 1500000
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sono.curation.core.workspace import Workspace
from sono.evaluation.search.index import best_rows
from sono.evaluation.search.search import SearchOptions, nearest, searched_parts
from sono.evaluation.zero_shot import text_features
from sono.training.model.checkpoints import find_run, load_model

TOP = 20


def vectors(count: int, width: int) -> np.ndarray:
    """Random unit vectors [count, width]."""
    rng, table = np.random.default_rng(0), np.empty((count, width), np.float32)
    for start in range(0, count, 100_000):
        part = rng.standard_normal((min(100_000, count - start), width), np.float32)
        table[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return table


def seconds(work: Callable[[], np.ndarray], repeats: int = 9) -> tuple[float, np.ndarray]:
    """The shortest time, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def speed(count: int, width: int) -> None:
    """Print the time of one query with each search."""
    table = vectors(count, width)
    query = np.asarray(table[0] + table[1], np.float32)
    took, ours = seconds(lambda: best_rows(table, query, TOP)[0])
    print(f"{count:,} x {width}: sono {took:.3f} s")
    if find_spec("faiss") is None:
        print("faiss is not installed")
        return
    import faiss

    inner = faiss.METRIC_INNER_PRODUCT
    took, theirs = seconds(lambda: faiss.knn(query[None], table, TOP, metric=inner)[1][0])
    print(f"faiss {faiss.__version__} {took:.3f} s, same rows: {set(ours) == set(theirs)}")


def contribution(study: Workspace, run: str | None, center: str) -> None:
    """Print the share of right frames among the first ten, with and without the masks."""
    planes = study.planes().planes
    names = {name for plane in planes for name in plane.structures}
    shows = {name: {plane.id for plane in planes if name in plane.structures} for name in names}
    wanted = {"structures": shows, "planes": {plane.name: {plane.id} for plane in planes}}
    folder, images = find_run(study, run), study.accepted_images()
    model, _ = load_model(folder)
    allowed = (images["center"] == center).to_numpy(bool)
    for masks in (True, False):
        parts = searched_parts(study, model, folder, images, SearchOptions("", masks=masks))
        for kind, queries in wanted.items():
            shares = []
            for words, right in queries.items():
                found = nearest(parts, text_features(model, [words])[0], 10, allowed)
                shares.append(np.mean([images["plane"].iloc[one.frame] in right for one in found]))
            way = "with" if masks else "without"
            print(f"{len(shares)} {kind}, {way} masks: {100 * np.mean(shares):.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_500_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--run")
    parser.add_argument("--center", default="B")
    given = parser.parse_args()
    if given.study is None:
        speed(given.vectors, given.width)
    else:
        contribution(Workspace.find(given.study), given.run, given.center)
