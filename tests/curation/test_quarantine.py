"""The quarantine: sheets, releases, and releases in later runs."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sono.curation.core.atomic import write_bytes
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import (
    encode_png,
    frame_file,
    picture_of,
    quarantined_path,
    stored_path,
)
from sono.curation.core.reasons import status_of
from sono.curation.core.tables import IMAGES, from_rows, read_table, rows_of, write_table
from sono.curation.core.vault_tables import RELEASED, SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.images_table import build_images
from sono.curation.listing import list_files
from sono.curation.quarantine import _held, reject, release, show_quarantine

CLEAN, NAMED, DUAL = "0" * 16, "1" * 16, "2" * 16
PICTURE = np.full((80, 90), 50, np.uint8)


def name(image_id: str, picture: np.ndarray = PICTURE) -> str:
    """As on the sheets."""
    return picture_of(frame_file(image_id, picture))


def row(number: int, image_id: str, codes: list[str], **more: object) -> dict[str, object]:
    return {
        "path": f"/raw/{number}.png".encode(), "root": b"/raw", "settings_hash": "", "private": [],
        "source_id": f"s{number}", "frame": 0, "image_id": image_id, "height": 80, "width": 90,
        "status": status_of(codes), "reasons": codes, "file": frame_file(image_id, PICTURE), **more,
    }  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "study")
    rows = [
        row(0, CLEAN, []),
        row(1, NAMED, ["overlay", "text_in_sector"]),
        row(2, DUAL, ["dual_view"]),
    ]
    write_table(workspace.sources_path, from_rows(SOURCES, rows), SOURCES)
    for one in rows:
        place = stored_path if one["status"] == "accepted" else quarantined_path
        write_bytes(place(workspace, str(one["file"])), encode_png(PICTURE))
    build_images(workspace)
    return workspace


def test_a_release_lifts_quarantines_and_nothing_graver() -> None:
    assert status_of(["text_in_sector", "released"]) == "accepted"
    assert status_of(["released"]) == "accepted"
    assert status_of(["text_in_sector", "blurred", "released"]) == "rejected"
    assert status_of(["duplicate_conflict", "released"]) == "quarantined"


def test_a_released_frame_is_accepted_and_moves_into_the_workspace(study: Workspace) -> None:
    done = release(study, [name(NAMED)], "KM")
    assert (done.released, done.accepted, done.held) == (1, 1, 1)
    images = study.images().set_index("image_id")
    assert images["status"].to_dict() == {CLEAN: "accepted", NAMED: "accepted", DUAL: "quarantined"}
    assert list(images.at[NAMED, "reasons"]) == ["overlay", "text_in_sector", "released"]
    file = frame_file(NAMED, PICTURE)
    assert stored_path(study, file).exists() and not quarantined_path(study, file).exists()
    assert read_table(study.released_path, RELEASED)["reviewer"].tolist() == ["KM"]
    assert study.released_path.stat().st_mode & 0o077 == 0


def test_the_images_made_anew_remember_the_release(study: Workspace) -> None:
    release(study, [name(NAMED)], "KM")
    before = study.path(IMAGES).read_bytes()
    build_images(study)
    assert study.path(IMAGES).read_bytes() == before


@pytest.mark.parametrize("given", [[CLEAN], [NAMED], ["f" * 16], ["Doe, Jane"]])
def test_an_id_that_is_not_held_releases_nothing(study: Workspace, given: list[str]) -> None:
    with pytest.raises(SonoError, match="no frame in the quarantine") as error:
        release(study, given, "KM")
    assert "Doe" not in str(error.value) and not study.released_path.exists()
    assert (study.images()["status"] == "quarantined").sum() == 2


def test_an_image_id_alone_is_answered_with_the_name_on_the_sheet(study: Workspace) -> None:
    with pytest.raises(SonoError, match=f"the name on the sheet is {name(NAMED)}"):
        release(study, [NAMED], "KM")


def test_the_same_pixels_of_two_patients_stay_where_they_are(study: Workspace) -> None:
    rows = [row(number, NAMED, ["text_in_sector"], raw_patient=f"P{number}") for number in (1, 2)]
    write_table(study.sources_path, from_rows(SOURCES, rows), SOURCES)
    build_images(study)
    release(study, [name(NAMED)], "KM")
    assert {"duplicate_conflict", "released"} <= set(study.images()["reasons"].iloc[0])
    with pytest.raises(SonoError, match="looking at the frame cannot settle"):
        release(study, [name(NAMED)], "KM")
    shown = show_quarantine(study)
    assert (shown.frames, shown.drawn, len(shown.pictures)) == (2, 1, 1)
    assert shown.remarks == ("1 frame has the same pixels as another one, with which it is drawn",)
    assert shown.reasons["duplicate_conflict"] == 2
    done = reject(study, [name(NAMED)], "KM")
    assert (done.rejected, done.held) == (2, 0)
    assert set(study.images()["status"]) == {"rejected"}


def test_frames_of_the_same_pixels_are_counted_one_by_one(study: Workspace) -> None:
    rows = [row(number, NAMED, ["text_in_sector"], raw_patient="P") for number in (1, 2)]
    rows.append(row(3, DUAL, ["dual_view"]))
    write_table(study.sources_path, from_rows(SOURCES, rows), SOURCES)
    build_images(study)
    assert show_quarantine(study).frames == 3
    done = release(study, [name(NAMED)], "KM")
    assert (done.released, done.accepted, done.held) == (2, 1, 1)


def test_a_picture_that_is_missing_is_reported(study: Workspace) -> None:
    quarantined_path(study, frame_file(DUAL, PICTURE)).unlink()
    shown = show_quarantine(study)
    assert (shown.frames, shown.drawn) == (2, 1)
    assert "1 picture is missing in the vault; run `sono qc`" in shown.remarks[0]
    with pytest.raises(SonoError, match=r"the picture is missing in the vault; run `sono qc`"):
        release(study, [name(DUAL)], "KM")
    assert study.images().set_index("image_id").at[DUAL, "status"] == "quarantined"


def test_a_rejected_frame_leaves_the_quarantine_and_its_picture_stays_in_the_vault(
    study: Workspace,
) -> None:
    done = reject(study, [name(NAMED)], "KM")
    assert (done.rejected, done.held) == (1, 1)
    images = study.images().set_index("image_id")
    assert images.at[NAMED, "status"] == "rejected"
    assert "rejected_by_reviewer" in images.at[NAMED, "reasons"]
    assert "a person checked" in images.at[NAMED, "message"]
    file = frame_file(NAMED, PICTURE)
    assert quarantined_path(study, file).exists() and not stored_path(study, file).exists()
    assert list(show_quarantine(study).pictures) == [name(DUAL)]
    before = study.path(IMAGES).read_bytes()
    build_images(study)
    assert study.path(IMAGES).read_bytes() == before


def test_frames_are_rejected_by_file_or_by_their_only_reason(study: Workspace) -> None:
    with pytest.raises(SonoError, match="no frame in the quarantine has this name"):
        reject(study, ["0.png"], "KM")
    assert reject(study, ["1.png"], "KM").held == 1
    assert reject(study, [], "KM", "dual_view").held == 0
    with pytest.raises(SonoError, match="no frame is given"):
        reject(study, [], "KM")
    with pytest.raises(SonoError, match="no frame is held for dual_view only"):
        reject(study, [], "KM", "dual_view")


def test_the_last_decision_counts(study: Workspace) -> None:
    reject(study, [name(NAMED), name(DUAL)], "KM")
    assert release(study, [name(NAMED)], "AB").accepted == 1
    images = study.images().set_index("image_id")
    assert images["status"].to_dict() == {CLEAN: "accepted", NAMED: "accepted", DUAL: "rejected"}
    table = read_table(study.released_path, RELEASED).set_index("picture")
    assert table["decision"].to_dict() == {name(NAMED): "released", name(DUAL): "rejected"}
    assert table.at[name(NAMED), "reviewer"] == "AB"
    assert reject(study, [name(NAMED)], "KM").rejected == 1
    assert study.images().set_index("image_id").at[NAMED, "status"] == "rejected"
    assert not stored_path(study, frame_file(NAMED, PICTURE)).exists()


def test_a_table_of_an_earlier_version_holds_releases(study: Workspace) -> None:
    release(study, [name(NAMED)], "KM")
    old = pq.read_table(study.released_path)
    pq.write_table(old.drop_columns(["decision"]), study.released_path)
    build_images(study)
    assert study.images().set_index("image_id").at[NAMED, "status"] == "accepted"
    reject(study, [name(DUAL)], "KM")
    assert study.images().set_index("image_id").at[NAMED, "status"] == "accepted"


def test_a_release_is_of_one_crop_alone(study: Workspace) -> None:
    release(study, [name(NAMED)], "KM")
    wider = np.full((90, 90), 50, np.uint8)
    other = row(3, NAMED, ["text_in_sector"], raw_patient="P") | {
        "file": frame_file(NAMED, wider),
        "height": 90,
    }
    write_bytes(quarantined_path(study, str(other["file"])), encode_png(wider))
    rows = [*rows_of(read_table(study.sources_path, SOURCES)), other]
    write_table(study.sources_path, from_rows(SOURCES, rows), SOURCES)
    build_images(study)
    assert study.images().set_index("source_id").at["s3", "status"] == "quarantined"
    assert name(NAMED, wider) in set(_held(study, None)["picture"])


@pytest.mark.parametrize("nobody", ["", " ", "K\x1b[2J"])
def test_nobody_is_no_reviewer(study: Workspace, nobody: str) -> None:
    with pytest.raises(SonoError, match=r"--reviewer (is empty|holds)"):
        release(study, [name(NAMED)], nobody)


def test_sheets_show_what_is_held_in_the_vault_only(study: Workspace) -> None:
    held = show_quarantine(study)
    assert held.frames == 2 and held.reasons == {"dual_view": 1, "text_in_sector": 1}
    assert [sheet.parent for sheet in held.sheets] == [study.vault]
    assert held.sheets[0].stat().st_mode & 0o077 == 0
    assert show_quarantine(study, "dual_view").frames == 1
    with pytest.raises(SonoError, match="a frame is quarantined for"):
        show_quarantine(study, "blurred")
    release(study, [name(NAMED), name(DUAL)], "KM")
    with pytest.raises(SonoError, match="no frame is in quarantine"):
        show_quarantine(study)
    assert not held.sheets[0].exists()


def test_pictures_are_listed_and_released_by_file_or_by_their_only_reason(
    study: Workspace,
) -> None:
    shown = show_quarantine(study)
    assert shown.pictures == {name(NAMED): "text_in_sector", name(DUAL): "dual_view"}
    with pytest.raises(SonoError, match="no frame is held for duplicate_conflict only"):
        release(study, [], "KM", "duplicate_conflict")
    with pytest.raises(SonoError, match="no frame in the quarantine has this name"):
        release(study, ["0.png"], "KM")
    assert release(study, ["1.png"], "KM").held == 1
    assert release(study, [], "KM", "dual_view").held == 0


def test_files_are_listed_with_status_and_reasons_and_in_the_vault_with_their_paths(
    study: Workspace,
) -> None:
    listing = list_files(study, status="quarantined")
    assert [(row["file"], row["reasons"]) for row in listing.frames] == [
        ("9.a", "overlay text_in_sector"),
        ("9.a", "dual_view"),
    ]
    assert listing.frames[0]["picture"] == name(NAMED)
    assert [row["file"] for row in list_files(study, reason="dual_view", names=True).frames] == [
        "2.png"
    ]
    lines = (study.vault / "files.csv").read_text().splitlines()
    assert lines[1].startswith("0.png,0,accepted,,") and len(lines) == 4
    assert (study.vault / "files.csv").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SonoError, match="unknown status or reason; did you mean 'rejected'"):
        list_files(study, status="rejectd")
