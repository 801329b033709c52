"""The hits of a search: for the terminal and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sono.curation.core.errors import counted

NOTES = {"frame": "SEEN IN TRAINING", "related": "patient seen in training"}
SEEN = {
    "frame": "the frame was in the training or validation data of the run",
    "related": "another frame of its patient, or a near duplicate, was",
}


@dataclass(frozen=True)
class Hit:
    """A frame and its cosine with the query, of the complete frame or of a masked structure.

    `seen` is "frame" if the frame was in the training or validation data of the run, "related" if
    another frame of its patient or a near duplicate was, else None.
    """

    rank: int
    score: float
    image_id: str
    plane: str | None
    center: str | None
    structure: str | None
    caption: str | None
    seen: str | None
    file: str
    mask_ids: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """Whether the model has seen it."""
        return "" if self.seen is None else NOTES[self.seen]

    @property
    def facts(self) -> str:
        """Plane, center, and the structure that was found."""
        center = self.center and f"center {self.center}"
        found = self.structure and f"found by its {self.structure}"
        return ", ".join(filter(None, [self.plane, center, found]))

    @property
    def texts(self) -> Iterator[str]:
        """What a sheet shows of it."""
        shown = (self.image_id, self.plane, self.center, self.structure, self.caption)
        return (text for text in shown if text is not None)


@dataclass(frozen=True)
class SearchResult:
    """The hits, how many frames and regions were searched, and how the index changed."""

    query: str
    run: str
    frames: int
    regions: int
    encoded: int
    removed: int
    sheet: str
    hits: tuple[Hit, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __rich__(self) -> Group:
        """The view for the terminal."""
        seen = {hit.seen for hit in self.hits}
        table = Table(box=SIMPLE, pad_edge=False)
        table.add_column("rank", justify="right")
        table.add_column("cosine", justify="right", no_wrap=True)
        table.add_column("image", no_wrap=True)
        table.add_column("plane, center, caption")
        for hit in self.hits:
            facts = ", ".join(filter(None, [hit.facts, hit.note]))
            words = "\n".join(filter(None, [facts, hit.caption]))
            table.add_row(str(hit.rank), f"{hit.score:.3f}", hit.image_id, Text(words))
        regions = f" and {counted(self.regions, 'masked structure')}" if self.regions else ""
        lines = [f"{counted(self.frames, 'frame')}{regions} searched with run {self.run}."]
        lines += [f"{NOTES[name]}: {meaning}." for name, meaning in SEEN.items() if name in seen]
        return Group(table, *map(Text, [*lines, f"sheet: {self.sheet}"]))
