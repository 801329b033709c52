import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from waiting import LIMIT

from sono.curation.core.engine import Engine, run_batches


def square(number: int) -> int:
    return number * number


def die_at_seven(number: int) -> int:
    if number == 7:
        os._exit(11)
    return number


def hang_at_seven(number: int) -> int:
    if number == 7:
        time.sleep(LIMIT)
    return number


def die_once_at_seven(folder: Path, number: int) -> int:
    if number == 7 and not any(folder.iterdir()):
        (folder / "died").touch()
        os._exit(11)
    return number


def no_crash(number: int) -> int:
    pytest.fail(f"{number} crashed")


def test_every_item_comes_back_once_in_batches() -> None:
    batches = list(
        run_batches(Engine(jobs=1, batch_size=3), square, list(range(7)), no_crash, "work")
    )
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [number for batch in batches for number in batch] == [0, 1, 4, 9, 16, 25, 36]


def test_nothing_to_do_starts_nothing() -> None:
    assert list(run_batches(Engine(jobs=2), square, [], no_crash, "work")) == []


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_costs_one_item() -> None:
    engine = Engine(jobs=2, batch_size=4)
    results = run_batches(engine, die_at_seven, list(range(12)), lambda number: -number, "work")
    assert sorted(value for batch in results for value in batch) == sorted(
        [-7, *(n for n in range(12) if n != 7)]
    )


@pytest.mark.filterwarnings("ignore")
def test_an_item_that_only_died_beside_others_is_not_blamed(tmp_path: Path) -> None:
    engine = Engine(jobs=2, batch_size=4)
    results = run_batches(
        engine, partial(die_once_at_seven, tmp_path), list(range(12)), no_crash, "work"
    )
    assert sorted(value for batch in results for value in batch) == list(range(12))
    assert (tmp_path / "died").exists()


@pytest.mark.filterwarnings("ignore")
def test_an_item_that_hangs_is_ended_and_costs_itself() -> None:
    # also others may take a moment where the machine is busy
    engine = Engine(jobs=2, batch_size=4, item_seconds=2)
    results = run_batches(engine, hang_at_seven, list(range(12)), lambda number: -number, "work")
    assert sorted(value for batch in results for value in batch) == sorted(
        [-7, *(n for n in range(12) if n != 7)]
    )


def test_the_default_is_one_worker_a_core() -> None:
    assert Engine.create(None, None).jobs == len(os.sched_getaffinity(0))
    assert Engine.create(3, "tcp://x:1") == Engine(3, "tcp://x:1")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom sono.curation.core.engine import Engine, run_batches\n"
        "list(run_batches(Engine(2), os.path.getsize, ['/'] * 64, print, 'work'))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode and "worker processes could not start" in done.stderr
