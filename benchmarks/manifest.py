"""Time and memory of `sono stats`, `split` and `dedup` for 1.5 million rows.

Writes a synthetic study (only tables, no frames, so near pairs stay unconfirmed) and times the
three commands as processes of their own, with their peak memory; then the search for near hashes
for several sizes, with and without a crowd of almost equal hashes. The hashes vary a template for
each plane, as real ones do; planted pairs are searched for.

Usage: python benchmarks/manifest.py OUT [--rows 1500000] [--search 10000 100000 1500000]
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.planes import OTHER, PlaneTable
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.hamming import CERTAIN
from sono.curation.dataset.near_duplicates import FLIPPED_BITS, MAX_DISTANCE

FRAMES_A_PATIENT = 20
CENTERS, MACHINES = ["A", "B", "C"], ["Voluson E6", "Aloka", "Voluson S10", "Acuson"]
# share of the bits that follow the plane's template: gives the spread of distances of real frames
LEAN = 0.4
SEED = 0
MEASURES = (
    "brightness",
    "contrast",
    "clipped_dark",
    "clipped_bright",
    "sharpness",
    "sector_fraction",
    "overlay",
)


def make_hashes(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Words [N, 4]: random bits, a share of them from the template of the frame's kind."""
    templates = rng.integers(0, 2**64, (int(kinds.max()) + 1, 4), dtype=np.uint64)
    words = rng.integers(0, 2**64, (len(kinds), 4), dtype=np.uint64)
    for low in range(0, len(kinds), 1 << 16):
        part = slice(low, low + (1 << 16))
        follow = np.packbits(rng.random((len(words[part]), 256), np.float32) < LEAN, axis=1).view(
            np.uint64
        )
        words[part] = (words[part] & ~follow) | (templates[kinds[part]] & follow)
    return words


