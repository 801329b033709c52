"""The attributes of captions, and the similarity of two captions (soft labels)."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sono.annotation.caption_facts import DAYS_A_WEEK
from sono.annotation.findings import spoken
from sono.curation.clinical.findings import DIAGNOSIS, FINDINGS
from sono.curation.core.planes import PlaneTable
from sono.training.runtime.distributed import all_gather

GA_SPAN_DAYS = 42.0  # difference of two ages from which their similarity is 0
LEVELS = ("region", "plane", "structure")  # of the anatomy tree, from its root

_SIDES = {"left": ("left",), "right": ("right",), "both": ("left", "right")}


class Attributes(NamedTuple):
    """The attributes that one caption states; others are unknown, not absent."""

    path: tuple[str, ...] = ()  # in the anatomy tree, as far as it is known
    values: frozenset[tuple[str, str]] = frozenset()  # attribute and value
    ga_days: int | None = None


NOTHING = Attributes()


def caption_attributes(
    caption: Mapping[str, Any],
    image: Mapping[str, Any],
    structures: Collection[str],
    planes: PlaneTable,
) -> Attributes:
    """The attributes of `image` and `structures` that `caption` states.

    `caption` and `image` are table rows, `structures` have a mask or are in the record.
    """
    fields, text = set(caption["fields"]), str(caption["text"]).casefold()
    named = [name for name in structures if name.casefold() in text]
    values = {("structures", name) for name in named if fields & {"structures", "structure"}}
    if "laterality" in fields:
        values |= {("laterality", side) for side in _SIDES.get(str(image["laterality"]), ())}
    if "presentation" in fields:
        values.add(("presentation", str(image["presentation"])))
    if fields & {"findings", "study_findings"}:
        named_findings = [
            finding
            for finding in image["findings"]
            if re.search(rf"\b{re.escape(spoken(finding).casefold())}\b", text)
        ]
        values |= {(_attribute_of(finding), finding) for finding in named_findings}
    path = plane_path(image["plane"] if "plane" in fields else None, planes)
    if not path and "region" in fields:
        path = (str(image["region"]),)
    if len(path) == 2 and "structure" in fields and named:
        path = (*path, named[0])
    return Attributes(path, frozenset(values), _age(image["ga_days"], fields))


def _attribute_of(finding: str) -> str:
    """The attribute of a finding; those of a study's own and codes are diagnoses."""
    return FINDINGS[finding].attribute if finding in FINDINGS else DIAGNOSIS


def plane_path(plane_id: str | None, planes: PlaneTable) -> tuple[str, ...]:
    """Region and plane in the anatomy tree; empty for an unknown plane and for "other"."""
    plane = planes.by_id.get(plane_id or "")
    return (plane.region, plane.id) if plane else ()


def _age(ga_days: Any, fields: set[str]) -> int | None:
    """The age that the caption states, in days; None if it states none."""
    if ga_days is None or not fields & {"ga", "weeks"}:
        return None
    return int(ga_days) if fields & {"ga", "days"} else int(ga_days) // DAYS_A_WEEK * DAYS_A_WEEK


@dataclass(frozen=True)
class AttributeRows:
    """Attributes of n captions as tensors.

    `blocks` are the columns of `values` that belong to one attribute.
    """

    path: Tensor  # [n, 3], the number of the node at each level, 0 where unknown
    values: Tensor  # [n, V], 1 for what the caption states
    ga_days: Tensor  # [n], nan where missing
    blocks: tuple[slice, ...]

    def __len__(self) -> int:
        return len(self.path)

    def at(self, rows: slice | Tensor) -> "AttributeRows":
        """A selection of the rows."""
        return AttributeRows(self.path[rows], self.values[rows], self.ga_days[rows], self.blocks)

    def to(self, device: torch.device) -> "AttributeRows":
        """The same on `device`."""
        return AttributeRows(
            self.path.to(device), self.values.to(device), self.ga_days.to(device), self.blocks
        )

    def gathered(self) -> "AttributeRows":
        """The rows of all processes, which must share one table."""
        return AttributeRows(
            all_gather(self.path), all_gather(self.values), all_gather(self.ga_days), self.blocks
        )


