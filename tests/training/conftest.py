"""A small study that can be learned in seconds, and a small model."""

from pathlib import Path

import pytest
from clip_files import TINY
from drawn_study import drawn_study
from studies import copy_study

from sono.curation.core.workspace import Workspace
from sono.training.model import architectures


@pytest.fixture(scope="session")
def tiny() -> str:
    """The name of a model of a few numbers, whose checkpoints cost nothing."""
    architectures.SIZES["tiny"] = TINY
    return "tiny"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Centers A and B with drawings of two planes, masks and captions."""
    return drawn_study(tmp_path_factory.mktemp("training") / "study")


@pytest.fixture
def own_study(study: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the study, without its runs, that the test may change."""
    return copy_study(study, tmp_path)
