"""CPU time per frame of `sono qc`, cleanvision, imagededup and plain decoding.

The files are those of `benchmarks/qc.py`. Each case is a process of its own on one core and counts
the CPU time (user and system, its children too) after its imports, so that other work on the
machine has little effect. Install the other tools into an environment of their own and name its
Python.

Example: python benchmarks/quality_peers.py ../shared/data --files 300 --peer-python
/tmp/peers/bin/python
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Work = Callable[[], object]
TEXT = {"sono qc": "detector", "sono qc, text by rules": "rules", "sono qc, no text": "off"}
OWN = ("plain gray decoding", *TEXT)
PEERS = ("cleanvision, default issues", "imagededup, PHash alone", "imagededup, PHash and search")


def plain(folder: Path) -> Work:
    """Read and decode to gray."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)

    def decode(path: Path) -> int:
        return int(
            cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)[0, 0]
        )

    return lambda: [decode(path) for path in sorted(folder.iterdir())]


def sono(folder: Path, text: str) -> Work:
    """Read, sector, measures, hash, text searched as `[qc] text` says; nothing is stored."""
    import cv2

    from sono.curation.imaging.analysis import AnalysisTask, analyze
    from sono.curation.imaging.quality import QualityConfig

    cv2.setNumThreads(1)
    task = AnalysisTask(
        os.fsencode(folder), bytes(32), folder, folder, QualityConfig(text=text), store=False
    )
    return lambda: [analyze(task, os.fsencode(path)) for path in sorted(folder.iterdir())]


def cleanvision(folder: Path) -> Work:
    """Its default checks: dark, light, odd shape and size, low information, blur, duplicates."""
    from cleanvision import Imagelab

    return lambda: Imagelab(data_path=str(folder)).find_issues(n_jobs=1, verbose=False)


def imagededup(folder: Path, search: bool) -> Work:
    """Its perceptual hash, and the search for duplicates."""
    from imagededup.methods import PHash

    method = PHash(verbose=False)
    if search:
        return lambda: method.find_duplicates(
            image_dir=str(folder), num_enc_workers=0, num_dist_workers=0
        )
    return lambda: method.encode_images(image_dir=str(folder), num_enc_workers=0)


def prepared(case: str, folder: Path) -> Work:
    """The work of a case, its imports done."""
    if case in OWN:
        return plain(folder) if case == OWN[0] else sono(folder, TEXT[case])
    return cleanvision(folder) if case == PEERS[0] else imagededup(folder, search=case == PEERS[2])


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def run_case(case: str, folder: Path) -> dict[str, object]:
    """CPU seconds and peak memory of the case in this process, and the version of its package."""
    work = prepared(case, folder)
    before = cpu_seconds()
    work()
    seconds = cpu_seconds() - before
    try:
        number = version(case.replace(",", " ").partition(" ")[0])
    except PackageNotFoundError:
        number = ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "MB": round(peak), "version": number}


def measured(python: str | None, case: str, folder: Path) -> dict[str, object]:
    """What `run_case` says in a process of its own, or the last line of why it does not run."""
    from sono.benchmarks.peers import SkippedError, run_peer

    try:
        found: dict[str, object] = json.loads(
            run_peer(python, __file__, "--case", case, str(folder))
        )
    except SkippedError as error:
        return {"skipped": str(error)}
    return found


def compare(data: Path, count: int, peer_python: str | None) -> None:
    """Make the files, run the cases, print a table."""
    import pandas as pd

    from sono.benchmarks.qc import make_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(data, folder, count)
        rows = [{"case": case, **measured(sys.executable, case, folder)} for case in (*OWN, OWN[0])]
        rows += [{"case": case, **measured(peer_python, case, folder)} for case in PEERS]
        rows.append({"case": OWN[0], **measured(sys.executable, OWN[0], folder)})
    table = pd.DataFrame(rows)
    decoding = table.loc[table["case"] == OWN[0], "seconds"].mean()
    table["CPU ms a frame"] = 1000 * table["seconds"] / count
    table["of plain decoding"] = decoding / table["seconds"]
    print(table.drop(columns="seconds").round(3).to_string(index=False, na_rep=""))


def main() -> None:
    """Compare, or run one case for the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the public data")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--peer-python", help="a Python that has cleanvision and imagededup")
    parser.add_argument(
        "--case", choices=(*OWN, *PEERS), help="run this alone on a folder of pictures"
    )
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.folder)))
    else:
        compare(options.folder, options.files, options.peer_python)


if __name__ == "__main__":
    main()
