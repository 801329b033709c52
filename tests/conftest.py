"""Fixtures for every room."""

from pathlib import Path

import pytest

from sono.curation.console import talk

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real ultrasound beside the repository; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """The maker of bad files beside the repository."""
    if not (SHARED / "tools").is_dir():
        pytest.skip("the maker of bad files (../shared/tools) is not on this machine")
    return SHARED / "tools"


@pytest.fixture(autouse=True)
def not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command with --quiet in one test does not silence the next."""
    monkeypatch.setattr(talk, "quiet", False)
