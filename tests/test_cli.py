"""The command line: help of every command, all stages on a small phantom, and bad input."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from children import import_all
from children import run as run_forked
from typer.main import get_command
from waiting import ended, wait_until

import sono.cli
from sono.curation.core.cli_options import show
from sono.curation.core.config import SECTIONS
from sono.curation.core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(command: object, path: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None or getattr(command, "invoke_without_command", False):
            found.append(path)
        for name, child in (inner or {}).items():
            walk(child, (*path, name))

    walk(get_command(sono.cli.app), ())
    return found


class Result:
    """Exit code and both streams of a command that ran in this process."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["sono", *map(str, words)])
        capfd.readouterr()
        try:
            sono.cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        streams = capfd.readouterr()
        return Result(code, streams.out, streams.err)

    return call


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(
    path: tuple[str, ...], run
) -> None:
    result = run(*path, "--help")
    assert result.code == 0
    assert f"Example: sono {' '.join(path)}" in " ".join(result.out.split())
    if path[0] not in {"split", "phantom"}:
        assert f"sono {' '.join(path)}" in (ROOT / "README.md").read_text() or path == (
            "masks",
            "export",
        )


def test_the_help_groups_all_commands(run) -> None:
    shown = run("--help").out
    assert "Train and evaluate" in shown and " Commands " not in shown


def test_no_help_has_a_word_in_square_brackets_which_is_a_style_to_rich() -> None:
    root = get_command(sono.cli.app)
    for path in commands():
        command = root
        for word in path:
            command = command.commands[word]
        texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
        assert not [text for text in texts if re.search(r"\[[a-z]", text or "")], path


