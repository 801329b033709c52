"""Fit one mask to its frame: check its structure, size and pixels, crop it, make its row."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.exchange.foreign_masks import ForeignMask, RefusedError, reading
from sono.annotation.mask_labels import Labels
from sono.annotation.mask_matching import Match
from sono.annotation.mask_quality import oddity, same_shape
from sono.annotation.masks import mask_row
from sono.annotation.proposers import HYPOTHESIS
from sono.curation.core.column_values import MASK_SOURCES, MASK_STATES
from sono.curation.core.errors import SonoError, typed_name
from sono.curation.core.geometry import crop_box, resampled_mask, shown_size
from sono.curation.core.rle import decode
from sono.curation.core.tables import Row, rows_of

MAX_PROMPT = 1000  # characters
# the numbers in a prompt, by its type
PROMPTS = {"box": {"xyxy": 4}, "point": {"xy": 2}, HYPOTHESIS: {"share": 0}}
MASK_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class FitRules:
    """The rules by which masks are fitted to frames.

    `state` is that of new masks, `force` keeps masks that look wrong. The masks of the study are
    given by id (`known`) and by image and structure (`drawn`).
    """

    labels: Labels
    state: str
    force: bool
    known: Mapping[str, Row]
    drawn: Mapping[tuple[object, object], list[Row]]
    dropped: Counter[str] = field(default_factory=Counter)  # attributes that are not as we write

    @classmethod
    def create(cls, labels: Labels, state: str, force: bool, masks: pd.DataFrame) -> "FitRules":
        """The rules for a study that has these `masks`."""
        rows = rows_of(masks)
        drawn: dict[tuple[object, object], list[Row]] = {}
        for row in rows:
            drawn.setdefault((row["image_id"], row["structure"]), []).append(row)
        return cls(labels, state, force, {row["mask_id"]: row for row in rows}, drawn)


def fit_mask(mask: ForeignMask, match: Match, rules: FitRules) -> Row:
    """The masks-table row of one mask on its frame.

    Raises RefusedError if it has no structure, does not fit or looks wrong.
    """
    structure = _structure(mask.label, rules.labels)
    whole = _whole(mask, match)
    if not whole.any():
        raise RefusedError("empty", "it covers no pixel of the picture")
    exported = _exported(mask, match, rules.dropped)
    pixels = whole if match.stored else crop(whole, match.row)
    if not pixels.any():
        raise RefusedError("empty")
    checked = rules.force or (exported and match.exported)
    odd = None if checked else oddity(whole, pixels, mask.nested)
    if odd is not None:
        raise RefusedError(*odd)
    if not exported:
        row = mask_row(match.row, pixels, structure, mask.source, state=rules.state)
        # a tool that drops attributes gives an exported mask back, which is still a proposal
        return _drawn_before(row, rules) if match.exported else row
    kept = {key: value for key, value in exported.items() if key != "mask_id"}
    row = mask_row(match.row, pixels, structure, **kept)
    state = _state(row, exported, rules.known)
    # the reviewer has not seen a shape that was changed since
    unsigned = {"reviewer": None, "reviewed_at": None} if state != exported["state"] else {}
    return row | unsigned | {"state": state}


def crop(mask: NDArray[np.bool_], image: Mapping[str, Any]) -> NDArray[np.bool_]:
    """A mask of the whole frame in the stored pixels of `image`.

    `mask` [H, W] has the size of the frame as shown or as in its file.
    """
    if mask.shape != shown_size(image):
        mask = resampled_mask(mask, shown_size(image))
    x0, y0, x1, y1 = crop_box(image)
    return mask[y0:y1, x0:x1]


def _structure(label: str, labels: Labels) -> str:
    try:
        return labels.find(label)
    except SonoError as error:
        raise RefusedError("unknown_label", str(error)) from error


def _whole(mask: ForeignMask, match: Match) -> NDArray[np.bool_]:
    """The mask in the pixels of its picture: the source's, or the stored ones."""
    stored = (int(match.row["height"]), int(match.row["width"]))
    sizes = [stored] if match.stored else [shown_size(match.row), _file_size(match.row)]
    size = mask.size or sizes[-1]  # coordinates without a size count pixels of the file
    if size not in sizes:
        raise RefusedError(
            "wrong_size", f"{_text(size)} against {_text(sizes[0])} (height x width)"
        )
    try:
        with reading():
            return mask.read(size)
    except SonoError as error:
        raise RefusedError("broken", str(error)) from error


