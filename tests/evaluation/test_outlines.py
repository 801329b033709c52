"""Outlines are found in the pixels alone, and once for each frame."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studies import fill_vault

from sono.annotation.proposers import Proposal, propose_unlabeled
from sono.curation.core.atomic import write_bytes
from sono.curation.core.engine import Engine
from sono.curation.core.frame_files import encode_png, frame_file
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.evaluation import outlines as module
from sono.evaluation.outlines import Outlines, proposed_outlines, stored_outlines

PLACE = "packed/outlines.safetensors"


class Search:
    """Finds the left half of every frame and that frame itself, but nothing in some; counts."""

    def __init__(self) -> None:
        self.searched = 0

    def __call__(self, gray: np.ndarray) -> list[Proposal]:
        self.searched += 1
        half = np.zeros(gray.shape, np.bool_)
        half[:, : gray.shape[1] // 2] = True
        masks = [half, gray > 0, np.zeros_like(half)] if gray[0, 0] % 2 else []
        return [Proposal(None, mask, 1.0, 1.0) for mask in masks]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    found = Search()
    monkeypatch.setattr(module, "propose_each_kind", found)
    return found


def outlines_of(study: Workspace, count: int | None = None) -> Outlines:
    images = study.accepted_images().head(count)
    files = [study.root / file for file in images["file"]]
    return stored_outlines(study, Engine(), images["image_id"].tolist(), files)


def test_a_proposal_is_found_in_a_real_frame_in_its_own_pixels(
    shared_data: Path, tmp_path: Path
) -> None:
    real = sorted((shared_data / "nijmegen" / "training_set").glob("*.png"))[0]
    gray = np.asarray(Image.open(real).convert("L"))
    file = tmp_path / frame_file("a", gray)
    write_bytes(file, encode_png(gray))
    found = proposed_outlines(Engine(), ["a", "gone"], [file, file.with_name("gone.png")])
    assert list(found) == ["a"] and len({mask.counts for mask in found["a"]}) == 3
    best = found["a"][0].pixels()
    assert 0.02 < best.mean() < 0.9
    assert np.array_equal(best, propose_unlabeled(gray))


def test_a_frame_is_searched_once_and_its_outlines_are_the_same(
    study: Workspace, search: Search
) -> None:
    first = outlines_of(study, 5)
    assert search.searched == 5
    everything = outlines_of(study)
    assert search.searched == len(study.accepted_images()) == 14
    images = study.accepted_images()
    files = [study.root / file for file in images["file"]]
    assert everything == proposed_outlines(Engine(), images["image_id"].tolist(), files)
    assert 0 < len(everything) < 14  # frames without an outline are remembered, too
    assert {len(found) for found in everything.values()} == {2}
    assert first == {name: everything[name] for name in first}
    assert outlines_of(study) == everything and search.searched == 28


@pytest.mark.parametrize("change", ["damaged", "other constants"])
def test_what_is_damaged_or_of_other_constants_is_searched_again(
    study: Workspace, search: Search, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    before = outlines_of(study)
    if change == "damaged":
        content = (study.root / PLACE).read_bytes()
        write_bytes(study.root / PLACE, content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        monkeypatch.setattr("sono.annotation.proposers.VERSION", 99)
    assert outlines_of(study) == before
    assert search.searched == 28


def test_a_frame_that_cannot_be_read_is_not_remembered_as_empty(
    study: Workspace, search: Search
) -> None:
    file = study.root / study.accepted_images()["file"].iloc[0]
    content = file.read_bytes()
    file.unlink()
    outlines_of(study)
    write_bytes(file, content)
    outlines_of(study)
    assert search.searched == 14


def test_outlines_of_frames_that_are_gone_are_dropped(study: Workspace, search: Search) -> None:
    outlines_of(study, 13)
    size = (study.root / PLACE).stat().st_size
    images = study.images()
    images.loc[:11, "status"] = "rejected"
    study.write(IMAGES, images)
    fill_vault(study)
    outlines_of(study)
    assert (study.root / PLACE).stat().st_size < size / 2
    assert search.searched == 14


def test_a_workspace_that_cannot_hold_them_goes_without(
    study: Workspace, search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes(study.root / "packed", b"")
    assert outlines_of(study)
    assert "cannot be written" in capsys.readouterr().err
