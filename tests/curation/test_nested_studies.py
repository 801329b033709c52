"""A workspace of sono or its vault in the raw folder or in an archive is named and left out."""

import shutil
from pathlib import Path

import cv2
import pytest
from archive_files import packed
from video_files import fan

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, QcSummary, run_qc
from sono.curation.readers.files import without_studies
from sono.curation.records.file_matching import MatchOptions, match_raw
from sono.curation.records.read import RecordsConfig, read_records


def write_pictures(folder: Path, *seeds: int) -> None:
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        picture = cv2.imencode(".png", fan(seed=seed))[1].tobytes()
        (folder / f"im{seed}.png").write_bytes(picture)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A folder with a workspace `one` and its vault."""
    write_pictures(tmp_path / "export", 0, 1)
    (tmp_path / "old").mkdir()
    study = Workspace.create(tmp_path / "old/one")
    run_qc(study, QcOptions(tmp_path / "export"), Engine(jobs=1))
    return tmp_path / "old"


def members(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run(tmp_path: Path, raw: Path) -> QcSummary:
    return run_qc(Workspace.create(tmp_path / "two"), QcOptions(raw, names=True), Engine(jobs=1))


@pytest.mark.parametrize("kind", ["folder", "zip", "tgz"])
def test_a_workspace_among_raw_files_is_left_out_and_named(
    kind: str, first: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    write_pictures(raw, 5)
    if kind == "folder":
        shutil.copytree(first, raw / "old")
    else:
        (raw / f"old.{kind}").write_bytes(packed(kind, members(first)))
    top = "old" if kind == "folder" else f"old.{kind}"
    summary = run(tmp_path, raw)
    assert summary.files == 1 and summary.statuses == {"accepted": 1}
    (remark,) = [one for one in summary.remarks if "workspaces and vaults" in one]
    assert f"{top}/one (" in remark and f"{top}/one.vault (" in remark
    assert "run sono with --workspace on the unpacked workspace" in remark
    (tmp_path / "records.csv").write_text("file,patient\nim5.png,P1\n")
    table = read_records(tmp_path / "records.csv", RecordsConfig.model_validate({}), PlaneTable())
    found, _ = match_raw(raw, table, tmp_path / "records.csv", MatchOptions())
    assert (found.files, found.other_files, found.matched) == (1, 0, 1)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("part", ["one", "one.vault"])
def test_a_workspace_alone_is_refused_with_the_cause(
    part: str, kind: str, first: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    if kind == "folder":
        shutil.copytree(first / part, raw / part)
    else:
        inside = {f"{part}/{name}": content for name, content in members(first / part).items()}
        (raw / f"old.{kind}").write_bytes(packed(kind, inside))
    with pytest.raises(SonoError) as caught:
        run(tmp_path, raw)
    text = str(caught.value)
    assert part in text and "left out" in text and "give the folder of the raw export" in text
    assert ("old." in text) == (kind != "folder")


def test_a_workspace_at_the_top_of_an_archive_is_one_too(first: Path, tmp_path: Path) -> None:
    raw = tmp_path / "study.zip"
    raw.write_bytes(packed("zip", members(first / "one")))
    with pytest.raises(SonoError, match="1 workspace or vault"):
        run(tmp_path, raw)


def test_other_folders_with_such_names_are_raw_files() -> None:
    paths = [
        b"/raw/frames/a.png",
        b"/raw/p1/sono.toml",
        b"/raw/p1/im.png",
        b"/raw/p2/images.parquet",
        b"/raw/p3.vault/key",
        b"/raw/p4/sources.parquet",
    ]
    assert without_studies(paths) == (paths, {})
