"""How the CPU time of `sono qc`, `sono dedup` and `sono stats` grows with the number of files.

The files are small pictures of speckle in a fan, all different, so nothing is a duplicate and a
larger study differs in its number of files alone. Text is not searched (`[qc] text = "off"`), which
takes the same time for each file. The exponent is the slope between the logarithms of two sizes and
of their times: 1 is linear.

Example: python benchmarks/growth.py --files 500 2000 8000 32000
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

SIZE = (160, 200)  # rows, columns


def picture(seed: int) -> np.ndarray:
    """Speckle [160, 200] in a fan, on black."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.normal(0, 1, (6, 7)), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 1, SIZE), (0, 0), sigmaX=2, sigmaY=1)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    radius = np.hypot(rows + 60, columns - 100)
    fan = (radius > 80) & (radius < 210) & (np.abs(columns - 100) < 0.7 * (rows + 60))
    tones = 90 + 50 * coarse + 90 * fine
    return np.where(fan, np.clip(tones, 8, 255), 0).astype(np.uint8)


def seconds(*arguments: str) -> float:
    """CPU seconds of a `sono` command and its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sono", *arguments, "--quiet"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(count: int, folder: Path) -> dict[str, float]:
    """CPU seconds of the three commands on `count` files in a new study."""
    raw, study = folder / "raw", folder / "study"
    raw.mkdir(exist_ok=True)
    for number in range(len(list(raw.iterdir())), count):
        (raw / f"{number:06}.png").write_bytes(cv2.imencode(".png", picture(number))[1].tobytes())
    seconds("init", str(study))
    with (study / "sono.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[qc]\ntext = "off"\nmin_side = 64\n')
    place = ("-w", str(study))
    return {
        "qc": seconds("qc", str(raw), *place),
        "dedup": seconds("dedup", *place),
        "stats": seconds("stats", *place),
    }


def main() -> None:
    """Measure each size, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[500, 2000, 8000, 32000])
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as raw:
        for count in sorted(parser.parse_args().files):
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "raw").symlink_to(raw)
                rows.append({"files": count, **measure(count, Path(name))})
            step = rows[-2:]
            for stage in ("qc", "dedup", "stats"):
                rows[-1][f"{stage} exponent"] = (
                    float(np.diff(np.log([row[stage] for row in step]))[0])
                    / float(np.diff(np.log([row["files"] for row in step]))[0])
                    if len(step) == 2
                    else np.nan
                )
            print(pd.DataFrame(rows).round(2).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
