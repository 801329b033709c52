"""What `sono planes` prints: planes, labels, findings and measures with their codes."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sono.annotation.biometry import CONVENTIONS, LOINC
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.plane_labels import LABELS, Label
from sono.curation.core.planes import PlaneTable

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Ontology:
    """Planes, known planes outside the 24, findings and measures.

    A code is null where it is not certain.
    """

    planes: list[dict[str, Any]]
    outside: list[dict[str, Any]]
    ambiguous: dict[str, tuple[str, ...]]
    findings: list[dict[str, Any]]
    measures: list[dict[str, str]]

    @classmethod
    def of(cls, planes: PlaneTable) -> "Ontology":
        """The ontology with the planes of a table."""
        labels = LABELS.by_form.values()
        outside = dict.fromkeys(one.outside for one in labels if one.outside)
        return cls(
            [
                asdict(plane)
                | {"guideline": plane.guideline or None}
                | {"labels": [_label(one) for one in labels if one.plane == plane.id]}
                for plane in planes.planes
            ],
            [
                {"name": name, "labels": [_label(one) for one in labels if one.outside == name]}
                for name in outside
            ],
            dict(LABELS.ambiguous),
            [one._asdict() | {"hpo": one.hpo or None} for one in FINDINGS.values()],
            [
                {"measure": name, "loinc": LOINC[name], "convention": convention}
                for name, convention in CONVENTIONS.items()
            ],
        )

    def __rich__(self) -> "Group":
        """The planes for a terminal, and the names of those outside the 24."""
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        titles = ("region", "weeks", "structures", "guideline")
        table = Table(Column("plane", no_wrap=True), *titles, box=None, pad_edge=False)
        for plane in self.planes:
            weeks = "-".join(map(str, plane["weeks"] or ()))
            structures = ", ".join(plane["structures"])
            row = (plane["id"], plane["region"], weeks, structures, plane["guideline"] or "")
            table.add_row(*map(Text, row))
        outside = "; ".join(sorted(one["name"] for one in self.outside if one["name"] != "unknown"))
        return Group(table, Text(f"known planes outside the 24, which no caption names: {outside}"))


def _label(label: Label) -> dict[str, Any]:
    names = ("text", "language", "source", "reviewed")
    return {name: getattr(label, name) for name in names}
