"""Fixtures for the tests of all packages."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sono.curation.core import atomic as storage
from sono.curation.core.console import stderr_console

if TYPE_CHECKING:
    from commands import Place

ROOT = Path(__file__).resolve().parents[1]
# The folder of real ultrasound; reference outputs of the published code are in `golden` next to it.
DATA = Path(os.environ.get("SONO_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real ultrasound; tests that need it are skipped without it."""
    return _folder(DATA)


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Reference outputs of the published code; tests that need them are skipped without them."""
    return _folder(DATA.parent / "golden")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"the folder {path.name} is not on this machine; SONO_DATA gives its place")
    return path


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 52 image and 56 DICOM files that are broken, odd, hostile or private."""
    from bad_files import make_bad_files

    folder = tmp_path_factory.mktemp("bad")
    make_bad_files(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def autograd_without_threads() -> None:
    """Let children that are forked from this process compute gradients.

    At its first use autograd starts a thread for each kind of device. An ONNX export registers
    further kinds, and a child that is forked from a process with such threads cannot use autograd.
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with --quiet in one test does not silence the next."""
    monkeypatch.setattr(stderr_console, "quiet", False)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk in this process; processes that tests start do wait.

    What a killed process has written stays without it; only a power failure needs it.
    """
    monkeypatch.setattr(storage, "sync", lambda path: None)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt here, and end children.

    Otherwise both ignore it if a shell has started the tests with `&`.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Place":
    """A study in which every stage has run, for all commands; and every module is imported."""
    from children import import_all
    from commands import make_place

    import_all()
    return make_place(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def place(whole: "Place", tmp_path: Path) -> "Place":
    """A copy that the test may change."""
    return whole.copy(tmp_path)
