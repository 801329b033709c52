"""The 24 standard planes, and the labels that other datasets use for them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, field_validator

from sono.curation.core.config import Config, read_toml
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.plane_labels import LABELS, Label, label_form

OTHER = "other"  # labeled, and as none of the planes
# how tables, plots and pictures call it, and a frame without a label
NO_PLANE, PLANE_UNKNOWN = "no standard plane", "plane unknown"

# Colors of the regions in plots and overlays (RGB).
REGIONS = {
    "head": (66, 133, 190),
    "face": (236, 151, 66),
    "heart": (205, 72, 80),
    "abdomen": (96, 166, 92),
    "upper limb": (147, 108, 178),
    "lower limb": (140, 98, 80),
    "whole fetus": (118, 129, 144),
}


# What can be outlined without weights: an ellipse, or a long bone.
OUTLINED = ("fetal head", "fetal abdomen", "femur", "fibula", "humerus", "radius", "tibia", "ulna")


@dataclass(frozen=True)
class Plane:
    """A standard plane: id in the tables, `name` in captions, region and visible structures.

    `outline` is the structure that `sono masks propose` outlines in it (one of OUTLINED). `sides`
    is "one" or "both" where it shows one or both of a pair. `weeks` are the first and the last
    completed week in which it is usual, `guideline` describes it; None and "" where not known.
    """

    id: str
    name: str
    region: str
    structures: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    outline: str = ""
    sides: str = ""
    weeks: tuple[int, int] | None = None
    guideline: str = ""


def _read_planes(file: Path) -> tuple["Plane", ...]:
    """The planes of a file like planes.toml, each with its reviewed labels."""
    return tuple(
        Plane(
            plane_id,
            values["name"],
            values["region"],
            tuple(values["structures"]),
            LABELS.of(plane_id),
            values.get("outline", ""),
            values.get("sides", ""),
            (values["weeks"][0], values["weeks"][1]),
            values.get("guideline", ""),
        )
        for plane_id, values in read_toml(file).items()
    )


PLANES = _read_planes(Path(__file__).with_name("planes.toml"))

# Labels of known data sets that name no standard plane.
OTHER_LABELS = ("Other", "Maternal cervix")
MAX_LABEL = 60

_ID = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_FILLERS = re.compile(r"\b(?:fetal|foetal|fetus|standard|planes?|views?|sections?)\b")


class PlaneEntry(Config):
    """A plane in a user's file: a new one, or more structures and aliases for a known one."""

    name: str = ""
    region: str = ""
    structures: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    outline: str = ""  # what `sono masks propose` outlines; it is one of the structures
    sides: Literal["", "one", "both"] = ""
    weeks: tuple[int, int] | None = None

    @field_validator("name", "structures", "aliases")
    @classmethod
    def _one_line_each(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            if text != text.strip() or not text.isprintable() or not 0 < len(text) <= MAX_LABEL:
                raise ValueError(
                    f"{text[:MAX_LABEL]!r} is not one line of 1 to {MAX_LABEL} printable characters"
                )
        return value


@dataclass(frozen=True)
class PlaneTable:
    """The planes in use: the 24, and those that a study adds.

    `other` holds the labels that name no standard plane.
    """

    planes: tuple[Plane, ...] = PLANES
    other: tuple[str, ...] = OTHER_LABELS

    @classmethod
    def load(cls, file: Path | None) -> "PlaneTable":
        """The 24 planes, changed by a TOML file with one table per plane.

        Example: `[femur]\\naliases = ["cuisse"]`. The aliases of `[other]` name no standard plane.
        Raises SonoError if a label would name two planes.
        """
        if file is None:
            return cls()
        content = _read_file(file)
        other = _entry("other", content.pop(OTHER, {}), file).aliases
        merged = {plane.id: plane for plane in PLANES}
        for plane_id, values in content.items():
            merged[plane_id] = _merge(merged.get(plane_id), plane_id, values, file)
        table = cls(tuple(merged.values()), (*OTHER_LABELS, *other))
        _check_labels(table, file)
        return table

    def with_labels(self, labels: Mapping[str, str], file: Path) -> "PlaneTable":
        """The table with further labels, each with the id of its plane or "other".

        Raises SonoError for an unknown id and for a label that would name two planes.
        """
        own: dict[str, list[str]] = {}
        for label, plane_id in labels.items():
            if plane_id not in (*self.by_id, OTHER):
                raise SonoError(
                    f"{file}: [study.planes] '{label}' is given the unknown plane '{plane_id}'"
                    f"{did_you_mean(plane_id, (*self.by_id, OTHER))}"
                )
            own.setdefault(plane_id, []).append(label)
        planes = (
            replace(plane, aliases=(*plane.aliases, *own.get(plane.id, ())))
            for plane in self.planes
        )
        table = PlaneTable(tuple(planes), (*self.other, *own.get(OTHER, ())))
        _check_labels(table, file)
        return table

    @cached_property
    def by_id(self) -> dict[str, Plane]:
        return {plane.id: plane for plane in self.planes}

    def title(self, plane_id: object) -> str:
        """The name of a plane in tables and pictures, also of "other" and of a missing id."""
        if plane_id == OTHER:
            return NO_PLANE
        plane = self.by_id.get(plane_id) if isinstance(plane_id, str) else None
        return PLANE_UNKNOWN if plane is None else plane.name

    @cached_property
    def outlines(self) -> dict[str, str]:
        """The structure to outline by plane id; planes without one are absent."""
        return {plane.id: plane.outline for plane in self.planes if plane.outline}

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """Every structure of every plane, sorted."""
        return tuple(sorted({structure for plane in self.planes for structure in plane.structures}))

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {label_form(spelling): plane_id for spelling, plane_id in self.spellings}

    @cached_property
    def _suggestions(self) -> list[str]:
        """One spelling of every label, ids and names first."""
        by_lower: dict[str, str] = {}
        for label in (
            *self.by_id,
            *(plane.name for plane in self.planes),
            *(label for label, _ in self.spellings),
        ):
            by_lower.setdefault(label.lower(), label)
        return list(by_lower.values())

    @cached_property
    def _bare(self) -> dict[str, str]:
        """The suggestions by what is left of them without words such as "fetal"."""
        return {_without_fillers(label): label for label in reversed(self._suggestions)}

    @property
    def spellings(self) -> list[tuple[str, str]]:
        """Every label that is understood, with its plane id."""
        own = [
            (label, plane.id)
            for plane in self.planes
            for label in (plane.id, plane.name, *plane.aliases)
        ]
        return own + [(label, OTHER) for label in self.other]

    def check(self, plane_ids: Iterable[str | None]) -> None:
        """Raise SonoError for the first id of an images table that is not in the plane table."""
        for plane_id in plane_ids:
            if plane_id not in (None, OTHER) and plane_id not in self.by_id:
                raise SonoError(
                    f"the images table has plane '{plane_id}', which the plane table does not have"
                    f"{did_you_mean(str(plane_id), self.by_id)}; name your planes file in "
                    f"sono.toml ([study] planes_file)"
                )

    def get(self, label: str) -> str | None:
        """The plane id of a label as by `find`, None for an unknown label."""
        for form in _forms(label):
            if form in self._labels:
                return self._labels[form]
            known = LABELS.by_form.get(form)
            if known is not None and known.outside and known.reviewed:
                return OTHER
        return None

    def proposal(self, label: str) -> Label | None:
        """What an unknown label means in a list of labels that nobody has reviewed."""
        if self.get(label) is not None:
            return None
        return next(
            (LABELS.by_form[form] for form in _forms(label) if form in LABELS.by_form), None
        )

    def outside(self, label: str) -> str | None:
        """The name of the known plane outside the 24 that a label means."""
        if self.get(label) != OTHER:
            return None
        found = (LABELS.by_form[form] for form in _forms(label) if form in LABELS.by_form)
        return next((one.outside for one in found if one.outside), None)

    def find(self, label: str) -> str:
        """The plane id of a label, or "other" for a label that names no standard plane.

        Case, accents, signs and words such as "fetal" or "view" are ignored. Raises SonoError for
        an unknown label, also for one that is ambiguous or only in a list that nobody reviewed.
        """
        if (found := self.get(label)) is not None:
            return found
        shown = "".join(letter if letter.isprintable() else " " for letter in label[:MAX_LABEL])
        raise SonoError(f"unknown plane '{shown}'{self._hint(label, shown)}")

    def _hint(self, label: str, shown: str) -> str:
        """What an unknown label may mean."""
        if (meant := self.proposal(label)) is not None:
            return (
                f"; proposed: {meant.plane or OTHER} ({meant.outside or meant.language}, "
                "not reviewed)"
            )
        meanings = next((LABELS.ambiguous[f] for f in _forms(label) if f in LABELS.ambiguous), ())
        if meanings:
            return f"; it may mean: {' or '.join(meanings)}"
        # "fetal" and "view" make no label similar to another
        near = get_close_matches(_without_fillers(shown), self._bare, n=1, cutoff=0.6)
        return did_you_mean(self._bare[near[0]] if near else "", self._suggestions)


def _forms(label: str) -> tuple[str, ...]:
    """The forms by which a label is looked up; none of a text that is too long for one."""
    if len(label) > MAX_LABEL:
        return ()
    return label_form(label), label_form(_without_fillers(label))


def _without_fillers(label: str) -> str:
    return _FILLERS.sub("", label.casefold()).strip()


def _read_file(file: Path) -> dict[str, object]:
    try:
        return read_toml(file)
    except OSError as error:
        raise SonoError(
            f"{file}: not a readable planes file ({error.strerror}); correct planes_file"
        ) from error


def _entry(plane_id: str, values: object, file: Path) -> PlaneEntry:
    try:
        return PlaneEntry.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        fact = (
            str(problem["ctx"]["error"])
            if problem["type"] == "value_error"
            else problem["msg"].lower()
        )
        raise SonoError(f"{file}: [{plane_id}] {place}: {fact}") from error


def _merge(known: Plane | None, plane_id: str, values: object, file: Path) -> Plane:
    if not _ID.fullmatch(plane_id):
        raise SonoError(
            f"{file}: [{plane_id}] is not a plane id; use lowercase letters, digits and _"
        )
    entry = _entry(plane_id, values, file)
    base = known or Plane(plane_id, plane_id.replace("_", " "), "", ())
    region = entry.region or base.region
    if region not in REGIONS:
        raise SonoError(
            f"{file}: [{plane_id}] unknown region '{region}'{did_you_mean(region, REGIONS)}"
        )
    outline = entry.outline or base.outline
    if outline and outline not in OUTLINED:
        raise SonoError(
            f"{file}: [{plane_id}] '{outline}' cannot be outlined{did_you_mean(outline, OUTLINED)}"
        )
    named = (*base.structures, *entry.structures, *([outline] if outline else []))
    return replace(
        base,
        name=entry.name or base.name,
        region=region,
        structures=tuple(dict.fromkeys(named)),
        aliases=(*base.aliases, *entry.aliases),
        outline=outline,
        sides=entry.sides or base.sides,
        weeks=entry.weeks or base.weeks,
    )


def _check_labels(table: PlaneTable, file: Path) -> None:
    """Raise SonoError if two planes share a label, or a label has no letter."""
    owners: dict[str, str] = {}
    for label, plane_id in table.spellings:
        owner = owners.setdefault(label_form(label), plane_id)
        if not label_form(label):
            raise SonoError(f"{file}: [{plane_id}] the label '{label}' has no letter or digit")
        if owner != plane_id:
            raise SonoError(
                f"{file}: the label '{label}' names both [{owner}] and [{plane_id}]; keep one"
            )
