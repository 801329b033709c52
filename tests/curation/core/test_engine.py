import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from waiting import LIMIT

from sono.curation.core import console
from sono.curation.core.alive import alive
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
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    assert [number for batch in batches for number in batch] == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.parametrize(("items", "largest"), [(2, 1), (8, 1), (9, 2), (80, 10), (1000, 32)])
def test_a_few_long_files_are_shared_by_the_workers(items: int, largest: int) -> None:
    engine = Engine(jobs=2)
    batches = list(run_batches(engine, square, list(range(items)), no_crash, "work"))
    assert max(map(len, batches)) == largest
    assert sorted(value for batch in batches for value in batch) == [n * n for n in range(items)]


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


def read_slowly(number: int) -> int:
    for _ in range(8):
        time.sleep(0.5)
        alive(100)
    return number


@pytest.mark.slow
def test_an_item_that_gives_signs_of_life_is_not_ended() -> None:
    engine = Engine(jobs=2, item_seconds=3)
    assert list(run_batches(engine, read_slowly, [1], no_crash, "work")) == [[1]]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_moves_within_a_long_file(
    jobs: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 0.5)
    list(run_batches(Engine(jobs=jobs), read_slowly, [1], no_crash, "work"))
    lines = capsys.readouterr().err.splitlines()
    counts = [int(line.split()[4]) for line in lines if line.startswith("work: 0 of 1, ")]
    assert len(counts) >= 2 and counts == sorted(counts) and 0 < counts[-1] <= 800
    assert all("frames of cines, " in line for line in lines if "0 of 1" in line)


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
