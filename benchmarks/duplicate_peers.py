"""Copies that `sono dedup`, imagededup and cleanvision find among frames of one scanner's shape.

One frame of each patient is cut to the sector of `cleaning_peers.py` and set on its screen. Some
are copied: as JPEG of quality 60, at four fifths of the size, and with another banner and calipers.
A pair of two patients is false, except one: the public set has one picture under two patients, 786
and 799. Install the other tools into an environment of their own and name its Python.

Example: python benchmarks/duplicate_peers.py ../shared/data --peer-python /tmp/peers/bin/python
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pair = tuple[str, str]

CASES = ("sono qc and dedup", "imagededup PHash", "cleanvision")
KINDS = ("jpeg", "smaller", "lettered")
COPIES = 30  # of each kind


def encoded(suffix: str, gray: NDArray[np.uint8], *how: int) -> bytes:
    """The bytes of a picture file."""
    return bytes(cv2.imencode(suffix, gray, how)[1])


def make_files(data: Path, folder: Path, patients: int) -> None:
    """The frames of `patients` patients, and the copies of the first of them."""
    import pandas as pd

    from sono.benchmarks.cleaning_peers import screen_of

    table = pd.read_csv(data / "barcelona" / "FETAL_PLANES_DB_data.csv", sep=";")
    names = table.drop_duplicates("Patient_num")["Image_name"].head(patients)
    for number, name in enumerate(names):
        content = next((data / "barcelona" / "Images").glob(f"{name}.*")).read_bytes()
        tissue = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        gray = screen_of(tissue, ("ST. VINCENT", "2026-03-02")).gray
        (folder / f"{number:03}_original.png").write_bytes(encoded(".png", gray))
        if number >= COPIES:
            continue
        lettered = screen_of(tissue, ("ST. MARTIN", "2026-05-20 DR. K")).gray
        for place in ((420, 300), (560, 380)):
            cv2.drawMarker(lettered, place, 255, cv2.MARKER_CROSS, 13)
        small = cv2.resize(gray, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        quality = (cv2.IMWRITE_JPEG_QUALITY, 60)
        (folder / f"{number:03}_jpeg.jpg").write_bytes(encoded(".jpg", gray, *quality))
        (folder / f"{number:03}_smaller.png").write_bytes(encoded(".png", small))
        (folder / f"{number:03}_lettered.png").write_bytes(encoded(".png", lettered))


def by_sono(folder: Path) -> set[Pair]:
    """The pairs of frames in one duplicate group, by file name."""
    from sono.curation.core.engine import Engine
    from sono.curation.core.tables import read_table
    from sono.curation.core.vault_tables import SOURCES
    from sono.curation.core.workspace import Workspace
    from sono.curation.dedup import run_dedup
    from sono.curation.qc import QcOptions, run_qc

    with tempfile.TemporaryDirectory() as name:
        study = Workspace.create(Path(name) / "study")
        run_qc(study, QcOptions(folder), Engine(1))
        run_dedup(study)
        paths = read_table(study.sources_path, SOURCES).set_index("source_id")["path"]
        groups = study.images().dropna(subset="duplicate_group").groupby("duplicate_group")
    together = [group["source_id"].map(paths).map(os.fsdecode) for _, group in groups]
    return pairs_within(together)


def by_imagededup(folder: Path) -> set[Pair]:
    """The pairs within its default distance of 10 of 64 bits."""
    from imagededup.methods import PHash

    found = PHash(verbose=False).find_duplicates(
        image_dir=str(folder), num_enc_workers=0, num_dist_workers=0
    )
    return {(one, other) for one, others in found.items() for other in others}


def by_cleanvision(folder: Path) -> set[Pair]:
    """The pairs of its sets of exact and of near duplicates."""
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    kinds = ("exact_duplicates", "near_duplicates")
    return pairs_within(together for kind in kinds for together in lab.info[kind]["sets"])


def pairs_within(sets: Iterable[Iterable[str]]) -> set[Pair]:
    """All pairs of two file names of one set of paths."""
    return {
        (Path(one).name, Path(other).name)
        for together in sets
        for one, other in combinations(together, 2)
    }


def run_case(case: str, folder: Path) -> dict[str, object]:
    """The pairs that a tool finds, and the CPU seconds of this process."""
    cv2.setNumThreads(1)
    work = dict(zip(CASES, (by_sono, by_imagededup, by_cleanvision), strict=True))[case]
    pairs = work(folder)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"pairs": sorted(pairs), "seconds": sum(one.ru_utime + one.ru_stime for one in used)}


def row(case: str, pairs: Iterable[Pair], seconds: float, files: int) -> str:
    """One row of the table."""
    unordered = {tuple(sorted(pair)) for pair in pairs}
    stems = {tuple(Path(name).stem for name in pair) for pair in unordered}
    found = [
        sum(
            bool({(copy, original), (original, copy)} & stems)
            for number in range(COPIES)
            for copy, original in [(f"{number:03}_{kind}", f"{number:03}_original")]
        )
        for kind in KINDS
    ]
    false = sum(one[:3] != other[:3] for one, other in unordered)
    cells = [*(f"{one} of {COPIES}" for one in found), str(false), f"{1000 * seconds / files:.0f}"]
    return f"| {case} | " + " | ".join(cells) + " |"


def compare(data: Path, patients: int, peer_python: str | None) -> None:
    """Make the files, run the tools, print a table in Markdown."""
    from sono.benchmarks.peers import SkippedError, run_peer

    heads = ("tool", "JPEG 60", "4/5 of the size", "other letters", "pairs of two patients")
    print("|", " | ".join((*heads, "CPU ms per file")), "|\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(data, folder, patients)
        files = len(list(folder.iterdir()))
        for case in CASES:
            python = sys.executable if case == CASES[0] else peer_python
            try:
                answer = json.loads(run_peer(python, __file__, str(folder), "--case", case))
            except SkippedError as error:
                print(f"| {case} | {error} | | | | |")
                continue
            print(row(case, map(tuple, answer["pairs"]), answer["seconds"], files))


def main() -> None:
    """Compare, or run one tool for the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the public data")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--peer-python", help="a Python that has imagededup and cleanvision")
    parser.add_argument("--case", choices=CASES, help="run this alone on a folder of pictures")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.folder)))
    else:
        compare(options.folder, options.patients, options.peer_python)


if __name__ == "__main__":
    main()
