"""Every command with a missing, foreign, older or damaged vault, and under umask 077."""

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from children import Outcome, run
from commands import COMMANDS, PRIVATE, Place, swept

from sono.curation.core.tables import MASKS, read_table, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace

# One of the ways of each command that reads or writes a study.
NEEDS = (
    "qc again",
    "list",
    "export dicom",
    "quarantine show",
    "quarantine release",
    "quarantine reject",
    "masks import",
    "captions rewrite",
    "import dataset",
)
EXPORTS = [name for name, command in COMMANDS.items() if command.needs == "search"]
WRITES = (
    "masks propose",
    "masks train",
    "masks measure",
    "captions build",
    "captions lint",
    "card",
    "stats",
    "split",
    "dedup",
    "train",
    "eval",
    "leave-one-center-out",
    "model card",
    "search",
    "probe",
    "model import",
)
WRITERS = [name for name, command in COMMANDS.items() if command.writes and command.in_study]


@pytest.fixture
def place(place: Place, request: pytest.FixtureRequest) -> Place:
    """A copy with a folder for what is exported, and with a pair to draw."""
    place.out.mkdir()
    begun = (
        "dedup sheet",
        "masks measure",
        "probe biometry",
        "compare",
        "leave-one-center-out",
        "captions rewrite",
        "import dataset",
    )
    for name in begun:
        if name in request.node.name:
            COMMANDS[name].begin(place)
    return place


def test_no_command_is_left_out() -> None:
    tried = {COMMANDS[name].name for name in (*NEEDS, *EXPORTS, *WRITES)}
    assert tried == {one.name for one in COMMANDS.values() if one.needs != "nothing"}


def ran(name: str, place: Place, *more: str) -> tuple[int, str]:
    """Exit code and stderr of a command; folders are exported below `out`."""
    line = [
        f"{word}/new" if word == str(place.out) else word
        for word in COMMANDS[name].line(place, *more)
    ]
    said: Outcome = run(line)
    return said.code, said.err


def files_of(place: Place) -> dict[Path, tuple[int, int]]:
    """Every file of the study and the exports, with inode and time.

    A file that was written again has another.
    """
    files = (
        path
        for folder in (place.study.root, place.out)
        for path in folder.rglob("*")
        if path.is_file()
    )
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in files
        if path.name != ".lock"
    }


def check_nothing_private(place: Place, before: dict[Path, tuple[int, int]], said: str) -> None:
    """No name or id in any file that was written, nor on the terminal."""
    private = re.compile("|".join(PRIVATE).encode(), re.IGNORECASE)
    assert "Traceback" not in said
    assert not private.search(said.encode())
    for path, state in files_of(place).items():
        if before.get(path) != state:
            assert not private.search(path.read_bytes()), path


def take_away(place: Place) -> None:
    shutil.rmtree(place.study.vault)


def forget(place: Place) -> None:
    """A vault that was made again from a backup of its key alone."""
    place.study.sources_path.unlink()


@pytest.mark.parametrize(
    ("lose", "command"),
    [(take_away, command) for command in (*NEEDS, *EXPORTS, *WRITES)]
    + [(forget, command) for command in ("qc again", "quarantine show", "masks export", "stats")],
)
def test_without_the_vault_no_command_is_silent(
    place: Place, command: str, lose: Callable[[Place], None]
) -> None:
    lose(place)
    before = files_of(place)
    code, said = ran(command, place)
    if command in WRITES:
        assert code == 0
        assert "warning" in said and "nothing was searched" in said
    else:
        assert code == 1
        assert ("--no-vault" in said) == (command in EXPORTS)
        assert "not here" in said and len(said.splitlines()) == 1
        assert files_of(place) == before
    check_nothing_private(place, before, said)


@pytest.mark.parametrize("command", swept(EXPORTS))
def test_an_export_without_the_vault_must_be_asked_for(place: Place, command: str) -> None:
    before = files_of(place)
    take_away(place)
    code, said = ran(command, place, "--no-vault")
    assert code == 0 and any(place.out.rglob("*"))
    assert "nothing was searched" in said
    check_nothing_private(place, before, said)


def make_foreign(place: Place) -> None:
    Workspace.create(place.base / "other")
    shutil.rmtree(place.study.vault)
    (place.base / "other.vault").rename(place.study.vault)


def make_older(place: Place) -> None:
    """The vault as it was before the last files came."""
    sources = read_table(place.study.sources_path, SOURCES)
    write_table(place.study.sources_path, sources[:5], SOURCES, mode=0o600)


def damage(place: Place) -> None:
    place.study.key_path.write_text("0123")


