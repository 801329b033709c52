"""Progress in a pipe and on a narrow terminal, and what is printed with --quiet."""

import io
import time

import pytest
from rich.console import Console

from sono.curation.core import cli_options, console
from sono.curation.core.cli_options import show


def screen(monkeypatch: pytest.MonkeyPatch, **settings: object) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(console, "stderr_console", Console(file=text, **settings))  # type: ignore[arg-type]
    return text


def test_long_work_in_a_pipe_prints_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = screen(monkeypatch)
    monkeypatch.setattr(console, "LINE_SECONDS", 0.01)
    with console.progress("qc", 9) as advance:
        time.sleep(0.05)
        advance(4)
        time.sleep(0.05)
        advance(2)
    assert text.getvalue().splitlines() == ["qc: 4 of 9, 0 s", "qc: 6 of 9, 0 s"]


def test_short_work_in_a_pipe_and_quiet_work_print_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = screen(monkeypatch)
    with console.progress("qc", 9) as advance:
        advance(9)
    monkeypatch.setattr(console, "LINE_SECONDS", 0.01)
    console.stderr_console.quiet = True
    with console.progress("qc", 9):
        time.sleep(0.05)
    assert not text.getvalue()


@pytest.mark.parametrize(("width", "drawn"), [(40, False), (100, True)])
def test_a_narrow_terminal_shows_the_numbers_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, width: int, drawn: bool
) -> None:
    text = screen(monkeypatch, width=width, force_terminal=True)
    with console.progress("qc", 888) as advance:
        advance(320)
    assert "320/888" in text.getvalue() and ("━" in text.getvalue()) == drawn
    assert all(part in text.getvalue() for part in ("/s", "0:00:0", "-:--:--"))


def test_the_next_steps_repeat_the_workspace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_options._given, "workspace", "my study")
    show({"frames": 1}, next_step=("sono stats", "sono train [x]", "sono qc a -w b", "cd x"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "",
        "next: sono stats -w 'my study'",
        "  or: sono train [x] -w 'my study'",
        "  or: sono qc a -w b",
        "  or: cd x",
    ]


def test_quiet_prints_no_result_but_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.stderr_console, "quiet", True)
    show({"frames": 1}, next_step="sono stats")
    assert not capsys.readouterr().out
    show({"frames": 1}, as_json=True)
    assert capsys.readouterr().out == '{\n "frames": 1\n}\n'
