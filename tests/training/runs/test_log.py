"""The output of a run at a terminal and in TensorBoard; test_train.py checks log.csv."""

import io
import socket
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from sono.curation.core import console
from sono.training.runs import log
from sono.training.runs.log import COLUMNS, LiveTable, Log, TensorBoardWriter, live_progress


def told(epoch: int) -> dict[str, str]:
    """The values of an epoch, each different from all others; validated at even ones."""
    values = {name: f"{epoch}.{place}" for place, name in enumerate(COLUMNS)} | {
        "epoch": str(epoch)
    }
    return {
        name: value
        for name, value in values.items()
        if epoch % 2 == 0 or not name.startswith("val_")
    }


def test_the_table_shows_the_last_eight_epochs_with_their_values() -> None:
    watch = LiveTable(10, lambda steps=1, note="": None)
    for epoch in range(1, 11):
        watch.epoch(told(epoch))
    screen = Console(record=True, width=200, file=io.StringIO())
    screen.print(watch)
    header, *rows = screen.export_text().splitlines()
    assert header.split() == " ".join(COLUMNS).replace("_", " ").split()
    assert [row.split() for row in rows] == [list(told(epoch).values()) for epoch in range(3, 11)]
    # what was not validated leaves its place empty
    assert rows[0].index("3.9") == rows[1].index("4.9")


def test_at_a_terminal_table_and_bar_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(force_terminal=True, width=200, file=io.StringIO(), record=True)
    for module in (console, log):
        monkeypatch.setattr(module, "stderr_console", screen)
    with live_progress(total=8, done=2, epochs=4) as watch:
        watch.step("epoch 2 loss 0.125")
        watch.epoch(told(2))
    drawn = screen.export_text()
    assert "3/8" in drawn and "epoch 2 loss 0.125" in drawn
    assert told(2)["val_loss"] in drawn


def values_of(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "loss": 1 / epoch}


def test_tensorboard_reads_the_epochs_of_all_parts_of_a_run_in_order_and_no_machine(
    tmp_path: Path,
) -> None:
    for first, keep in ((1, 0), (3, 2), (11, 10)):  # begun, and resumed twice
        board = TensorBoardWriter(tmp_path / "tensorboard", keep)
        board.write(values_of(first))
        board.write(values_of(first + 1))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4, 11, 12]
    assert [event.value for event in events] == pytest.approx([1 / event.step for event in events])
    files = list((tmp_path / "tensorboard").iterdir())
    assert len(files) == 3
    host = socket.gethostname().encode()
    assert not [
        file
        for file in files
        if host in file.name.encode() or (len(host) > 3 and host in file.read_bytes())
    ]


def steps_of(folder: Path) -> list[int]:
    """The epochs in the files of a folder, as they are on disk."""
    loaded = (
        event
        for file in sorted(folder.iterdir())
        for event in LegacyEventFileLoader(str(file)).Load()
    )
    return [event.step for event in loaded if event.summary.value]


@pytest.mark.parametrize("keeps", [(0, 2), (0, 0), (0, 3, 1), (0, 4, 4)])
def test_epochs_that_a_resumed_run_repeats_are_in_tensorboard_once(
    keeps: tuple[int, ...], tmp_path: Path
) -> None:
    for keep in keeps:
        board = TensorBoardWriter(tmp_path / "tensorboard", keep)
        for epoch in range(keep + 1, keep + 5):
            board.write(values_of(epoch))
    assert steps_of(tmp_path / "tensorboard") == list(range(1, keeps[-1] + 5))
    assert len(list((tmp_path / "tensorboard").iterdir())) == len(keeps)


def test_a_record_that_a_kill_has_cut_is_dropped(tmp_path: Path) -> None:
    board = TensorBoardWriter(tmp_path / "tensorboard", 0)
    for epoch in (1, 2, 3):
        board.write(values_of(epoch))
    (file,) = (tmp_path / "tensorboard").iterdir()
    for cut in (3, 17):
        file.write_bytes(file.read_bytes()[:-cut])
        TensorBoardWriter(tmp_path / "tensorboard", 2).write(values_of(3))
        assert steps_of(tmp_path / "tensorboard") == ([1, 2, 3] if cut == 3 else [1, 3])
        for later in sorted((tmp_path / "tensorboard").iterdir())[1:]:
            later.unlink()


@pytest.mark.parametrize("place", ["iterdir", "mkdir", "open"])
def test_a_run_goes_on_where_tensorboard_cannot_be_written(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = getattr(Path, place)

    def refuse(path: Path, *given: Any, **named: Any) -> Any:
        if "tensorboard" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *given, **named)

    monkeypatch.setattr(Path, place, refuse)
    csv = Log(tmp_path, 0)
    csv.write(values_of(1))
    csv.write(values_of(2))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("Permission denied; the run continues without TensorBoard") == 1
