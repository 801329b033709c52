"""Fixtures for every room."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import LIMIT

from sono.curation.core import atomic as storage
from sono.curation.core.console import stderr_console

if TYPE_CHECKING:
    from commands import Place

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real ultrasound beside the repository; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Reference outputs of the published code; tests that need them are skipped without them."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("the reference outputs (../shared/golden) are not on this machine")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """The maker of bad files beside the repository."""
    if not (SHARED / "tools").is_dir():
        pytest.skip("the maker of bad files (../shared/tools) is not on this machine")
    return SHARED / "tools"


@pytest.fixture(scope="session")
def bad_files(shared_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus: 52 image and 56 DICOM files, of which two names are folders or differ by
    machine.
    """
    folder = tmp_path_factory.mktemp("bad")
    command = [sys.executable, str(shared_tools / "make_bad_inputs.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
    return folder


@pytest.fixture(autouse=True)
def not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with --quiet in one test does not silence the next."""
    monkeypatch.setattr(stderr_console, "quiet", False)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process has written stays; only a cut of power needs this.

    Processes of their own do wait.
    """
    monkeypatch.setattr(storage, "sync", lambda path: None)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, and ends a child.

    Both ignore it where a shell started the tests with `&`.
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