def _file_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in the file, which differ where its pixels were not square."""
    known = not pd.isna(image.get("file_height"))
    return (int(image["file_height"]), int(image["file_width"])) if known else shown_size(image)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _exported(mask: ForeignMask, match: Match, dropped: Counter[str]) -> Row:
    """The checked attributes of a mask that `sono masks export` wrote; {} for any other mask.

    `dropped` counts those that are not as it writes them.
    """
    given = mask.exported
    if (
        not (match.exported or MASK_ID.fullmatch(str(given.get("mask_id"))))
        or given.get("source") not in MASK_SOURCES
        or given.get("state") not in MASK_STATES
    ):
        return {}
    kept = {name: _kept(read, given.get(name)) for name, read in READ.items()}
    dropped.update(name for name, value in kept.items() if value is None and given.get(name))
    return {**{key: given.get(key) for key in ("mask_id", "source", "state")}, **kept}


def _kept(read: Callable[[Any], Any], value: object) -> Any:
    """A value as `read` takes it; None if it does not."""
    try:
        return None if value is None else read(value)
    except (
        SonoError,
        AttributeError,
        TypeError,
        LookupError,
        ValueError,
        OverflowError,
        RecursionError,
    ):
        return None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _hash(value: str) -> str | None:
    return value if re.fullmatch("[0-9a-f]{8,64}", value) else None


def _name(value: str) -> str:
    return typed_name("reviewer", value)


def _time(value: str) -> str:
    if datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("a time without its zone")
    return value


def _prompt(value: str) -> str | None:
    """A prompt as the proposers write it, and no text of anybody."""
    found = json.loads(value) if len(value) <= MAX_PROMPT else None
    if not isinstance(found, dict):
        return None
    form = PROMPTS[found.pop("type")]
    numbers = all(_are_numbers(found[name], count) for name, count in form.items())
    return value if numbers and form.keys() == found.keys() else None


def _are_numbers(value: object, count: int) -> bool:
    """Whether a value is a list of `count` numbers, or one number for a count of 0."""
    numbers = value if count and isinstance(value, list) else [value]
    return len(numbers) == max(count, 1) and all(type(one) in (int, float) for one in numbers)


READ: dict[str, Callable[[Any], Any]] = {
    "score": _number,
    "stability": _number,
    "model_hash": _hash,
    "prompt": _prompt,
    "reviewer": _name,
    "reviewed_at": _time,
}


def _state(row: Row, exported: Row, known: Mapping[str, Row]) -> str:
    """The state of a re-imported mask: its own, or "edited" if its shape has changed.

    Other tools redraw a mask from its outline, so small differences are not an edit.
    """
    before = known.get(str(exported["mask_id"]))
    if (
        before is None
        or row["mask_id"] == before["mask_id"]
        or before["image_id"] != row["image_id"]
    ):
        return str(exported["state"])
    same = same_shape(_pixels(row), _pixels(before)) and row["structure"] == before["structure"]
    return str(exported["state"]) if same else "edited"


def _drawn_before(row: Row, rules: FitRules) -> Row:
    """The mask of the study that `row` redraws from its outline; `row` itself if there is none."""
    others = rules.drawn.get((row["image_id"], row["structure"]), [])
    mask, size = _pixels(row), (row["height"], row["width"])
    same = [
        (other, _pixels(other)) for other in others if (other["height"], other["width"]) == size
    ]
    same = [(other, shape) for other, shape in same if same_shape(mask, shape)]
    return max(same, key=lambda pair: int((pair[1] == mask).sum()), default=(row, mask))[0]


def _pixels(row: Row) -> NDArray[np.bool_]:
    return decode(str(row["counts"]), int(row["height"]), int(row["width"]))