@pytest.mark.parametrize(
    "words", [("init", ""), ("qc", "raw", "--records", ""), ("stats", "--workspace=")], ids=str
)
def test_an_empty_argument_is_not_the_current_folder(words, run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.code == 2 and result.err.startswith("sono: the argument after '"), result.err
    assert list(tmp_path.iterdir()) == []


def test_a_fold_out_of_range_is_a_usage_error(run) -> None:
    result = run("split", "--folds", "5", "--fold", "5")
    assert result.code == 2 and "give 0 to 4" in " ".join(result.err.split())


@pytest.mark.parametrize(
    "words", [("init",), ("split", "-w"), ("captions", "build", "-w")], ids=" ".join
)
def test_links_in_a_loop_and_a_name_of_two_lines_are_one_line(words, run, tmp_path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("loop", "loop/study", "a\nb"):
        result = run(*words, tmp_path / name)
        assert (
            result.code == 1 and result.err.startswith("sono: ") and result.err.count("\n") == 1
        ), result.err


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small phantom export, and a study in which every stage has run through the command line.

    What imports the most, and what starts workers, are processes of their own; the others are forks
    of this one.
    """
    import_all()
    base = tmp_path_factory.mktemp("job")
    export, study = base / "export", base / "study"
    steps = [
        ["phantom", export, "--patients", 12, "--frames", 6],
        ["init", study],
        [
            "qc",
            export / "raw",
            "--records",
            export / "records.csv",
            "--center-from",
            "Hospital",
            "--jobs",
            1,
            "-w",
            study,
        ],
        ["masks", "import", export / "masks.coco.json", "-w", study],
        ["masks", "propose", "--jobs", 2, "-w", study],
        ["captions", "build", "-w", study],
        ["stats", "-w", study],
        ["train", "--hold-out", "B", "--epochs", 2, "--name", "small", "-w", study],
        ["eval", "--center", "B", "--jobs", 2, "-w", study],
    ]
    for step in steps:
        if step[0] == "qc":
            config = study / "sono.toml"
            config.write_text(
                config.read_text()
                + '\n[training]\nmodel = "nano"\ntext = "clip"\nimage_size = 32\n'
            )
        words = [str(word) for word in step]
        if step[0] in ("init", "qc", "train", "eval") or "--jobs" in step:
            alone = subprocess.run(
                [sys.executable, "-m", "sono", *words], capture_output=True, text=True, check=False
            )
            code, out, err = alone.returncode, alone.stdout, alone.stderr
        else:
            code, out, err = run_forked(words)
        assert code == 0, (step, err)
        expected = (
            r"epoch \d of 2: loss |.*/study: uses \d+ of \d+ frames of the \w+ split; not used: "
            r"\d+ frames of B|.+: \d+ of \d+, \d+ s$|"
            r"sono: warning: \d+ of \d+ proposals are guesses, because the plane|"
            # which of the 12 patients is in val depends on the frames that are accepted
            r".*/study: (no|one) captioned frame of the validation split is used"
        )
        told = [line for line in err.splitlines() if not re.match(expected, line)]
        assert told == [], step
        assert "next:" in out or step[0] == "eval"
    return export, study


def test_the_whole_job_leaves_tables_frames_reports_and_a_model(job: tuple[Path, Path]) -> None:
    study = job[1]
    names = {path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file()}
    expected = {
        "images.parquet",
        "masks.parquet",
        "captions.parquet",
        "report.html",
        "runs/small/last/model.safetensors",
    }
    expected |= {
        "runs/small/eval/B/report.html",
        "runs/small/eval/B/metrics.json",
        "runs/small/log.csv",
    }
    assert expected <= names


def test_everything_planted_is_found_and_nothing_private_is_left(job: tuple[Path, Path]) -> None:
    export, study = job
    words = [sys.executable, str(ROOT / "benchmarks" / "planted.py"), str(study), str(export)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "private values in the workspace: 0" in done.stdout


def test_a_center_that_was_trained_on_is_refused(job: tuple[Path, Path], run) -> None:
    refused = run("eval", "--center", "A", "-w", job[1])
    assert refused.code == 1
    assert "--allow-seen" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_json_is_the_only_thing_on_stdout(job: tuple[Path, Path], run) -> None:
    result = run("stats", "--json", "-w", job[1])
    assert json.loads(result.out)["frames"]["accepted"] > 50


def test_a_report_needs_nothing_from_a_network(job: tuple[Path, Path]) -> None:
    for report in job[1].rglob("report.html"):
        text = report.read_text()
        assert "default-src 'none'" in text
        assert not re.search(r"(src|href)=[\"']?https?:", text)
        assert len(text) < 5_000_000


def bad_calls(base: Path) -> dict[str, tuple[list[object], str]]:
    """Command line and what its one line of error must say."""
    study, empty = base / "study", base / "empty"
    return {
        "init on a full folder": (["init", base], "not an empty folder"),
        "init twice": (["init", study], "already a workspace"),
        "no workspace": (["stats", "-w", empty], "sono init"),
        "qc of nothing": (["qc", base / "missing", "-w", study], "missing"),
        "qc of an empty folder": (["qc", empty, "-w", study], "empty"),
        "qc with an unknown plane": (
            ["qc", base / "raw", "--records", base / "plane.csv", "-w", study],
            "did you mean 'femur'",
        ),
        "qc without a key column": (
            ["qc", base / "raw", "--records", base / "column.csv", "-w", study],
            "column.csv",
        ),
        "masks of nothing": (["masks", "import", base / "missing.json", "-w", study], "sono qc"),
        "masks that are none": (["masks", "import", base / "broken.json", "-w", study], "sono qc"),
        "propose before qc": (["masks", "propose", "-w", study], "sono qc"),
        "a checkpoint that is none": (
            ["masks", "propose", "--checkpoint", base / "broken.json", "-w", study],
            "not a checkpoint",
        ),
        "captions before qc": (["captions", "build", "-w", study], "sono qc"),
        "an unknown template set": (
            ["captions", "build", "--template", "sonocip", "-w", study],
            "sonoclip",
        ),
        "stats before qc": (["stats", "-w", study], "sono qc"),
        "split before qc": (["split", "-w", study], "sono qc"),
        "dedup before qc": (["dedup", "-w", study], "sono qc"),
        "train before qc": (["train", "-w", study], "sono qc"),
        "eval before train": (["eval", "-w", study], "sono train"),
        "overlays without masks": (["masks", "overlays", base / "look", "-w", study], "sono"),
    }


@pytest.fixture
def bad_base(tmp_path: Path) -> Path:
    Workspace.create(tmp_path / "study")
    (tmp_path / "empty").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").write_bytes(b"no picture")
    (tmp_path / "plane.csv").write_text("image,plane\na.png,femor\n")
    (tmp_path / "column.csv").write_text("color,weight\nred,3\n")
    (tmp_path / "broken.json").write_text('{"images": [')
    return tmp_path


@pytest.mark.parametrize("name", list(bad_calls(Path())))
def test_bad_input_gives_one_clear_line_and_damages_nothing(bad_base: Path, run, name: str) -> None:
    words, expected = bad_calls(bad_base)[name]
    before = {
        path: path.read_bytes()
        for path in bad_base.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    result = run(*words)
    assert result.code == 1
    assert result.err.startswith("sono: ")
    message, *block = result.err.splitlines()
    assert not block or block[0].startswith("[")  # a section of sono.toml to paste
    assert expected in message
    after = {
        path: path.read_bytes()
        for path in bad_base.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert after == before


@pytest.mark.parametrize(
    ("section", "command"),
    [
        ("qc", ["qc", "raw"]),
        ("training", ["train"]),
        ("captions", ["captions", "build"]),
        ("splits", ["split"]),
    ],
)
def test_an_unknown_key_in_the_settings_is_one_clear_line(
    bad_base: Path, run, section: str, command: list[str]
) -> None:
    config = bad_base / "study" / "sono.toml"
    config.write_text(f"[{section}]\nepocs = 3\n")
    words = [bad_base / word if word == "raw" else word for word in command]
    result = run(*words, "-w", bad_base / "study")
    assert result.code == 1
    assert f"unknown key '{section}.epocs'" in result.err


@pytest.mark.parametrize(
    "command", [["stats"], ["split", "--check"], ["captions", "build"], ["dedup"]], ids=" ".join
)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[training]\nepocs = 3\n", "unknown key 'training.epocs'; did you mean 'epochs'?"),
        ("[evaluation]\nmodes = ['emty']\n", "did you mean 'empty'?"),
        ("[recods]\n", "unknown section [recods]; did you mean 'records'?"),
    ],
)
def test_a_typo_in_any_section_is_noticed_by_every_command(
    bad_base: Path, run, command: list[str], text: str, told: str
) -> None:
    (bad_base / "study" / "sono.toml").write_text(text)
    result = run(*command, "-w", bad_base / "study")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert told in result.err


def test_every_section_has_its_model_and_none_needs_torch() -> None:
    assert tuple(sono.cli.SETTINGS) == SECTIONS
    load = "[cli.settings_model(name) for name in cli.SETTINGS]"
    code = f"import sys, sono.cli as cli; {load}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_next_step_may_name_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    show({"count": 1}, next_step="set shards under [training] in sono.toml")
    assert "next: set shards under [training] in sono.toml" in capsys.readouterr().out


def test_usage_errors_exit_2(run) -> None:
    assert run("qc").code == 2
    assert run("fly").code == 2


def test_an_interrupted_command_says_that_it_goes_on(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sono.cli, "app", interrupt)
    result = run("stats")
    assert (result.code, "to continue" in result.err) == (130, True)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_at_any_moment_of_qc_gives_one_line(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (600, 800), np.uint8)
    for number in range(150):
        (raw / f"{number}.png").write_bytes(
            cv2.imencode(".png", np.roll(picture, number))[1].tobytes()
        )
    study = Workspace.create(tmp_path / "study")
    command = [sys.executable, "-m", "sono", "qc", str(raw), "-w", str(study.root), "--jobs", "2"]
    lock = study.root / ".lock"
    # the work has begun; the workers have stored a frame
    for begun in (lock.exists, lambda: any(study.quarantine.rglob("*.png"))):
        lock.unlink(missing_ok=True)
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until(begun, process)
        os.killpg(process.pid, signal.SIGINT)
        _, err = ended(process)
        # ignored while the workers start, else 130
        assert (process.returncode, err.count("\n")) == (130, 1)


def test_a_full_disk_is_one_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, os.strerror(28), "study/images.parquet")

    monkeypatch.setattr(sono.cli, "app", full)
    result = run("stats")
    assert result.code == 1
    assert result.err.startswith("sono: the disk is full: study/images.parquet; make room")


def test_the_version_is_printed(run) -> None:
    assert re.fullmatch(r"sono \d+\.\d+.*\n", run("--version").out)
