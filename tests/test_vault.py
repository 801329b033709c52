"""Every command that writes, on a study whose vault is missing, another's, or elsewhere, and under umask 077."""

import csv
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from clip_files import TINY, random_clip, write_openai

import sono.cli
from sono.curation.release import _held
from sono.curation.tables import MASKS, SOURCES, read_table, write_table
from sono.curation.workspace import Workspace
from sono.training import architectures

SETTINGS = '\n[training]\nmodel = "tiny"\ntext = "clip"\nimage_size = 32\nepochs = 1\n'
Run = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Place:
    """A copy of the study, where its raw files are, an empty folder for what is exported, and a quarantined picture."""

    study: Path
    export: Path
    out: Path
    held: str

    @property
    def vault(self) -> Path:
        return self.study.with_name(f"{self.study.name}.vault")


# Command line of each command that writes: what needs the vault itself, what exports, and what writes into the study.
NEEDS = ("qc", "export dicom", "quarantine show", "quarantine release")
EXPORTS = ("masks export", "masks overlays", "export shards", "model export", "dedup --csv")
WRITES = (
    "masks import", "masks propose", "captions build", "stats", "split", "dedup", "train", "eval", "model import",
)  # fmt: skip


# The options that a command needs; {} stands for parts of the place.
OPTIONS = {
    "qc": "{export}/raw --records {export}/records.csv --center-from Hospital --jobs 1 -q",
    "quarantine release": "{held} --reviewer KM",
    "export dicom": "{out}/dicom -q",
    "export shards": "{out}/shards --hold-out B -q",
    "masks export": "{out}/masks.json",
    "masks overlays": "{out}/look",
    "masks import": "{export}/stored.json",
    "masks propose": "--jobs 1 -q",
    "model export": "{out}/model --run clip --format sonoclip",
    "model import": "{export}/clip.pt --name taken",
    "dedup --csv": "{out}/pairs.csv",
    "train": "--name again --hold-out B -q",
    "eval": "--run small --center B --jobs 1 -q",
}


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command at a place; its exit code and what it said on stderr."""

    def call(command: str, place: Place, more: str = "") -> tuple[int, str]:
        options = OPTIONS.get(command, "").format(export=place.export, out=place.out, held=place.held)
        words = f"sono {command} {options} {more} -w {place.study}".split()
        monkeypatch.setattr(sys, "argv", words)
        capfd.readouterr()
        code = _main()
        return code, capfd.readouterr().err

    return call


def _main() -> int:
    try:
        sono.cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """A model of a few numbers, known by its name."""
    architectures.SIZES["tiny"] = TINY
    yield
    del architectures.SIZES["tiny"]


@pytest.fixture(scope="module")
def job(tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A phantom export and a study in which every stage has run."""
    base = tmp_path_factory.mktemp("job")
    study, export = base / "study", base / "export"
    steps = [
        f"phantom {export} --women 4 --frames 6 -q",
        f"init {study}",
        f"qc {OPTIONS['qc']} -w {study}",
        f"masks import {export}/masks.coco.json -w {study}",
        f"masks export {export}/exported.json -w {study}",
        f"captions build -w {study}",
        f"train --name small --hold-out B -q -w {study}",
        f"model import {export}/clip.pt --name clip -w {study}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        for step in steps:
            patch.setattr(sys, "argv", ["sono", *step.format(export=export).split()])
            assert _main() == 0, step
            if step.startswith("init"):
                with (study / "sono.toml").open("a") as config:
                    config.write(SETTINGS)
                write_openai(export / "clip.pt", random_clip())
    coco = json.loads((export / "exported.json").read_text())
    for image in coco["images"]:  # named by image id, which needs no vault
        image["file_name"] = Path(image["file_name"]).name.partition("-")[0] + ".png"
    (export / "stored.json").write_text(json.dumps(coco))
    held = str(_held(Workspace(study), "text_in_sector")["picture"].iloc[0])
    return Place(study, export, base / "out", held)


@pytest.fixture
def place(job: Place, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """A copy of the study and its vault that the test may change, with the runs, which are large, where they serve."""
    command = request.node.callspec.params.get("command", "") if hasattr(request.node, "callspec") else ""
    aside = () if command in ("eval", "model export") else ("runs",)
    shutil.copytree(job.study, tmp_path / "study", ignore=shutil.ignore_patterns(*aside))
    shutil.copytree(job.vault, tmp_path / "study.vault")
    (tmp_path / "out").mkdir()
    return replace(job, study=tmp_path / "study", out=tmp_path / "out")


def files_of(place: Place) -> dict[Path, tuple[int, int]]:
    """Every file of the study and the exports, with inode and time: a file that was written again has another."""
    files = (path for folder in (place.study, place.out) for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if path.name != ".lock"}


def private_words(export: Path) -> re.Pattern[bytes]:
    """Names and ids of the records table, of those that are long enough not to occur by chance."""
    with (export / "records.csv").open(encoding="utf-8-sig") as table:
        rows = list(csv.DictReader(table, delimiter=";"))
    words = {word for row in rows for word in (*row["Name"].split(", "), row["MRN"]) if len(word) > 5}
    assert len(words) > 5
    return re.compile("|".join(map(re.escape, sorted(words))).encode(), re.IGNORECASE)


def check_nothing_private(place: Place, before: dict[Path, tuple[int, int]], said: str) -> None:
    """No name or id in any file that was written, nor on the terminal."""
    assert "Traceback" not in said
    private = private_words(place.export)
    assert not private.search(said.encode())
    for path, state in files_of(place).items():
        if before.get(path) != state:
            assert not private.search(path.read_bytes()), path


def take_away(place: Place) -> Place:
    shutil.rmtree(place.vault)
    return place


def move(place: Place) -> Place:
    """The study without its vault, at another place and under another name."""
    (place.study.parent / "disk").mkdir()
    place.study.rename(place.study.parent / "disk" / "moved")
    return replace(place, study=place.study.parent / "disk" / "moved")


def forget(place: Place) -> Place:
    """A vault that was made again from a backup of its key alone."""
    (place.vault / "sources.parquet").unlink()
    return place


@pytest.mark.parametrize(
    ("lose", "command"),
    [(take_away, command) for command in (*NEEDS, *EXPORTS, *WRITES)]
    + [(lose, command) for lose in (move, forget) for command in ("qc", "quarantine show", "masks export", "stats")],
)
def test_without_the_vault_no_command_is_silent(
    place: Place, run: Run, command: str, lose: Callable[[Place], Place]
) -> None:
    place = lose(place)
    before = files_of(place)
    code, said = run(command, place)
    if command in WRITES:
        assert code == 0
        assert "warning" in said and "nothing was searched" in said
    else:
        assert code == 1
        assert ("--no-vault" in said) == (command in EXPORTS)
        assert "not here" in said and len(said.splitlines()) == 1
        assert files_of(place) == before
    check_nothing_private(place, before, said)


@pytest.mark.parametrize("command", EXPORTS)
def test_an_export_without_the_vault_must_be_asked_for(place: Place, run: Run, command: str) -> None:
    before = files_of(place)
    code, said = run(command, take_away(place), "--no-vault")
    assert code == 0 and any(place.out.rglob("*"))
    assert "nothing was searched" in said
    check_nothing_private(place, before, said)


def make_foreign(place: Place) -> Place:
    Workspace.create(place.study.parent / "other")
    shutil.rmtree(place.vault)
    (place.study.parent / "other.vault").rename(place.vault)
    return place


def make_older(place: Place) -> Place:
    """The vault as it was before the last files came."""
    sources = read_table(place.vault / "sources.parquet", SOURCES)
    write_table(place.vault / "sources.parquet", sources[:5], SOURCES, mode=0o600)
    return place


def rename(place: Place) -> Place:
    place.study.rename(place.study.parent / "renamed")
    return replace(place, study=place.study.parent / "renamed")


def damage(place: Place) -> Place:
    (place.vault / "key").write_text("0123")
    return place


WRONG = {
    make_foreign: "not the key that made this study's ids",
    make_older: "knows nothing of",
    rename: "rename it to renamed.vault",
    damage: "the pseudonym key has 2 bytes",
}


@pytest.mark.parametrize(
    ("spoil", "command"),
    [(make_foreign, command) for command in (*NEEDS, *EXPORTS, *WRITES, "split --check")]
    + [(spoil, command) for spoil in (make_older, rename, damage) for command in ("qc", "masks export", "stats")],
)
def test_the_wrong_vault_is_an_error_of_every_command(
    place: Place, run: Run, command: str, spoil: Callable[[Place], Place]
) -> None:
    place = spoil(place)
    before = files_of(place)
    code, said = run(command, place, "--no-vault" if command in EXPORTS else "")
    assert code == 1
    assert WRONG[spoil] in said and len(said.splitlines()) == 1
    assert files_of(place) == before
    check_nothing_private(place, before, said)


@pytest.mark.parametrize("command", [*NEEDS, *EXPORTS, *WRITES])
def test_what_is_written_under_umask_077_is_for_its_owner_alone(place: Place, run: Run, command: str) -> None:
    before = files_of(place)
    held = {path.name for path in (place.vault / "quarantine").rglob("*.png")}  # released, they keep the modes they had
    old = os.umask(0o077)
    try:
        code, said = run(command, place)
    finally:
        os.umask(old)
    assert code == 0, said
    written = [path for path, state in files_of(place).items() if before.get(path) != state and path.name not in held]
    assert written or command == "quarantine show"
    written += list(place.vault.glob("*.p*"))  # tables and sheets
    assert [path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(place.vault.stat().st_mode) == 0o700
    check_nothing_private(place, before, said)


def test_the_settings_of_a_new_study_follow_the_umask_and_its_vault_is_closed(tmp_path: Path) -> None:
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
def test_a_vault_that_others_may_open_is_reported(place: Place, run: Run, mode: int) -> None:
    place.vault.chmod(mode)
    code, said = run("split --check", place)
    assert code == 0
    assert f"mode {mode:04o}" in said and "chmod 700" in said
    place.vault.chmod(0o700)
    assert run("split --check", place) == (0, "")


def test_a_copy_next_to_the_study_is_no_renamed_study(place: Place, run: Run) -> None:
    shutil.copytree(place.study, place.study.parent / "copy")
    code, said = run("stats", replace(place, study=place.study.parent / "copy"))
    assert code == 0 and "nothing was searched" in said


@pytest.mark.parametrize("command", ["masks export", "masks overlays"])
def test_what_is_exported_is_searched_before_it_is_written(place: Place, run: Run, command: str) -> None:
    study = Workspace(place.study)
    name = read_table(study.sources_path, SOURCES)["persons"].dropna().explode().dropna().max().split(",")[0]
    study.write(MASKS, study.masks().assign(structure=f"head of {name}"))
    code, said = run(command, place)
    assert code == 4 and name not in said
    assert list(place.out.rglob("*.*")) == []
