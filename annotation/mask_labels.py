"""Labels of other tools as structures of the plane table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.plane_labels import label_form
from sono.curation.core.planes import PlaneTable


def plain_label(label: str) -> str:
    """The form in which labels are compared: `Fetal_Head` becomes `fetal head`.

    A label without letters or digits stays as it is.
    """
    return label_form(label) or label


def find_structure(label: str, planes: PlaneTable) -> str | None:
    """The structure of the plane table that `label` names, or None."""
    return {plain_label(name): name for name in planes.structures}.get(plain_label(label))


def structure_name(label: str, planes: PlaneTable, option: str = "") -> str:
    """The structure of the plane table that `label` names.

    SonoError with the nearest names and the `option`.
    """
    structure = find_structure(label, planes)
    if structure is None:
        where = (
            f"; {option} takes a structure of curation/core/planes.py or the study's planes_file"
            if option
            else ""
        )
        place = f"{option}: " if option else ""
        raise SonoError(
            f"{place}unknown structure '{label}'{suggestion(label, planes.structures)}{where}"
        )
    return structure


def suggestion(label: str, known: Iterable[str]) -> str:
    """A suggestion such as `; did you mean 'fetal head'?`.

    It has the names that contain the words of `label`, or else the nearest one.
    """
    likely = containing(label, known)
    if likely:
        return f"; did you mean {' or '.join(repr(name) for name in likely[:3])}?"
    return did_you_mean(label, known)


def containing(label: str, known: Iterable[str]) -> list[str]:
    """The names, sorted, that contain every word of `label`."""
    words = set(label.casefold().replace("_", " ").replace("-", " ").split())
    return sorted(name for name in known if words and words <= set(name.casefold().split()))


@dataclass(frozen=True)
class Labels:
    """How labels become structures: all `structure`, or by `mapping` (label -> structure).

    `skipped` labels are left out.
    """

    planes: PlaneTable
    structure: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)  # of what was given

    @classmethod
    def create(
        cls,
        planes: PlaneTable,
        structure: str | None,
        mapping: Mapping[str, str],
        skipped: Sequence[str],
    ) -> "Labels":
        """Raise SonoError for an unknown structure or a label that is both named and skipped."""
        named = structure_name(structure, planes, "--structure") if structure else None
        known = {
            plain_label(label): structure_name(name, planes, "--label")
            for label, name in mapping.items()
        }
        left_out = {plain_label(label): label for label in skipped}
        if both := known.keys() & left_out.keys():
            raise SonoError(f"--label and --skip-label both name '{left_out[min(both)]}'; keep one")
        return cls(planes, named, known, left_out)

    def skips(self, label: str) -> bool:
        """Whether masks of this label are left out."""
        skipped = plain_label(label) in self.skipped
        self.uses[plain_label(label)] += 1
        return skipped

    def find(self, label: str) -> str:
        """The structure of a label; SonoError with what to do."""
        plain = plain_label(label)
        if self.structure is not None:
            return self.structure
        if plain in self.mapping:
            return self.mapping[plain]
        try:
            return structure_name(label, self.planes)
        except SonoError as error:
            likely = containing(label, self.planes.structures)
            likely = likely or get_close_matches(label.casefold(), self.planes.structures, 1, 0.75)
            name = likely[0] if len(likely) == 1 else "STRUCTURE"
            raise SonoError(
                f'{error} Name it with --label "{label}={name}", or leave it out with --skip-label '
                f'"{label}"'
            ) from error

    def unused(self) -> list[str]:
        """Labels that were given and that no mask has, as they compare."""
        return sorted(label for label in {*self.mapping, *self.skipped} if not self.uses[label])
