"""What records and masks state about a frame, and the values that caption templates get of it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from sono.annotation.findings import PLACES, Places, mention_findings, spoken
from sono.curation.core.planes import Plane, PlaneTable
from sono.templates.caption_values import BIOMETRY, Values

DAYS_A_WEEK = 7
# columns of the images table that hold facts
FACT_COLUMNS = ("plane", "region", "ga_days", "laterality", "presentation", *BIOMETRY, "structures",
                "findings")  # fmt: skip
BATCH = 1 << 14  # frames at a time as Python values
# by how many of plane, gestational age and structures are there
TIER_OF_COUNT = ("label", "label", "partial", "full")


class Facts(NamedTuple):
    """What the record and the masks state about a frame, or about one mask (`structure`).

    Equal facts give equal captions.
    """

    plane: str | None = None  # a plane id, "other" or None
    region: str | None = None
    ga_days: int | None = None
    structures: tuple[str, ...] = ()
    structure: str | None = None
    laterality: str | None = None
    presentation: str | None = None
    findings: tuple[str, ...] = ()
    biometry: tuple[tuple[str, float], ...] = ()  # the known sizes of BIOMETRY in mm

    @property
    def level(self) -> str:
        return "region" if self.structure else "global"

    @property
    def listed(self) -> tuple[str, ...]:
        """The structures that the caption is about."""
        return (self.structure,) if self.structure else self.structures


def caption_values(facts: Facts, planes: PlaneTable, places: Places = PLACES) -> Values:
    """The values that a template gets: names and English lists, null where unknown.

    A frame outside the standard planes has at most a region; its plane is null.
    """
    plane = find_plane(facts.plane, planes)
    mentioned = mention_findings(facts.findings, plane, places)
    weeks, days = divmod(facts.ga_days, DAYS_A_WEEK) if facts.ga_days is not None else (None, None)
    structures = english_list(facts.structures)
    known = sum((plane is not None, weeks is not None, bool(facts.structure or structures)))
    return {
        "plane": plane.name if plane else None,
        "region": facts.region or (plane.region if plane else None),
        "weeks": weeks,
        "days": days,
        "ga": ga_in_words(facts.ga_days),
        "structures": structures,
        "structure": facts.structure,
        "laterality": facts.laterality,
        "presentation": facts.presentation,
        "findings": english_list([spoken(finding) for finding in mentioned.plane]),
        "study_findings": english_list([spoken(finding) for finding in mentioned.study]),
        **dict.fromkeys(BIOMETRY),
        **dict(facts.biometry),
        "tier": TIER_OF_COUNT[known],
    }


def listed_structures(
    plane_id: str | None, recorded: Collection[str], masked: Collection[str], planes: PlaneTable
) -> tuple[str, ...]:
    """The masked structures, else the recorded ones, in the order of the plane table."""
    plane = find_plane(plane_id, planes)
    order = {structure: rank for rank, structure in enumerate(plane.structures)} if plane else {}
    found = set(masked) or set(recorded)
    return tuple(sorted(found, key=lambda structure: (order.get(structure, len(order)), structure)))


def find_plane(plane_id: str | None, planes: PlaneTable) -> Plane | None:
    """The plane of an id; None for an unknown plane and for "other".

    SonoError for an id that is not in the table.
    """
    planes.check([plane_id])
    return planes.by_id.get(plane_id or "")


def ga_in_words(ga_days: int | None) -> str | None:
    """`22 weeks and 3 days` of a gestational age in days."""
    if ga_days is None:
        return None
    weeks, days = divmod(ga_days, DAYS_A_WEEK)
    text = f"{weeks} week{'s' * (weeks != 1)}"
    return f"{text} and {days} day{'s' * (days != 1)}" if days else text


def english_list(words: Sequence[str]) -> str | None:
    """`a, b and c`; None for no words."""
    if not words:
        return None
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def facts_of(images: pd.DataFrame) -> Iterator[tuple[str, Facts]]:
    """The image id and the recorded facts of each row of an images table."""
    for start in range(0, len(images), BATCH):
        table = images.iloc[start : start + BATCH]
        cells = [_cells(table[name]) for name in ("image_id", *FACT_COLUMNS)]
        for image_id, plane, region, ga, laterality, presentation, *rest in zip(
            *cells, strict=True
        ):
            *sizes, structures, findings = rest
            yield (
                str(image_id),
                Facts(
                    plane,
                    region,
                    ga,
                    _words(structures),
                    None,
                    laterality,
                    presentation,
                    _words(findings),
                    tuple(
                        size for size in zip(BIOMETRY, sizes, strict=True) if size[1] is not None
                    ),
                ),
            )


def _cells(column: pd.Series) -> list[Any]:
    """The values of a column, None where one is missing."""
    if column.dtype == object:  # lists, which Arrow would convert one by one
        return column.where(column.notna(), None).tolist()
    values: list[Any] = pa.array(column, from_pandas=True).to_pylist()
    return values


def _words(cell: Iterable[str] | None) -> tuple[str, ...]:
    # an array gives its texts faster all at once than one by one
    return () if cell is None else tuple(cell.tolist() if isinstance(cell, np.ndarray) else cell)
