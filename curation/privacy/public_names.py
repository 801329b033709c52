"""The names that a study may contain, each in its place: centers, machines, planes, its own."""

from dataclasses import dataclass
from pathlib import Path

from sono.curation.clinical.name_variants import words_of
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.own_texts import is_card
from sono.curation.privacy.source_names import SourceStrings
from sono.curation.privacy.text_extraction import DESCRIPTION

PLANE_COLUMNS = (
    "plane",
    "structure",
    "structures",
    "text",
    "prompt",
    "predicted",
    "predicted_of_all",
)
NOTES = (".txt", ".md")  # but for the card, sono writes no such files: no name is public in them


@dataclass(frozen=True)
class PublicNames:
    """The public names of a study: its centers, machines, own planes and structures, and titles.

    Each is allowed only in its places; `words` are allowed everywhere.
    """

    centers: frozenset[str]
    machines: frozenset[str]
    planes: frozenset[str]
    titles: frozenset[str]
    words: frozenset[str]  # public_words under [study]

    @classmethod
    def of(cls, workspace: Workspace, sources: SourceStrings) -> "PublicNames":
        study, planes, usual = workspace.study(), workspace.planes(), PlaneTable()
        own = {text for plane in planes.planes for text in (plane.id, plane.name, *plane.aliases)}
        known = {text for plane in usual.planes for text in (plane.id, plane.name, *plane.aliases)}
        return cls(
            centers=frozenset(sources.centers),
            machines=frozenset(sources.machines),
            planes=frozenset((own - known) | (set(planes.structures) - set(usual.structures))),
            titles=frozenset((study.name, workspace.root.name)),
            words=words_of(*study.public_words),
        )

    def at(self, place: Path, where: str) -> frozenset[str]:
        """The names that are allowed at `where` in the file at `place`.

        `where` is "the name" for the name of the file itself.
        """
        if where == "the name":
            return self.centers if place.match("runs/*/eval/*") else frozenset()
        if where.startswith("column "):
            column = where.removeprefix("column ").strip("'").removeprefix("other_")
            named = {"center": self.centers, "machine": self.machines} | dict.fromkeys(
                PLANE_COLUMNS, self.planes
            )
            return named.get(column, frozenset())
        everything = self.centers | self.machines | self.planes | self.titles
        note = place.suffix in NOTES and not is_card(place)
        return frozenset() if note or where == DESCRIPTION else everything
