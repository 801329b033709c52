"""Every command on a study that was changed, on a full disk, and killed halfway."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive import serving
from children import close, disk_of, killed_at, run, started, without_rights
from commands import (
    CAPTIONED,
    COMMANDS,
    FRAME,
    IMAGE,
    KEY,
    LOCK,
    PLANES,
    SETTING,
    TEST_FRAME,
    Place,
    make_place,
    names_of_app,
    swept,
)

from sono.curation.core.tables import IMAGES, MASKS

RENAMES = frozenset(["os.rename"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Another study with other frames."""
    return make_place(tmp_path_factory.mktemp("other"), 500, runs=False)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An archive to pull from."""
    with serving() as archive:
        yield archive.url


@pytest.fixture
def place(place: Place, url: str, request: pytest.FixtureRequest) -> Place:
    """As the command of the test finds it before it has work to do."""
    name = request.node.callspec.params.get("name", "") if hasattr(request.node, "callspec") else ""
    if name == "pull":
        pytest.importorskip(
            "dicomweb_client", reason="the extra pacs (dicomweb-client) is not installed"
        )
    if name:
        COMMANDS[name].begin(place)
    return replace(place, url=url)


def test_no_command_is_left_out() -> None:
    served = {"masks review"}  # runs until it is interrupted; tests/annotation/test_review.py
    assert {command.name for command in COMMANDS.values()} == names_of_app() - served


def state(*folders: Path) -> dict[Path, bytes]:
    """All files; a lock holds nothing."""
    files = (
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    )
    return {path: path.read_bytes() for path in files}


def read_by(place: Place, name: str) -> Path:
    """The file that a command reads."""
    shutil.rmtree(place.study.root / "packed", ignore_errors=True)
    if name == "held":
        return next(place.study.quarantine.rglob("*.png"))
    if name in (FRAME, TEST_FRAME):
        accepted = place.study.accepted_images()
        split = "train" if name == FRAME else "test"
        femora = accepted[(accepted["plane"] == "femur") & (accepted["split"] == split)]
        return place.study.root / str(femora["file"].iloc[0])
    if "/end/" in name:
        shutil.rmtree(place.study.runs / "toy" / "best", ignore_errors=True)
    return place.base / name


READS = [(name, read) for name, command in COMMANDS.items() for read in command.reads]
ONE_READER = (SETTING, PLANES, KEY, LOCK)  # each is read by one function, whatever the command
PIPES = [pair for pair in READS if pair[1] not in ONE_READER]
PIPES += list({read: (name, read) for name, read in READS if read in ONE_READER}.values())


@pytest.mark.parametrize(("name", "read"), swept(PIPES))
def test_a_pipe_in_place_of_a_file_is_refused(place: Place, name: str, read: str) -> None:
    path = read_by(place, read)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    said = run(COMMANDS[name].line(place))
    assert (said.code, said.one_line) == (1, True), said
    assert not COMMANDS[name].makes or not (place.base / COMMANDS[name].makes).exists()


FOREIGN = [(name, read) for name, read in READS if read in CAPTIONED]


@pytest.mark.parametrize(("name", "table"), swept(FOREIGN))
def test_another_studys_table_is_refused(place: Place, other: Place, name: str, table: str) -> None:
    shutil.copy(other.base / table, place.base / table)
    said = run(COMMANDS[name].line(place))
    assert (said.code, said.one_line) == (1, True), said
    assert "another study" in said.err or "the vault that belongs to this study" in said.err


LINKS = ("link", "linked folder")
OUTSIDE = [
    (name, way) for name, read in READS if read == IMAGE for way in ("above", "linked folder")
]
OUTSIDE += [("stats", way) for way in ("quarantine", "absolute", "link")]


@pytest.mark.parametrize(("name", "way"), OUTSIDE)
def test_a_frame_outside_of_the_workspace_is_not_read(place: Place, name: str, way: str) -> None:
    study = place.study
    images = pq.read_table(study.path(IMAGES))
    files = images["file"].to_pylist()
    row = next(number for number, file in enumerate(files) if file)
    held = study.quarantine / "ab" / "held.png"
    held.parent.mkdir(parents=True, exist_ok=True)
    held.write_bytes((study.root / files[row]).read_bytes())
    given = {"quarantine": "../study.vault/quarantine/ab/held.png", "absolute": "/etc/passwd"}
    if way == "link":
        (study.root / files[row]).unlink()
        (study.root / files[row]).symlink_to(held)
    elif way == "linked folder":
        (study.frames / "zz").symlink_to(held.parent)
    else:
        files[row] = given.get(way, "frames/../../study.vault/key")
        column = images.schema.get_field_index("file")
        pq.write_table(
            images.set_column(column, images.schema.field(column), pa.array(files)),
            study.path(IMAGES),
        )
    said = run(COMMANDS[name].line(place))
    assert (said.code, said.one_line) == (1, True), said
    assert (
        "leads out of" if way in LINKS else f"images.parquet: row {row + 1}: column 'file' has"
    ) in said.err
    assert held.exists() and not place.out.exists()


WRITERS = [name for name, command in COMMANDS.items() if command.writes]


def check_repeated(place: Place, name: str) -> None:
    """The command, given again, ends well and leaves nothing half-written."""
    again = run(COMMANDS[name].again(place))
    assert again.code == 0, again
    assert not COMMANDS[name].makes or (place.base / COMMANDS[name].makes).exists()
    assert not list(place.base.rglob(".tmp-*"))


@pytest.mark.parametrize("name", swept(WRITERS))
def test_a_full_disk_is_one_line_and_the_same_command_then_goes_on(place: Place, name: str) -> None:
    command, tables = COMMANDS[name], state(place.study.root)
    said = run(command.line(place), disk_of(command.room))
    assert (said.code, said.one_line) == (1, True), said
    assert "make room" in said.err
    assert not command.makes or not (place.base / command.makes).exists()
    assert not list(place.base.rglob(".tmp-*"))
    now = state(place.study.root)
    assert [path for path in tables if now.get(path) != tables[path]] == []
    check_repeated(place, name)


KILLS = [(name, COMMANDS[name].writes) for name in WRITERS] + [
    ("init", 2),
    ("qc", 1),
    ("train", 1),
    ("eval", 1),
]


@pytest.mark.parametrize(("name", "at"), swept(KILLS))
def test_a_killed_command_leaves_nothing_under_its_final_name_and_can_be_repeated(
    place: Place, name: str, at: int
) -> None:
    command = COMMANDS[name]
    assert run(command.line(place), killed_at(at, place.base, RENAMES)).code == -signal.SIGKILL
    assert not command.makes or not (place.base / command.makes).exists()
    check_repeated(place, name)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(2, 11, 2))  # of at least 10 changes
def test_a_release_that_is_killed_anywhere_goes_on(place: Place, whole: Place, at: int) -> None:
    line = COMMANDS["quarantine release"].line(place)
    assert run(line, killed_at(at, place.base)).code == -signal.SIGKILL
    images = place.study.images().set_index("image_id")
    released = images["reasons"].map(lambda codes: "released" in codes)
    assert set(images.loc[released, "status"]) <= {"accepted"}
    assert all(
        (place.study.root / file).is_file()
        for file in images.loc[images["status"] == "accepted", "file"]
    )
    assert run(line).code == 0
    assert "released" in set(place.study.images()["reasons"].explode())
    assert not list(place.base.rglob(".tmp-*")) and not list(place.study.quarantine.rglob("*.png"))


def test_an_evaluation_takes_the_place_of_the_old_one_and_keeps_what_others_put_there(
    place: Place,
) -> None:
    line, target = COMMANDS["eval"].line(place), place.study.runs / "toy" / "eval" / "test"
    assert run(line).code == 0
    (target / "notes.txt").write_text("mine")
    place.study.config_path.write_text(
        place.study.config_path.read_text().replace("draws = 100", "draws = 101")
    )
    before = state(target)
    assert run(line, disk_of(2000)).code == 1
    assert state(target) == before
    assert run(line, killed_at(1, target.parent, RENAMES)).code == -signal.SIGKILL
    shutil.rmtree(place.study.runs / "toy" / "best")
    assert run(line).code == 0
    now = state(target)
    metrics = [json.loads(files[target / "metrics.json"]) for files in (before, now)]
    assert now[target / "notes.txt"] == b"mine"
    assert [each["checkpoint"] for each in metrics] == ["best", "end"]
    said = "the best checkpoint (epoch 1) is missing: these are the scores of end"
    assert [said in each["notes"] for each in metrics] == [False, True]


@pytest.mark.parametrize("name", ["export dicom", "export shards"])
def test_a_vault_that_cannot_be_written_does_not_spoil_an_export(place: Place, name: str) -> None:
    def read_only() -> None:
        unlink = Path.unlink

        def refused(path: Path, missing_ok: bool = False) -> None:
            if path.parent == place.study.vault:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            unlink(path, missing_ok=missing_ok)

        Path.unlink = refused

    said = run(COMMANDS[name].line(place), read_only)
    assert said.code == 0, said
    assert place.out.is_dir()


@pytest.mark.parametrize("name", ["stats", "qc again", "export dicom", "quarantine release"])
def test_a_renamed_study_wants_its_vault_renamed_and_a_name_that_is_no_text_is_one_line(
    place: Place, name: str
) -> None:
    line = COMMANDS[name].line(place)[:-1]
    renamed, no_text = (
        place.base / "new name",
        Path(os.fsdecode(os.fsencode(place.base) + b"/st\xfcdy")),
    )
    place.study.root.rename(renamed)
    said = run([*line, str(renamed)])
    assert (said.code, said.one_line) == (1, True), said
    assert "rename it to new name.vault" in said.err
    renamed.rename(no_text)
    place.study.vault.rename(Path(f"{no_text}.vault"))
    for words, folder in (([*line, str(no_text)], None), (line[:-1], no_text)):
        said = run(words, cwd=folder)
        assert (said.code, said.one_line) == (1, True), said
        assert "st\\xfcdy: the name is not UTF-8" in said.err
    no_text.rename(renamed)
    Path(f"{no_text}.vault").rename(place.base / "new name.vault")
    assert run([*line, str(renamed)]).code == 0


CLOSED = [(name, "study") for name in ("captions build", "stats", "model import")]
CLOSED += [("qc", "study.vault"), ("quarantine show", "study.vault")]
CLOSED += [(name, "") for name in ("init", "phantom", "export dicom", "masks export", "dedup csv")]


@pytest.mark.parametrize(("name", "closed"), CLOSED)
def test_where_nothing_may_be_written_one_line_says_so_and_all_stays(
    place: Place, name: str, closed: str
) -> None:
    before = state(place.base)
    close(place.base / closed, deep=bool(closed))
    said = run(COMMANDS[name].line(place), without_rights)
    assert (said.code, said.one_line) == (1, True), said
    assert "Permission denied" in said.err and ".tmp-" not in said.err
    assert state(place.base) == before


def all_rejected(place: Place) -> None:
    place.study.write(IMAGES, place.study.images().assign(status="rejected"))


def no_masks(place: Place) -> None:
    place.study.write(MASKS, place.study.masks()[:0])


def no_split(place: Place) -> None:
    place.study.write(IMAGES, place.study.images().assign(split=None))


NOTHING = [
    (all_rejected, name, "none of the 13 frames was accepted")
    for name in ("split", "split check", "dedup csv")
]
NOTHING += [
    (all_rejected, "quarantine show", "no frame is in quarantine"),
    (no_split, "split check", "no frame is in a split"),
]
NOTHING += [(no_masks, name, "no masks yet; run") for name in ("masks export", "masks overlays")]


@pytest.mark.parametrize(("take", "name", "said"), NOTHING)
def test_a_command_with_nothing_to_do_says_so_and_replaces_nothing(
    place: Place, take: Callable[[Place], None], name: str, said: str
) -> None:
    take(place)
    before = state(place.base)
    words = run(COMMANDS[name].line(place))
    assert (words.code, words.one_line) == (1, True), words
    assert said in words.err
    assert state(place.base) == before


@pytest.mark.parametrize("name", ["train", "masks import", "model import"])
def test_two_at_once_both_end_and_nothing_is_lost(place: Place, name: str) -> None:
    """Each writes what it would alone, or says that another is at it."""
    line = COMMANDS[name].line(place)
    if name == "train":
        # each takes a name that is free
        line = [word for word in line if word not in ("--name", "new")]
    with started(line) as first, started(line) as second:
        both = [first(), second()]
    late = [said for said in both if said.code]
    assert len(late) < 2, both
    assert all(
        "another sono is" in said.err or "a run of this name exists" in said.err for said in late
    ), late
    assert not list(place.base.rglob(".tmp-*"))
    if name == "train":
        assert {path.name for path in place.study.runs.glob("run-*")} == {"run-001", "run-002"}
    if name == "masks import":
        assert len(place.study.masks()) == 2


def test_a_run_that_was_killed_before_it_began_keeps_no_name(place: Place) -> None:
    line = COMMANDS["train"].line(place)
    unnamed = [word for word in line if word not in ("--name", "new")]
    begun = place.study.runs / "run-001"
    assert run(unnamed, killed_at(2, begun, RENAMES)).code == -signal.SIGKILL
    assert (begun / "run.json").exists()
    assert run(unnamed).code == 0
    assert (begun / "summary.json").exists() and not list(place.study.runs.glob("run-002"))


def test_only_kinds_of_files_are_written_that_the_gate_searches(place: Place) -> None:
    """`tests/curation/privacy/test_text_extraction.py` plants a name in each of them."""
    written = {
        path.suffix
        for path in place.study.root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    for name in ("export shards", "export dicom", "model export"):
        shutil.rmtree(place.out, ignore_errors=True)
        assert run(COMMANDS[name].line(place)).code == 0
        written |= {path.suffix for path in place.out.rglob("*") if path.is_file()}
    known = {
        ".csv",
        ".dcm",
        ".html",
        ".json",
        ".parquet",
        ".png",
        ".pt",
        ".pth",
        ".safetensors",
        ".tar",
        ".toml",
    }
    # TensorBoard's names end in a number
    assert {suffix for suffix in written if not suffix[1:].isdigit()} <= known