def altered(words: np.ndarray, bits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copies [N, 4], each with `bits` [N] of its bits inverted at random."""
    ranks = rng.random((len(words), 256)).argsort(axis=1).argsort(axis=1)
    return words ^ np.packbits(ranks < bits[:, None], axis=1).view(np.uint64)


def make_manifest(rows: int) -> tuple[pa.Table, dict[str, int]]:
    """The images table, and how many pairs of each kind were planted."""
    rng = np.random.default_rng(SEED)
    planes = np.array([plane.id for plane in PlaneTable().planes] + [OTHER])
    patient = np.arange(rows) // FRAMES_A_PATIENT
    kinds = np.minimum(rng.geometric(0.12, rows) - 1, len(planes) - 1)
    words = make_hashes(kinds, rng)
    planted = max(10, rows // 300)
    places = rng.permutation(rows)[: 4 * planted].reshape(4, planted)
    words[places[1]] = altered(words[places[0]], rng.integers(0, CERTAIN + 1, planted), rng)
    words[places[3]] = altered(
        words[places[2]] ^ FLIPPED_BITS, rng.integers(0, CERTAIN + 1, planted), rng
    )
    crowd = np.setdiff1d(rng.permutation(rows)[: rows // 200], places)
    words[crowd] = altered(
        np.repeat(words[crowd[:1]], len(crowd), axis=0), rng.integers(0, 6, len(crowd)), rng
    )
    digits = np.frombuffer(words.tobytes().hex().encode(), "S64").astype(str)
    image_id = np.frombuffer(rng.bytes(8 * rows).hex().encode(), "S16").astype(str)
    twin = rng.permutation(rows)[:planted]  # the same pixels as the row before
    image_id[np.maximum(twin, 1)] = image_id[np.maximum(twin, 1) - 1]
    bad = rng.random(rows) < 0.08
    columns = {
        "image_id": image_id,
        "source_id": np.char.mod("%016x", np.arange(rows)),
        "frame": np.zeros(rows, np.int32),
        "center": np.array(CENTERS)[patient % 3],
        "patient_id": np.char.mod("p%015x", patient),
        "study_id": np.char.mod("s%015x", patient * 2 + np.arange(rows) % 2),
        "machine": np.array(MACHINES)[patient % 4],
        "plane": planes[kinds],
        "ga_days": rng.integers(77, 290, rows),
        "perceptual_hash": digits,
        "status": np.where(bad, "rejected", "accepted"),
        "reasons": pa.array(
            [["blurred"] if odd else ["overlay"] if i % 9 == 0 else [] for i, odd in enumerate(bad)]
        ),
        "file": np.where(bad, None, np.char.add(np.char.add("frames/", image_id), ".png")),
        **{name: rng.random(rows) for name in MEASURES},
        **{
            name: rng.integers(400, 900, rows)
            for name in ("height", "width", "source_height", "source_width")
        },
    }
    arrays = [
        pa.array(columns[field.name], type=field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in IMAGES.schema
    ]
    return pa.Table.from_arrays(arrays, schema=IMAGES.schema), {
        "near": planted,
        "flipped": planted,
        "crowd": len(crowd),
    }


RUN = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run([sys.executable, "-m", "sono", *sys.argv[1:]], stdout=subprocess.PIPE, text=True, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
facts = {"seconds": round(time.perf_counter() - started, 1), "CPU seconds": round(usage.ru_utime + usage.ru_stime, 1)}
print(json.dumps([facts | {"peak MB": usage.ru_maxrss // 1024}, json.loads(done.stdout)]))
"""


def timed(words: list[str]) -> tuple[dict, dict]:
    """Seconds and peak memory of a command, and its result.

    A small process in between keeps our own memory out of the peak.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return tuple(json.loads(done.stdout))


def time_commands(study: Workspace, rows: int) -> pd.DataFrame:
    """A row a command."""
    lines = []
    for command in ("split", "dedup", "stats"):
        facts, result = timed([command, "-w", str(study.root)])
        lines.append({"command": command, "rows": rows} | facts)
        if command == "dedup":
            print(
                json.dumps({name: result[name] for name in ("pairs", "crowded", "left_out")}),
                flush=True,
            )
    return pd.DataFrame(lines)


SEARCH = """
import json, sys, time
from pathlib import Path
import numpy as np
from sono.curation.dataset.hamming import near_pairs
words = np.load(sys.argv[1])
started = time.perf_counter()
pairs = near_pairs(words, int(sys.argv[2]))
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
seconds = round(time.perf_counter() - started, 1)
np.save(sys.argv[1], np.column_stack([pairs.first, pairs.second]))
print(json.dumps({"seconds": seconds, "peak MB": peak, "pairs": len(pairs.first), "crowd": pairs.crowded}))
"""


def time_search(out: Path, count: int, crowd: float) -> dict[str, object]:
    """One search of `count` hashes, a share of them in one crowd.

    1,000 pairs of 0 to 52 bits are planted outside of it.
    """
    rng = np.random.default_rng(SEED)
    words = make_hashes(np.minimum(rng.geometric(0.12, count) - 1, 24), rng)
    bits = np.arange(1000) % (MAX_DISTANCE + 1)
    words[-1000:] = altered(words[-2000:-1000], bits, rng)
    many = int(crowd * count)
    words[:many] = (
        altered(np.repeat(words[:1], many, axis=0), rng.integers(0, 9, many), rng)
        if many
        else words[:0]
    )
    words = words[np.sort(np.unique(words, axis=0, return_index=True)[1])]
    path = out / "hashes.npy"
    np.save(path, words)
    command = [sys.executable, "-c", SEARCH, str(path), str(MAX_DISTANCE)]
    line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = set(map(tuple, np.load(path).tolist()))
    path.unlink()
    # equal hashes are no pair of the search: bits 0 are left out
    kept = len(words) - int((bits > 0).sum())
    hit = [
        (kept - 1000 + place, kept + rank) in found
        for rank, place in enumerate(np.flatnonzero(bits > 0))
    ]
    certain = bits[bits > 0] <= CERTAIN
    recall = {
        f"within {CERTAIN} bits": np.mean(np.array(hit)[certain]),
        f"{CERTAIN + 1} to {MAX_DISTANCE}": round(np.mean(np.array(hit)[~certain]), 3),
    }
    return {"hashes": len(words), "in crowd": crowd} | line | recall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--search", type=int, nargs="*", default=[10_000, 100_000, 1_500_000])
    arguments = parser.parse_args()
    root = arguments.out / f"manifest-{arguments.rows}"
    for folder in (root, root.with_name(f"{root.name}.vault")):
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.rows:
        study = Workspace.create(root)
        table, planted = make_manifest(arguments.rows)
        pq.write_table(table, study.path(IMAGES), compression="zstd")
        del table
        print("planted", json.dumps(planted), flush=True)
        print(time_commands(study, arguments.rows).to_string(index=False), flush=True)
    for count in arguments.search:
        lines = [time_search(arguments.out, count, crowd) for crowd in (0.0, 0.5)]
        print(pd.DataFrame(lines).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
