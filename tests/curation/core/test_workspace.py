import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sono.curation.core import workspace as module
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace


def test_a_new_workspace_has_a_private_vault_beside_it(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    assert study.vault == tmp_path / "study.vault"
    assert study.vault.stat().st_mode & 0o777 == 0o700
    assert len(study.key()) == 32
    assert study.study().name == "study"


def test_it_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Workspace.create(tmp_path / "study")
    (study.root / "runs" / "x").mkdir(parents=True)
    monkeypatch.chdir(study.root / "runs" / "x")
    assert Workspace.find() == study


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    key = study.key()
    with pytest.raises(SonoError, match="already a workspace"):
        Workspace.create(tmp_path / "study")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    with pytest.raises(SonoError, match="not an empty folder"):
        Workspace.create(tmp_path / "full")
    study.config_path.unlink()
    with pytest.raises(SonoError, match="a vault without its workspace"):
        Workspace.create(tmp_path / "study")
    assert study.key() == key


def test_a_folder_that_is_none_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="sono init"):
        Workspace.find(tmp_path)


def test_a_stage_that_lacks_its_input_names_the_stage_before(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    with pytest.raises(SonoError, match="run `sono qc FOLDER` first"):
        study.accepted_images()
    with pytest.raises(SonoError, match="run `sono captions build` first"):
        study.captions()
    assert study.masks().empty
    assert study.path(IMAGES) == study.root / "images.parquet"


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    with study.lock(), pytest.raises(SonoError, match="another sono is writing"), study.lock():
        pass
    with study.lock():
        assert (study.root / ".lock").exists()


def test_a_name_with_quotes_is_written_as_toml(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / 'a "b" \\c')
    assert study.study().name == 'a "b" \\c'


def test_the_key_of_another_study_is_refused(tmp_path: Path) -> None:
    study, other = Workspace.create(tmp_path / "study"), Workspace.create(tmp_path / "other")
    study.key_path.write_text(other.key_path.read_text())
    with pytest.raises(SonoError, match="put the study's own vault back"):
        study.key()


def test_a_workspace_inside_another_is_refused(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    with pytest.raises(SonoError, match="is inside the workspace"):
        Workspace.create(study.root / "inner")
    assert not (study.root / "inner.vault").exists()


def test_a_run_is_known_by_its_name_and_by_any_path_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Workspace.create(tmp_path / "study")
    (tmp_path / "disk" / "toy" / "end").mkdir(parents=True)
    (tmp_path / "disk" / "foreign").mkdir()
    study.runs.symlink_to(tmp_path / "disk")
    (study.runs / "linked").symlink_to(tmp_path)
    for folder in (tmp_path, study.root, study.runs, study.runs / "toy"):
        monkeypatch.chdir(folder)
        for given in (
            "toy",
            "toy/",
            "runs/toy",
            "runs/toy/",
            str(study.runs / "toy"),
            str(tmp_path / "disk" / "toy"),
        ):
            assert study.run_name(given) == "toy"
        assert (
            study.run_name("runs/toy/end")
            == study.run_name(str(study.runs / "toy" / "end"))
            == "toy/end"
        )
        assert study.run_name(str(study.runs / "linked")) == "linked"
    # from within it
    assert study.run_name("../toy") == study.run_name("../../study/runs/toy/") == "toy"


@pytest.mark.parametrize(
    "given",
    [
        "../held",
        "held/../held",
        "runs/../held",
        "runs/held/..",
        "/runs/held",
        "runs",
        ".held",
        "",
        "a/\0b",
    ],
)
def test_what_is_no_folder_below_runs_stays_as_it_is(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Workspace.create(tmp_path / "study")
    (study.runs / "held").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert study.run_name(given) == given


def test_a_name_that_is_not_utf8_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/st\xff\xfedy"))
    with pytest.raises(SonoError, match=r"st\\xff\\xfedy: the name is not UTF-8; rename"):
        Workspace.create(bad)
    study = Workspace.create(tmp_path / "study")
    study.root.rename(bad)
    monkeypatch.chdir(bad)
    for given in (bad, None):
        with pytest.raises(SonoError, match="not UTF-8"):
            Workspace.find(given)


def test_a_renamed_study_with_its_vault_is_read_on(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, from_rows(IMAGES, [{"source_id": "a", "frame": 0, "status": "accepted"}]))
    study.root.rename(tmp_path / "new name")
    study.vault.rename(tmp_path / "new name.vault")
    moved = Workspace.find(tmp_path / "new name")
    assert len(moved.images()) == 1
    assert len(moved.key()) == 32


def test_masks_and_captions_of_other_frames_are_refused(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    own = [
        {"image_id": f"a{n}", "source_id": f"s{n}", "frame": 0, "status": "accepted"}
        for n in range(2)
    ]
    caption = {"level": "global", "text": "t", "template": "x", "tier": "full", "tokens": 1}
    box = dict.fromkeys(("height", "width", "box_width", "box_height", "area"), 1) | {
        "box_x": 0,
        "box_y": 0,
    }
    mask = {
        "mask_id": "m",
        "structure": "femur",
        "counts": "1",
        "source": "manual",
        "state": "accepted",
    } | box
    tables = ((CAPTIONS, caption), (MASKS, mask))
    for spec, row in tables:  # nothing is known of frames yet, or one of them is ours
        study.write(spec, from_rows(spec, [row | {"image_id": "b0"}]))
        assert len(study.read(spec)) == 1
    study.write(IMAGES, from_rows(IMAGES, own))
    for spec, row in tables:
        # the mark of the study says that the table is its own: its frames are gone
        assert len(study.read(spec)) == 1
        write_table(study.path(spec), from_rows(spec, [row | {"image_id": "b0"}]), spec)
        with pytest.raises(
            SonoError, match=rf"{spec.name}\.parquet: row 1: column 'image_id' has 'b0', and no row"
        ):
            study.read(spec)
        study.write(spec, from_rows(spec, [row | {"image_id": name} for name in ("a0", "b0")]))
        assert len(study.read(spec)) == 2


def test_tables_and_the_planes_file_lie_inside_the_workspace(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    study.write(IMAGES, from_rows(IMAGES, [{"source_id": "a", "frame": 0, "status": "accepted"}]))
    study.path(IMAGES).rename(tmp_path / "images.parquet")
    study.path(IMAGES).symlink_to("../images.parquet")
    with pytest.raises(SonoError, match=r"images\.parquet: leads out of"):
        study.images()
    text = study.config_path.read_text()
    (tmp_path / "planes.toml").write_text("")
    (study.root / "link.toml").symlink_to("../planes.toml")
    for place in ("../planes.toml", str(tmp_path / "planes.toml"), "link.toml", "/etc/passwd"):
        study.config_path.write_text(text + f"planes_file = {place!r}\n")
        with pytest.raises(SonoError, match="leads out of"):
            study.planes()


def test_the_ids_of_both_tables_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Workspace.create(tmp_path / "study")
    row = {
        "path": b"/raw/1",
        "root": b"/raw",
        "settings_hash": "x",
        "private": [],
        "source_id": "s",
        "frame": 0,
        "status": "accepted",
    }
    sources = from_rows(SOURCES, [row])
    study.write_vault(study.sources_path, SOURCES, sources)
    study.write(IMAGES, sources[IMAGES.columns])
    read, whole = [], module.read_table

    def counted(path: Path, *rest: Any) -> pd.DataFrame:
        read.append(path.name)
        return whole(path, *rest)

    monkeypatch.setattr(module, "read_table", counted)
    assert all(study.has_vault() for _ in range(3))
    assert sorted(read) == ["images.parquet", "sources.parquet"]
    study.write(IMAGES, sources[IMAGES.columns].assign(source_id="other"))
    with pytest.raises(SonoError, match="does not know 1 file"):
        study.has_vault()
