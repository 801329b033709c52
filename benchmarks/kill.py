"""Does kill -9 lose anything? A resumed run must leave the bytes of a clean one.

Stages are killed again and again. Half of the kills happen at a random moment of the work (to the
complete process group or to the main process, whose workers must then end by themselves), half at a
random change on disk: just before a file is made, renamed or removed.

Example: python benchmarks/kill.py --kills 30
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from sono.annotation.captions import build_captions
from sono.annotation.propose import propose_masks
from sono.curation.core.engine import Engine
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc

CHANGES = frozenset(["open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"])
FORKS = multiprocessing.get_context("forkserver")  # so that a run need not import everything again
BATCH = 4


@dataclass(frozen=True)
class Stage:
    """A command, the state of the study before it and after a clean run, and what that run took."""

    name: str
    work: Callable[[], object]
    before: Path
    after: dict[str, bytes]
    seconds: float
    changes: int


def content(place: Path) -> dict[str, bytes]:
    """Every file of the study and its vault."""
    files = (path for path in place.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def put_back(state: Path, place: Path) -> None:
    """Make `place` what it was."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(state, place)
    lock_of(place).unlink(missing_ok=True)


def lock_of(place: Path) -> Path:
    """The file that is made when the work begins."""
    return place / "study" / ".lock"


def child(work: Callable[[], object], place: Path, last_change: int) -> None:
    """Work in a process group of its own, which ends at `last_change`.

    It writes the number of changes next to `place`.
    """
    seen = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES and not reads and not isinstance(arguments[0], int):
            seen += os.fsdecode(arguments[0]).startswith(str(place))
            if seen == last_change:
                os.kill(os.getpid(), signal.SIGKILL)

    os.setpgid(0, 0)
    sys.addaudithook(count)
    work()
    place.with_name("changes").write_text(str(seen))


def start(
    work: Callable[[], object], place: Path, last_change: int = -1
) -> tuple[ForkServerProcess, float]:
    """A new process, and the time at which its work began."""
    lock_of(place).unlink(missing_ok=True)
    process = FORKS.Process(target=child, args=(work, place, last_change))
    process.start()
    while process.exitcode is None and not lock_of(place).exists():
        time.sleep(0.002)
    return process, time.perf_counter()


def finish(work: Callable[[], object], place: Path) -> float:
    """Run to the end; seconds of the work."""
    process, begun = start(work, place)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work} ended with exit code {process.exitcode}")
    return time.perf_counter() - begun


def clean_stages(place: Path, export: Path) -> list[Stage]:
    """Every stage, run once without a kill."""
    study = Workspace(place / "study")
    options = QcOptions(export / "raw", export / "records.csv", center_from="Hospital")
    chain: list[tuple[str, Callable[[], object]]] = [
        ("qc --jobs 1", partial(run_qc, study, options, Engine(1, batch_size=BATCH))),
        ("qc --jobs 2", partial(run_qc, study, options, Engine(2, batch_size=BATCH))),
        ("masks propose", partial(propose_masks, study, None, Engine(1, batch_size=BATCH))),
        ("captions build", partial(build_captions, study)),
    ]
    stages, before = [], place.with_name("before qc")
    shutil.copytree(place, before)
    for name, work in chain:
        if not name.startswith("qc"):
            before = place.with_name(f"before {name}")
            shutil.copytree(place, before)
        put_back(before, place)
        seconds = finish(work, place)
        changes = int(place.with_name("changes").read_text())
        stages.append(Stage(name, work, before, content(place), seconds, changes))
    return stages


def kill(stage: Stage, place: Path, draw: random.Random) -> str:
    """Start `stage` and kill it somewhere; how it was killed."""
    if draw.random() < 0.5:
        change = draw.randint(1, stage.changes)
        start(stage.work, place, change)[0].join()
        return f"at change {change} of {stage.changes}"
    process, begun = start(stage.work, place)
    moment, everything = draw.uniform(0, stage.seconds), draw.random() < 0.5
    time.sleep(max(0, begun + moment - time.perf_counter()))
    if process.exitcode is None and process.pid is not None:
        (os.killpg if everything else os.kill)(process.pid, signal.SIGKILL)
    process.join()
    return f"{'all' if everything else 'main process'} after {moment:.2f} of {stage.seconds:.2f} s"


def survives(stage: Stage, place: Path, draw: random.Random) -> bool:
    """Kill `stage` once or twice, then run it to the end.

    Returns whether study and vault are the same as after a clean run.
    """
    put_back(stage.before, place)
    how = "; then ".join(kill(stage, place, draw) for _ in range(draw.choice((1, 1, 2))))
    finish(stage.work, place)
    now = content(place)
    odd = sorted(
        name for name in now.keys() | stage.after.keys() if now.get(name) != stage.after.get(name)
    )
    print(f"{stage.name:14} {how}: {', '.join(odd) or 'equal'}", flush=True)
    return not odd


def main() -> None:
    """Kill, resume, compare; exit code 1 where one study differs from a clean one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patients", type=int, default=4)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    FORKS.set_forkserver_preload(
        [__name__, "distributed", "open_clip.tokenizer", "scipy.sparse.csgraph"]
    )
    with tempfile.TemporaryDirectory() as name:
        export, place = Path(name) / "export", Path(name) / "place"
        make_phantom(export, options.patients, 2, options.seed)
        Workspace.create(place / "study")
        stages = clean_stages(place, export)
        equal = sum(
            survives(stages[number % len(stages)], place, draw) for number in range(options.kills)
        )
    print(f"{equal} of {options.kills} resumed runs are equal to a clean one")
    sys.exit(equal < options.kills)


if __name__ == "__main__":
    main()
