"""Frames that lack a mask: what a review asks a person to draw."""

import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from sono.annotation.mask_labels import structure_name
from sono.annotation.review.decisions import DecisionLog
from sono.annotation.review.frames import Frames
from sono.annotation.review.queue import Item, Wanted
from sono.annotation.review.verdicts import Histories
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.planes import PlaneTable
from sono.curation.core.rle import encode
from sono.curation.core.tables import MASKS


def new_item(frames: Frames, image_id: str, structure: str, added: bool = False) -> Item:
    """The question for a mask that is to be drawn; `added` by the reviewer to the queue."""
    key = secrets.token_hex(8)
    make = partial(_empty_row, frames, key, image_id, structure)
    return Item(key, image_id, structure, None, make, "new", added=added)


def _empty_row(frames: Frames, key: str, image_id: str, structure: str) -> dict[str, Any]:
    height, width = frames.size(image_id)
    none = dict.fromkeys(MASKS.columns)
    zero = dict.fromkeys(("box_x", "box_y", "box_width", "box_height", "area"), 0)
    row = {"mask_id": key, "image_id": image_id, "structure": structure, "source": "manual"}
    size = {"height": height, "width": width, "counts": encode(np.zeros((height, width), np.bool_))}
    return {**none, **zero, **row, **size, "state": "proposed"}


def drawable(frames: Frames, planes: PlaneTable, image_id: str) -> dict[str, list[str]]:
    """The structures that a frame's plane has, all that there are, and those that have masks."""
    plane = planes.by_id.get(frames.plane(image_id) or "")
    return {
        "plane": list(plane.structures) if plane else [],
        "all": list(planes.structures),
        "masked": sorted(frames.masked(image_id)),
    }


def missing_items(
    frames: Frames, planes: PlaneTable, log: DecisionLog, wanted: Wanted
) -> list[Item]:
    """The structures of each accepted frame that have no mask, plane by plane.

    Expected on a frame is `wanted.structure`, if its plane has it or is unknown; without it, what
    masks show on other frames of the plane, and after these the first structure of planes without
    masks. What a reviewer said to be absent does not come again. Raises SonoError if nothing is
    missing.
    """
    name = wanted.structure and structure_name(wanted.structure, planes, "--structure")
    absent = {
        (str(one.current["image_id"]), str(one.current["structure"]))
        for one in Histories.read(log.decisions).by_origin.values()
        if one.current["state"] == "rejected" and not one.current["area"]
    }
    drawn: dict[str | None, set[str]] = {}
    for image_id in frames.places:
        drawn.setdefault(frames.plane(image_id), set()).update(frames.masked(image_id))
    lacking = [pair for pair in _lacking(frames, planes, name, drawn) if pair not in absent]
    if not name and (count := sum(not frames.plane(one) for one in _bare(frames))):
        warn(
            f"{counted(count, 'frame')} of unknown plane without a mask left out, since it is not "
            "known what to draw there; --structure NAME shows them"
        )
    if not lacking:
        what = f"without a mask of {name}" if name else "without a mask of its plane's structures"
        raise SonoError(f"{frames.workspace.root}: no accepted frame is {what}")
    order = {plane.id: number for number, plane in enumerate(planes.planes)}

    def place(pair: tuple[str, str]) -> tuple[bool, int, str]:
        plane = frames.plane(pair[0])
        return not (name or drawn[plane]), order.get(plane or "", -1), pair[0]

    lacking.sort(key=place)
    return [new_item(frames, *pair) for pair in lacking]


def _bare(frames: Frames) -> Iterator[str]:
    return (image_id for image_id in frames.places if not frames.masked(image_id))


def _lacking(
    frames: Frames, planes: PlaneTable, name: str | None, drawn: Mapping[str | None, set[str]]
) -> Iterator[tuple[str, str]]:
    """Frames and the structures that they lack; `drawn` is what the masks of a plane show."""
    for image_id in frames.places:
        plane_id, known = frames.plane(image_id), frames.masked(image_id)
        plane = planes.by_id.get(plane_id or "")
        shown = plane.structures if plane else ()
        if name is not None:
            expected = [name] if name in shown or plane_id is None else []
        else:
            expected = [one for one in shown if one in drawn[plane_id]] or list(shown[:1])
        yield from ((image_id, one) for one in expected if one not in known)
