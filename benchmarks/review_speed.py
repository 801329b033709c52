"""How long the mask review takes for the next mask, and for a decision.

A study of synthetic frames with as many queued masks as asked for; many frames are links to one
picture. The next mask is what the page loads: the place, facts, frame and mask. A decision is saved
and written to the disk. With --per-frame, every frame has so many masks. Times are of a client on
the same machine, over HTTP.

Example: python benchmarks/review_speed.py --masks 1000 100000
"""

import argparse
import base64
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import requests
import uvicorn
from numpy.typing import NDArray

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.review.queue import Wanted
from sono.annotation.review.server import free_socket, pack, review_app
from sono.annotation.review.session import ReviewSession
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES, MASKS, from_rows
from sono.curation.core.workspace import Workspace

TOKEN = "opens-once"
STRUCTURES = ("fetal head", "thalami", "cavum septi pellucidi", "third ventricle")
FILES = 50  # different pictures


def make_review_study(
    root: Path, masks: int, per_frame: int = 1, size: tuple[int, int] = (300, 400)
) -> Workspace:
    """A study of `masks` proposals on frames of `size` (height, width)."""
    workspace = Workspace.create(root)
    rng = np.random.default_rng(0)
    frames = [_frame(rng, size) for _ in range(FILES)]
    pictures = [root.parent / f"frame {number}.png" for number in range(FILES)]
    for frame, picture in zip(frames, pictures, strict=True):
        picture.write_bytes(encode_png(frame))
    rows, proposals = [], []
    for number in range(-(-masks // per_frame)):
        image_id = f"{number % 256:02x}{number:014x}"
        file = frame_file(image_id, frames[number % FILES])
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        os.link(pictures[number % FILES], root / file)
        row = {
            "image_id": image_id, "source_id": f"s{number}", "frame": 0,
            "status": "accepted", "height": size[0], "width": size[1], "plane": "transthalamic",
            "file": file,
        }  # fmt: skip
        rows.append(row)
        for one in range(min(per_frame, masks - number * per_frame)):
            structure = STRUCTURES[(number + one) % len(STRUCTURES)]
            drawn = _ellipse(rng, size)
            proposals.append(mask_row(row, drawn, structure, "heuristic", score=rng.random()))
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    workspace.write(MASKS, mask_table(proposals))
    return workspace


def _frame(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Speckle, brighter within an ellipse."""
    gray = rng.rayleigh(40, size) * (0.4 + 0.6 * _ellipse(rng, size))
    return np.clip(gray, 0, 255).astype(np.uint8)


def _ellipse(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    rows, columns = np.ogrid[:height, :width]
    x, y = rng.uniform(0.3, 0.7, 2) * (width, height)
    a, b = rng.uniform(0.1, 0.3, 2) * (width, height)
    return np.asarray(((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1)


def measure(workspace: Workspace, steps: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of `steps` next masks and decisions, and of opening the queue."""
    started = time.perf_counter()
    session = ReviewSession.open(workspace, Wanted("Reviewer"))
    opening = np.array([1000 * (time.perf_counter() - started)])
    nexts, decisions = [], []
    with free_socket(0) as listener:
        port = listener.getsockname()[1]
        app = review_app(session, TOKEN, port)
        quiet = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        server = uvicorn.Server(quiet)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        home, browser = f"http://127.0.0.1:{port}", requests.Session()
        browser.get(home, params={"token": TOKEN}, timeout=60)
        place = -1
        for number in range(steps):
            begun = time.perf_counter()
            place = browser.get(f"{home}/api/next/{place}", timeout=60).json()["place"]
            item = browser.get(f"{home}/api/item/{place}", timeout=60).json()
            for part in ("frame", "mask"):
                browser.get(f"{home}/api/{part}/{place}", timeout=60)
            browser.get(f"{home}/api/progress", timeout=60)
            nexts.append(time.perf_counter() - begun)
            body = {"place": place, "version": item["version"], "action": "accept"}
            if number % 2:
                bits = base64.b64encode(pack(~session.mask(place))).decode()
                body |= {"action": "edit", "mask": bits}
            begun = time.perf_counter()
            answer = browser.post(
                f"{home}/api/decision", json=body, headers={"Origin": home}, timeout=60
            )
            decisions.append(time.perf_counter() - begun)
            answer.raise_for_status()
        server.should_exit = True
        thread.join()
    session.finish()
    return {
        "open": opening,
        "next mask": 1000 * np.array(nexts),
        "decision": 1000 * np.array(decisions),
    }


def main() -> None:
    """Measure each size of the queue, and frames of many masks; print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, nargs="*", default=[1000, 100_000])
    parser.add_argument("--per-frame", type=int, default=30)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    runs = [(masks, 1, (300, 400)) for masks in options.masks]
    runs.append((max(options.steps, options.per_frame * 10), options.per_frame, (1024, 1024)))
    print("  masks  a frame  frame      what         median      p95      max (ms)")
    for masks, per_frame, size in runs:
        with tempfile.TemporaryDirectory() as folder:
            study = make_review_study(Path(folder) / "study", masks, per_frame, size)
            for what, times in measure(study, options.steps).items():
                middle, high = np.percentile(times, [50, 95])
                print(
                    f"{masks:7} {per_frame:8}  {size[1]:4} x {size[0]:<4} {what:10} {middle:8.1f} "
                    f"{high:8.1f} {times.max():8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
