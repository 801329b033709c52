"""Training progress: log.csv, TensorBoard, and a live table of the last epochs."""

import csv
import io
import math
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from sono.curation.core.atomic import MAX_JSON_BYTES, atomic_path, read_regular, write_text
from sono.curation.core.console import Advance, new_bar, progress_lines, stderr_console
from sono.curation.core.errors import SonoError
from sono.training.runtime.distributed import get_rank

COLUMNS = (
    "epoch",
    "step",
    "loss",
    "learning_rate",
    "logit_scale",
    "logit_bias",
    "val_loss",
    "val_top1_macro",
    "val_naming_macro",
    "seconds",
    "left_out",  # steps that were skipped because float16 overflowed
)
RECORD_FRAME = 16  # bytes around a record of a TensorBoard file
SHOWN = 8  # epochs of the table
# in the line of an epoch on stderr
PRINTED = ("loss", "val_loss", "val_top1_macro", "val_naming_macro", "seconds")


class Log:
    """One line per epoch in log.csv, and the same values for TensorBoard.

    Only the first process writes.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Continue after the first `keep` epochs."""
        self._path, self._started = folder / "log.csv", time.perf_counter()
        lines = _read_lines(self._path) if keep and self._path.exists() else []
        self._lines = [",".join(COLUMNS), *(line for line in lines[1:] if _epoch(line) <= keep)]
        self._board = TensorBoardWriter(folder / "tensorboard", keep) if get_rank() == 0 else None

    def write(self, values: dict[str, Any]) -> dict[str, str]:
        """Write the values of an epoch; returns them as text."""
        values = values | {"seconds": time.perf_counter() - self._started}
        texts = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in values.items()
        }
        if self._board is None:
            return texts
        line = io.StringIO()
        csv.DictWriter(line, COLUMNS, lineterminator="").writerow(texts)
        self._lines.append(line.getvalue())
        write_text(self._path, "\n".join(self._lines) + "\n")
        self._board.write(values)
        return texts


class TensorBoardWriter:
    """Values of epochs in a TensorBoard file; if it cannot be written, the run continues without.

    TensorBoard's own writer is a separate thread, whose errors cannot be caught, and names its
    files by the machine.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Start a file of the epochs after the first `keep`; drop these from earlier files.

        A killed run has written epochs that it repeats when it is resumed.
        """
        self._path: Path | None = None
        with self._or_without(folder):
            folder.mkdir(exist_ok=True)
            for file in sorted(folder.iterdir()):
                _drop_later(file, keep)
            # TensorBoard reads the files of a folder in the order of their names
            self._path = folder / f"events.out.tfevents.{keep:06}.{len(list(folder.iterdir())):03}"
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, values: dict[str, Any]) -> None:
        """Add the values of an epoch."""
        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self._put(Event(wall_time=time.time(), step=values["epoch"], summary=summary))

    def _put(self, event: Event) -> None:
        if self._path is None:
            return
        with self._or_without(self._path), self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())

    @contextmanager
    def _or_without(self, place: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            stderr_console.print(
                f"{place}: {reason}; the run continues without TensorBoard, log.csv has all values",
                markup=False,
            )
            self._path = None


def _drop_later(path: Path, keep: int) -> None:
    """Rewrite a file of events without those after epoch `keep` and without truncated records."""
    content = path.read_bytes()
    records = list(_records(content))
    kept = [record for record in records if Event.FromString(record).step <= keep]
    if len(kept) == len(records) and sum(RECORD_FRAME + len(record) for record in records) == len(
        content
    ):
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for record in kept:
            writer.write(record)


def _records(content: bytes) -> Iterator[bytes]:
    """The complete records of a file of events: length, its checksum, content, its checksum."""
    start = 0
    while start + RECORD_FRAME <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        record = content[start + 12 : start + 12 + length]
        start += RECORD_FRAME + length
        if start > len(content):
            return
        yield record


class LiveTable:
    """The table of the last epochs above the bar, or one line per epoch if it is not `drawn`."""

    def __init__(self, epochs: int, advance: Advance | None = None, drawn: bool = False) -> None:
        self._total, self._advance, self._drawn = epochs, advance, drawn
        self._epochs: deque[dict[str, str]] = deque(maxlen=SHOWN)

    def step(self, note: str) -> None:
        """One step is done."""
        if self._advance:
            self._advance(1, note)

    def epoch(self, values: dict[str, str]) -> None:
        """One epoch is done."""
        self._epochs.append(values)
        if not self._drawn:
            shown = ", ".join(f"{name} {values[name]}" for name in PRINTED if values.get(name))
            stderr_console.print(f"epoch {values['epoch']} of {self._total}: {shown}")

    def __rich__(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in COLUMNS:
            table.add_column(name.replace("_", " "), justify="right")
        for values in self._epochs:
            table.add_row(*(values.get(name, "") for name in COLUMNS))
        return table


@contextmanager
def live_progress(total: int, done: int, epochs: int) -> Iterator[LiveTable]:
    """Show a live table and a bar of `total` steps on stderr.

    In a pipe, lines are printed instead; with `--quiet`, nothing is.
    """
    if stderr_console.quiet:
        yield LiveTable(epochs)
        return
    if not stderr_console.is_terminal:
        with progress_lines("train", total, done) as step:
            yield LiveTable(epochs, step)
        return
    bar = new_bar()
    task = bar.add_task("train", total=total, completed=done, note="")

    def advance(steps: int = 1, note: str = "") -> None:
        bar.update(task, advance=steps, note=note)

    watch = LiveTable(epochs, advance, drawn=True)
    with Live(Group(watch, bar), console=stderr_console, transient=False):
        yield watch


def _read_lines(path: Path) -> list[str]:
    try:
        return read_regular(path, MAX_JSON_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise SonoError(
            f"{path}: damaged ({error}); delete it, and the run continues without its earlier lines"
        ) from error


def _epoch(line: str) -> float:
    first = line.split(",", maxsplit=1)[0]
    return int(first) if first.isdecimal() else math.inf
