"""`--scheduler` with a real dask scheduler and real worker processes.

Workers are killed, missing, without the folder of the study, or of another version.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from waiting import LIMIT, wait_until, without_progress

from sono.curation import qc as qc_module
from sono.curation.core import dask_workers
from sono.curation.core.engine import Engine, run_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.study import make_phantom
from sono.curation.qc import QcOptions, run_qc

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own."""

    folder: Path
    scheduler: subprocess.Popen[bytes] = field(init=False)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            "scheduler.json",
        ]
        self.scheduler = self._start("dask_scheduler", *options)

    def _start(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", f"distributed.cli.{program}", *options]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def start_worker(self) -> None:
        common = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        place = ("--scheduler-file", "scheduler.json", "--local-directory", str(self.folder))
        self.workers.append(self._start("dask_worker", *common, *place))

    @property
    def address(self) -> str:
        place = self.folder / "scheduler.json"

        def written() -> bool:
            assert self.scheduler.poll() is None, (self.folder / "log").read_text()
            return place.exists() and place.read_text().endswith("}")

        wait_until(written)
        return str(json.loads(place.read_text())["address"])

    def with_workers(self, count: int) -> str:
        """The address, when `count` workers are there."""
        from distributed import Client

        while sum(worker.poll() is None for worker in self.workers) < count:
            self.start_worker()
        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=LIMIT)
        return self.address

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("dask"))
    yield started
    started.end()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cluster") / "export"
    make_phantom(out, patients=6, frames_per_patient=4, seed=5)
    return out


@pytest.fixture(scope="module")
def alone(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The study as one process makes it."""
    study = Workspace.create(tmp_path_factory.mktemp("alone") / "study")
    run_qc(study, options_for(export), Engine(jobs=1))
    return study


def options_for(export: Path) -> QcOptions:
    return QcOptions(export / "raw", export / "records.csv", center_from="Hospital")


def same_key(alone: Workspace, root: Path) -> Workspace:
    study = Workspace.create(root)
    shutil.copy(alone.key_path, study.key_path)
    shutil.copy(alone.config_path, study.config_path)
    return study


def _content_of(path: Path) -> bytes:
    """The bytes of a file; the pixels of a PNG, which ISA-L may pack in another way."""
    content = path.read_bytes()
    if path.suffix != ".png":
        return content
    gray = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return f"{gray.shape}".encode() + gray.tobytes()


def content(study: Workspace) -> dict[str, bytes]:
    """Every file of the workspace and of the vault."""
    files = [path for top in (study.root, study.vault) for path in top.rglob("*") if path.is_file()]
    return {
        os.path.relpath(path, study.root): _content_of(path)
        for path in files
        if path.name != ".lock"
    }


@pytest.mark.slow
def test_two_real_workers_give_the_same_bytes_as_one_process(
    cluster: Cluster, export: Path, alone: Workspace, tmp_path: Path
) -> None:
    study = same_key(alone, tmp_path / "study")
    command = [
        "qc",
        export / "raw",
        "--records",
        export / "records.csv",
        "--center-from",
        "Hospital",
        "-w",
        study.root,
    ]
    words = [
        sys.executable,
        "-m",
        "sono",
        *map(str, command),
        "--scheduler",
        cluster.with_workers(2),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, without_progress(done.stderr)) == (0, "")
    assert content(study) == content(alone)


def test_a_worker_killed_in_the_middle_loses_nothing(
    cluster: Cluster,
    export: Path,
    alone: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, address = same_key(alone, tmp_path / "study"), cluster.with_workers(2)
    victim = cluster.workers[-1]
    left = []

    def with_a_murder(*arguments: object) -> Iterator[object]:
        for number, batch in enumerate(run_batches(*arguments)):
            if number == 2:
                victim.send_signal(signal.SIGKILL)
                victim.wait()
            if number > 2:
                left.append(batch)
            yield batch

    monkeypatch.setattr(qc_module, "run_batches", with_a_murder)
    run_qc(study, options_for(export), Engine(scheduler=address, batch_size=3))
    assert victim.returncode == -signal.SIGKILL
    assert len(left) >= 10
    assert content(study) == content(alone)


def sleep_all(address: str, needs: Sequence[Path] = ()) -> Iterator[list[None]]:
    """Work that a worker can do without importing this file.

    One batch is short; no test waits for the others.
    """
    items = [0.05] * 2 + [2.0] * 40
    return run_batches(
        Engine(scheduler=address, batch_size=2), time.sleep, items, time.sleep, "work", needs
    )


def test_a_worker_that_does_not_see_the_files_ends_the_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    with pytest.raises(
        SonoError, match=r"elsewhere: the worker at tcp://.* does not see this folder"
    ):
        list(sleep_all(cluster.with_workers(1), [tmp_path, tmp_path / "elsewhere" / "a.png"]))


def test_a_worker_with_another_sono_ends_the_run(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "__version__", "99.1")
    with pytest.raises(SonoError, match=r"not 99\.1; install the same version there"):
        list(sleep_all(cluster.with_workers(1)))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://", "tcp://127.0.0.1"])
def test_an_address_where_no_scheduler_is_gives_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 0.3)
    with pytest.raises(SonoError, match="no dask scheduler answers there"):
        list(sleep_all(address))
    # A client that failed waits for a lock when it is collected. In the thread of the next client,
    # which starts under this lock, that takes 10 s and fails.
    gc.collect()


def test_a_cluster_whose_workers_are_all_gone_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(dask_workers, "NO_WORKER_SECONDS", 0.6)
    results = sleep_all(cluster.with_workers(1))
    next(results)
    for worker in cluster.workers:
        worker.kill()
    with pytest.raises(SonoError, match=r"the cluster has no worker.*continues where it stopped"):
        list(results)


def test_a_scheduler_that_ends_is_told(cluster: Cluster) -> None:
    results = sleep_all(cluster.with_workers(1))
    next(results)
    cluster.scheduler.kill()
    with pytest.raises(
        SonoError, match=r"the connection to the scheduler was lost.*continues where it stopped"
    ):
        list(results)
