"""Speed of `sono qc` relative to plain decoding of the same files, on two worker processes.

Real frames are encoded as PNG and JPEG at 960 x 720 pixels. Plain gray decoding is timed before and
after each case and divided by it. `benchmarks/quality_peers.py` compares sono with other tools on
the same files.

Example: python benchmarks/qc.py ../shared/data --files 2000
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.workspace import Workspace
from sono.curation.imaging.analysis import AnalysisTask, analyze, crashed
from sono.curation.imaging.quality import QualityConfig
from sono.curation.qc import QcOptions, run_qc

SIZE = (960, 720)
JOBS = 2


def make_files(data: Path, folder: Path, count: int) -> list[Path]:
    """`count` distinct files, half PNG and half JPEG: real frames of increasing size."""
    frames = sorted((data / "barcelona" / "Images").iterdir()) + sorted(
        (data / "nijmegen" / "training_set").iterdir()
    )
    files = []
    for number in range(count):
        gray = cv2.imdecode(
            np.frombuffer(frames[number % len(frames)].read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE
        )
        shift = number // len(frames)
        gray = cv2.resize(gray[shift : gray.shape[0] - shift], SIZE, interpolation=cv2.INTER_CUBIC)
        suffix, how = (".png", []) if number % 2 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 92])
        files.append(folder / f"{number:05}{suffix}")
        files[-1].write_bytes(cv2.imencode(suffix, gray, how)[1].tobytes())
    return files


def decode(path: Path) -> int:
    """The work that nobody can do without."""
    return int(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)[0, 0])


def decode_all(files: list[Path]) -> None:
    """All files on the worker processes."""
    context = get_context("forkserver")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(JOBS, context, initializer=partial(cv2.setNumThreads, 1)) as pool:
        sum(pool.map(decode, files, chunksize=32))


def analyse_all(files: list[Path], folder: Path) -> None:
    """Read, sector, measures, hash; nothing is stored."""
    task = AnalysisTask(
        os.fsencode(folder), bytes(32), folder, folder, QualityConfig(), store=False
    )
    paths = [os.fsencode(file) for file in files]
    for _ in run_batches(
        Engine(JOBS), partial(analyze, task), paths, partial(crashed, task), "analysis"
    ):
        pass


def export_all(folder: Path) -> None:
    """Run the complete command on a new workspace.

    This includes frames, tables, duplicates, splits and the privacy gate.
    """
    with tempfile.TemporaryDirectory() as name:
        run_qc(Workspace.create(Path(name) / "study"), QcOptions(folder), Engine(JOBS))


def seconds(work: Callable[[], None]) -> float:
    """Wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Make the files, time the cases, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    files = make_files(options.data, folder, options.files)
    cases: dict[str, Callable[[], None]] = {
        "sono qc, analysis": partial(analyse_all, files, folder),
        "sono qc, all of it": partial(export_all, folder),
    }
    decode_all(files)  # once for the page cache
    rows, before = [], seconds(partial(decode_all, files))
    for name, work in cases.items():
        taken, after = seconds(work), seconds(partial(decode_all, files))
        plain = (before + after) / 2
        rows.append(
            {
                "case": name,
                "seconds": taken,
                "files/s": len(files) / taken,
                "of plain decoding": plain / taken,
            }
        )
        before = after
    rows.append(
        {
            "case": "plain gray decoding",
            "seconds": before,
            "files/s": len(files) / before,
            "of plain decoding": 1,
        }
    )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
