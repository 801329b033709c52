"""Shapes of one group as one mask: how several tools write a structure of several parts."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Size
from sono.curation.core.arrays import Mask


class Shape(NamedTuple):
    """A shape of a file, and the group that it is a part of; None for none."""

    mask: ForeignMask
    group: Hashable | None


def add_grouped(shapes: Iterable[Shape], found: Found) -> None:
    """Add the shapes of one picture to `found`; those of one group and label become one mask."""
    groups: dict[tuple[Hashable, ...], list[ForeignMask]] = {}
    for number, (mask, group) in enumerate(shapes):
        key = (number,) if group is None else ("group", group, mask.label)
        groups.setdefault(key, []).append(mask)
    for masks in groups.values():
        whole = masks[0]
        if len(masks) > 1:
            parts = [mask.read for mask in masks]
            place = f"{whole.place} and {len(masks) - 1} more of its group"
            whole = whole._replace(read=partial(_union, parts), place=place)
        found.masks.append(whole)


def _union(parts: Sequence[Callable[[Size], Mask]], size: Size) -> Mask:
    return np.asarray(np.logical_or.reduce([part(size) for part in parts]), np.bool_)