class AttributeTable:
    """All distinct sets of attributes of a dataset, as tensors.

    The same captions give the same numbers in every process.
    """

    def __init__(self, captions: Iterable[Attributes]) -> None:
        distinct = sorted(
            set(captions), key=lambda one: (one.path, sorted(one.values), one.ga_days or 0)
        )
        self.known = tuple(distinct)
        self._number = {attributes: number for number, attributes in enumerate(distinct)}
        nodes = sorted(
            {one.path[:depth] for one in distinct for depth in range(1, len(one.path) + 1)}
        )
        self._node = {path: number for number, path in enumerate(nodes, start=1)}
        self.vocabulary = tuple(sorted({value for one in distinct for value in one.values}))
        self.rows = AttributeRows(
            torch.tensor([self._levels(one.path) for one in distinct], dtype=torch.long).reshape(
                -1, len(LEVELS)
            ),
            torch.tensor(
                [[float(value in one.values) for value in self.vocabulary] for one in distinct]
            ).reshape(len(distinct), len(self.vocabulary)),
            torch.tensor(
                [float("nan") if one.ga_days is None else float(one.ga_days) for one in distinct]
            ),
            _blocks([attribute for attribute, _ in self.vocabulary]),
        )

    def _levels(self, path: tuple[str, ...]) -> list[int]:
        return [
            self._node[path[:depth]] if depth <= len(path) else 0
            for depth in range(1, len(LEVELS) + 1)
        ]

    def of(self, captions: Sequence[Attributes]) -> AttributeRows:
        """The rows of `captions`, which must be in the table."""
        return self.rows.at(torch.tensor([self._number[one] for one in captions], dtype=torch.long))


def _blocks(attributes: Sequence[str]) -> tuple[slice, ...]:
    """The slice of each attribute in a sorted list."""
    return tuple(
        slice(attributes.index(name), attributes.index(name) + attributes.count(name))
        for name in dict.fromkeys(attributes)
    )


def soft_labels(rows: AttributeRows, columns: AttributeRows, equal: Tensor) -> Tensor:
    """Similarity [n, m] of captions from 0 to 1; 1 where `equal`.

    The mean over the attributes that both captions state: sets by their overlap (Jaccard), places
    by their common path from the root of the anatomy tree (Wu and Palmer 1994), ages linearly. 0
    for captions that share no attribute.
    """
    parts = [_places(rows.path, columns.path), _ages(rows.ga_days, columns.ga_days)]
    parts += [_overlap(rows.values[:, block], columns.values[:, block]) for block in rows.blocks]
    total = sum(
        (similarity * both for similarity, both in parts), start=torch.zeros_like(parts[0][0])
    )
    known = sum((both for _, both in parts), start=torch.zeros_like(parts[0][1]))
    return torch.where(equal, 1.0, total / known.clamp_min(1.0))


def _places(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the common depth over the sum of depths [n, m], and 1 where both places are known."""
    shared = sum(
        ((one[:, None] == other[None, :]) & (one > 0)[:, None]).float()
        for one, other in zip(rows.T, columns.T, strict=True)
    )
    depths = (rows > 0).sum(1)[:, None] + (columns > 0).sum(1)[None, :]
    both = ((rows[:, :1] > 0) & (columns[None, :, 0] > 0)).float()
    return 2 * shared / depths.clamp_min(1), both


def _ages(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    gap = (rows[:, None] - columns[None, :]).abs()
    return (1 - gap.nan_to_num(GA_SPAN_DAYS) / GA_SPAN_DAYS).clamp_min(0), (~gap.isnan()).float()


def _overlap(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Size of the intersection over that of the union [n, m], and 1 where neither set is empty."""
    common = rows @ columns.T
    union = rows.sum(1)[:, None] + columns.sum(1)[None, :] - common
    both = ((rows.sum(1) > 0)[:, None] & (columns.sum(1) > 0)[None, :]).float()
    return common / union.clamp_min(1), both