WRONG = {
    make_foreign: "not the key that made this study's ids",
    make_older: "does not know",
    damage: "the pseudonym key has 2 bytes",
}


@pytest.mark.parametrize(
    ("spoil", "command"),
    [(make_foreign, command) for command in (*NEEDS, *EXPORTS, *WRITES, "split check")]
    + [
        (spoil, command)
        for spoil in (make_older, damage)
        for command in ("qc again", "masks export", "stats")
    ],
)
def test_the_wrong_vault_is_an_error_of_every_command(
    place: Place, command: str, spoil: Callable[[Place], None]
) -> None:
    spoil(place)
    before = files_of(place)
    code, said = ran(command, place, *(["--no-vault"] if command in EXPORTS else []))
    assert code == 1
    assert WRONG[spoil] in said and len(said.splitlines()) == 1
    assert files_of(place) == before
    check_nothing_private(place, before, said)


@pytest.mark.parametrize("command", swept(WRITERS))
def test_what_is_written_under_umask_077_is_for_its_owner_alone(place: Place, command: str) -> None:
    before = files_of(place)
    # released, they keep the modes they had
    held = {path.name for path in place.study.quarantine.rglob("*.png")}
    old = os.umask(0o077)
    try:
        code, said = ran(command, place)
    finally:
        os.umask(old)
    assert code == 0, said
    written = [
        path
        for path, state in files_of(place).items()
        if before.get(path) != state and path.name not in held
    ]
    assert written or command in ("quarantine show", "list")
    written += list(place.study.vault.glob("*.p*"))  # tables and sheets
    assert [path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(place.study.vault.stat().st_mode) == 0o700
    check_nothing_private(place, before, said)


def test_the_settings_of_a_new_study_follow_the_umask_and_its_vault_is_closed(
    tmp_path: Path,
) -> None:
    for umask, mode in ((0o077, 0o600), (0o022, 0o644), (0, 0o644), (0o277, 0o600)):
        old = os.umask(umask)
        try:
            study = Workspace.create(tmp_path / f"{umask:o}")
        finally:
            os.umask(old)
        assert stat.S_IMODE(study.vault.stat().st_mode) == 0o700
        assert stat.S_IMODE(study.key_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(study.config_path.stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_vault_that_others_may_open_is_reported(place: Place, mode: int) -> None:
    place.study.vault.chmod(mode)
    code, said = ran("split check", place)
    assert code == 0
    assert f"mode {mode:04o}" in said and "chmod 700" in said
    place.study.vault.chmod(0o700)
    assert ran("split check", place) == (0, "")


def test_a_copy_next_to_the_study_is_no_renamed_study(place: Place) -> None:
    shutil.copytree(place.study.root, place.base / "copy")
    said = run(["stats", "-w", str(place.base / "copy")])
    assert said.code == 0 and "nothing was searched" in said.err


@pytest.mark.parametrize("command", ["masks export", "masks overlays"])
def test_what_is_exported_is_searched_before_it_is_written(place: Place, command: str) -> None:
    study = place.study
    name = (
        read_table(study.sources_path, SOURCES)["persons"]
        .dropna()
        .explode()
        .dropna()
        .max()
        .split(",")[0]
    )
    study.write(MASKS, study.masks().assign(structure=f"head of {name}"))
    code, said = ran(command, place)
    assert code == 4 and name not in said
    assert list(place.out.rglob("*.*")) == []


def test_a_surname_that_is_a_word_of_sono_stops_no_command(place: Place) -> None:
    sources = read_table(place.study.sources_path, SOURCES)
    names = ["Little^Jo", "Cross^Ann", "Block^Ed", "Grain^Al", "Stray^Bo", "Scale^Cy", "Fine^Di"]
    sources["persons"] = [names] * len(sources)
    write_table(place.study.sources_path, sources, SOURCES, mode=0o600)
    for command in ("stats", "eval", "model export"):
        assert ran(command, place)[0] == 0, command


OUTPUTS = [
    (name, inside)
    for name, command in COMMANDS.items()
    if "{out}" in command.words and command.in_study and name != "pull"
    for inside in ("study/frames", "study.vault")
]


@pytest.mark.parametrize(("name", "inside"), OUTPUTS)
def test_nothing_is_exported_among_the_stored_frames_or_into_the_vault(
    place: Place, name: str, inside: str
) -> None:
    target = place.base / inside / "new"
    line = [word.replace(str(place.out), str(target)) for word in COMMANDS[name].line(place)]
    said = run(line)
    assert (said.code, said.one_line) == (1, True), said
    assert "a place for such files" in said.err
    assert not target.exists()
