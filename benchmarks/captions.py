"""Time and memory of `sono captions build` on as many records as SonoCLIP's data set has frames.

The tables of a study are written without frames: planes as often as in Figure 1b of SonoCLIP, ages
of 8 to 41 weeks, structures, sides, presentations, biometry and findings as records have them, and
a vault with the names, ids and files of their patients, which the privacy gate searches for. The
build reads, writes and searches as on any study. The memory is the largest resident set of the
process; `--frames` twice shows whether it grows with the study.

Example: python benchmarks/captions.py --frames 144000 1440000
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.planes import PLANES
from sono.curation.core.table_checks import STUDY, TableSpec
from sono.curation.core.tables import CAPTIONS, IMAGES
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

# thousands of images in Figure 1b of SonoCLIP, in the order of PLANES
FIGURE = (110, 110, 99, 96, 85, 82, 72, 69, 67, 64, 64, 60, 56, 52, 51, 50, 49, 43, 38, 36, 35, 33,
          24, 4.4)  # fmt: skip
FRAMES_PER_PATIENT = 24
FINDINGS = ("short femur", "ventriculomegaly", "choroid plexus cyst", "growth restriction")
NAMES = ("Lindqvist", "Okafor", "Moreau", "Takahashi", "Novak", "Castellano", "Haddad", "Virtanen")


def columns_of(count: int, rng: np.random.Generator) -> dict[str, Any]:
    """The columns that records and files fill, for `count` accepted frames."""
    digests = sorted(rng.bytes(32).hex() for _ in range(count))
    patients = np.arange(count) // FRAMES_PER_PATIENT
    shares = np.array(FIGURE) / sum(FIGURE)
    plane = rng.choice(len(PLANES), count, p=shares)
    ages = np.clip(rng.normal(24, 6, count) * 7, 56, 293).astype(int)
    sides = rng.choice(["left", "right", None], count, p=[0.1, 0.1, 0.8])
    heads = rng.choice(["cephalic", "breech", None], count, p=[0.3, 0.05, 0.65])
    biometry = np.round(rng.normal(45, 8, count).clip(10, 90), 1)
    found = rng.choice(len(FINDINGS) + 1, count, p=[0.95, *[0.05 / len(FINDINGS)] * len(FINDINGS)])
    return {
        "image_id": [digest[:16] for digest in digests],
        "source_id": [digest[16:32] for digest in digests],
        "file_sha256": digests[::-1],
        "frame": np.zeros(count, np.int32),
        "center": rng.choice(["North", "South"], count),
        "machine": rng.choice(["Voluson E6", "Aplio"], count),
        "patient_id": [digests[number][32:48] for number in patients],
        "plane": [PLANES[number].id for number in plane],
        "ga_days": [None if missing else int(age) for age, missing in
                    zip(ages, rng.random(count) < 0.1, strict=True)],
        "laterality": sides,
        "presentation": heads,
        "findings": [[] if number == 0 else [FINDINGS[number - 1]] for number in found],
        "structures": [list(PLANES[number].structures[: 1 + size]) for number, size in
                       zip(plane, rng.integers(0, 6, count), strict=True)],
        "fl_mm": biometry,
        "height": np.full(count, 600, np.int32),
        "width": np.full(count, 800, np.int32),
        "perceptual_hash": digests,
        "status": ["accepted"] * count,
        "reasons": [[]] * count,
    }  # fmt: skip


def private_of(count: int) -> dict[str, Any]:
    """What only the vault holds: paths, ids and names, a patient each `FRAMES_PER_PATIENT`."""
    patients = [number // FRAMES_PER_PATIENT for number in range(count)]
    names = [f"{NAMES[number % len(NAMES)]}^{_word(number)}" for number in patients]
    return {
        "path": [f"/data/P{p:07}/IM{n % FRAMES_PER_PATIENT:04}.dcm".encode() for n, p in
                 enumerate(patients)],
        "root": [b"/data"] * count,
        "settings_hash": ["0" * 16] * count,
        "raw_patient": [f"P{number:07}" for number in patients],
        "private": [[name] for name in names],
        "persons": [[name] for name in names],
    }  # fmt: skip


def _word(number: int) -> str:
    """A given name of six letters, another one for each number."""
    letters = "bdfgklmnprstvz"
    digits = [number // len(letters) ** place % len(letters) for place in range(5)]
    return "".join(letters[digit] + "aeiou"[place] for place, digit in enumerate(digits)).title()


def write(path: Path, spec: TableSpec, columns: dict[str, Any], mark: str) -> None:
    """A table with `columns`; the others are null."""
    count = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in spec.schema
    ]
    metadata = {b"sono_table": spec.name.encode(), STUDY: mark.encode()}
    table = pa.Table.from_arrays(arrays, schema=spec.schema.with_metadata(metadata))
    keys = [(name, "ascending") for name in spec.key]
    pq.write_table(table.sort_by(keys), path, compression="zstd")


def make(count: int, study: Path) -> None:
    """The tables of a study, without frames."""
    workspace = Workspace.create(study)
    mark = workspace.study().key_check
    columns = columns_of(count, np.random.default_rng(0))
    write(workspace.path(IMAGES), IMAGES, columns, mark)
    write(workspace.sources_path, SOURCES, columns | private_of(count), mark)
    workspace.sources_path.chmod(0o600)


def measure(count: int, study: Path) -> tuple[float, float, float, int]:
    """Seconds, seconds of the processor, largest resident set in GiB, and captions of a build.

    The tables are made in another process: a child's largest resident set includes that of the
    process that starts it.
    """
    maker = get_context("spawn").Process(target=make, args=(count, study))
    maker.start()
    maker.join()
    workspace = Workspace.find(study)
    command = [sys.executable, "-m", "sono", "captions", "build", "-w", str(study), "--quiet"]
    start = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"sono captions build failed on {count} frames")
    rows = pq.read_metadata(workspace.path(CAPTIONS)).num_rows
    used = usage.ru_utime + usage.ru_stime
    return seconds, used, usage.ru_maxrss / (1 << 20), rows


def main() -> None:
    """Build the captions of each size, print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[144_000, 1_440_000])
    for count in parser.parse_args().frames:
        with tempfile.TemporaryDirectory() as folder:
            seconds, used, memory, rows = measure(count, Path(folder) / "study")
        print(f"{count:,} frames: {rows:,} captions in {seconds:.1f} s", end="")
        print(f" ({used:.1f} s of the processor), {memory:.2f} GiB")


if __name__ == "__main__":
    main()
