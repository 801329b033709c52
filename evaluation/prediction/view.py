"""The predictions of files: one row each, for the terminal and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Answer:
    """A plane and its probability, or a text and its cosine."""

    text: str
    value: float


@dataclass(frozen=True)
class PhraseMap:
    """A map of a frame for a text, and the share of its positive part that is inside the mask.

    `area` is the share of the mask's area, which a map without regard to the mask has; None without
    a mask.
    """

    kind: str
    masked: bool
    cosine: float
    inside: float | None
    area: float | None

    @property
    def words(self) -> str:
        """What it is of, its cosine, and its share inside the mask next to that of the area."""
        cosine = f"cosine {self.cosine:.3f}"
        if self.area is None:
            return f"{self.kind} map: {cosine}"
        words = f"{self.kind} map, {'with' if self.masked else 'without'} the mask: {cosine}"
        if self.inside is None:
            return words
        share, area = (f"{100 * each:.0f} %" for each in (self.inside, self.area))
        return f"{words}; {share} inside the mask ({area} of the area)"


@dataclass(frozen=True)
class FilePrediction:
    """The answer for one file: the mean over the `used` ones of its `frames`.

    `file` is its number in the order of the arguments, from 1; `path` is kept on request alone.
    """

    file: int
    frames: int
    status: str
    reasons: tuple[str, ...] = ()
    message: str = ""
    used: int = 0
    mask: str = ""
    planes: tuple[Answer, ...] = ()
    texts: tuple[Answer, ...] = ()
    path: str | None = None

    def named(self, path: str) -> "FilePrediction":
        """The row with the path of its file."""
        return replace(self, path=path)

    @property
    def notes(self) -> str:
        """Why there is no answer, or what to know about the frame."""
        parts = [] if self.status == "accepted" else [self.status]
        if not self.planes:
            return f"{', '.join(parts)}: {self.message or ', '.join(self.reasons)}"
        if self.frames > 1:
            parts.append(f"mean of {self.used} of {self.frames} frames")
        return ", ".join([*parts, *filter(None, [self.mask]), *self.reasons])


@dataclass(frozen=True)
class Predictions:
    """One row per file, the run, where the probabilities come from, and maps of a text.

    `written` are the pictures.
    """

    run: str
    source: str
    rows: tuple[FilePrediction, ...]
    maps: tuple[PhraseMap, ...] = ()
    written: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __rich__(self) -> Group:
        """The view for the terminal."""
        table = Table(box=SIMPLE, pad_edge=False)
        asked = next(row.texts for row in self.rows if row.planes)
        table.add_column("file", justify="right")
        table.add_column("plane")
        table.add_column("prob.", justify="right", no_wrap=True)
        for answer in asked:
            table.add_column(Text(f"cosine with '{answer.text}'"), justify="right")
        table.add_column("next planes and notes")
        for row in self.rows:
            table.add_row(*_cells(row, len(asked)))
        maps = [Text(each.words) for each in self.maps]
        pictures = [Text(f"picture: {path}") for path in self.written]
        return Group(table, *map(Text, self._explanations()), *maps, *pictures)

    def _explanations(self) -> Iterator[str]:
        """What the numbers and codes of the table mean."""
        yield f"{self.source}. One of the planes is always named, whatever a file shows."
        if any(row.reasons for row in self.rows):
            yield "Codes are explained in docs/reasons.md."
        if len(self.rows) > 1 and self.rows[0].path is None:
            yield "Files are numbered in the order in which they were read; --names prints paths."


def _cells(row: FilePrediction, asked: int) -> Iterator[Text]:
    yield Text(str(row.file) if row.path is None else row.path)
    yield Text(row.planes[0].text if row.planes else "")
    yield Text(f"{100 * row.planes[0].value:.1f} %" if row.planes else "")
    for answer in row.texts or (None,) * asked:
        yield Text("" if answer is None else f"{answer.value:.3f}")
    others = "\n".join(f"{answer.text} {100 * answer.value:.1f} %" for answer in row.planes[1:])
    yield Text("\n".join(filter(None, [others, row.notes])))
