"""Check the rows of the masks table against their frames: box, run lengths and size.

All rows are checked at once.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError

_BLOCK = 500  # rows at a time, which stay in the cache
MAX_LETTERS = 7  # of a number


def check_fit(path: Path, masks: pd.DataFrame, images: pd.DataFrame) -> None:
    """Raise SonoError for the first mask whose box, run lengths or size do not fit its frame.

    The error gives file, row and column. Masks of frames that `images` does not have are skipped.
    """
    known = (
        images.dropna(subset=["image_id", "height", "width"])
        .drop_duplicates("image_id")
        .set_index("image_id")
    )
    frames = known.reindex(masks["image_id"])
    for name in ("height", "width"):
        size = frames[name].to_numpy(np.int64, na_value=0)
        wrong = (size > 0) & (size != masks[name].to_numpy(np.int64))
        _refuse(path, masks, name, wrong, [f"its frame has {one}" for one in size[wrong][:1]])
    for place, extent, side in (("box_x", "box_width", "width"), ("box_y", "box_height", "height")):
        end = masks[place].to_numpy(np.int64) + masks[extent].to_numpy(np.int64)
        wrong = end > masks[side].to_numpy(np.int64)
        _refuse(
            path,
            masks,
            extent,
            wrong,
            [f"the box ends at {one}, outside of the frame" for one in end[wrong][:1]],
        )
    pixels = pixels_of(masks["counts"])
    wrong = pixels != masks["height"].to_numpy(np.int64) * masks["width"].to_numpy(np.int64)
    _refuse(path, masks, "counts", wrong, [_pixels_said(int(one)) for one in pixels[wrong][:1]])


def _pixels_said(pixels: int) -> str:
    return f"{pixels} pixels, not height x width" if pixels >= 0 else "not run lengths of COCO"


def _refuse(
    path: Path, masks: pd.DataFrame, name: str, wrong: NDArray[np.bool_], why: list[str]
) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        value = masks[name].iloc[[row]].tolist()[0]
        shown = f"{value[:20]!r}..." if isinstance(value, str) and len(value) > 20 else f"{value!r}"
        raise SonoError(
            f"{path}: row {row + 1}: column '{name}' has {shown}; {why[0]}; make the mask again on "
            f"this study's frame"
        )


def pixels_of(counts: pd.Series) -> NDArray[np.int64]:
    """The sum of the run lengths of each compressed COCO string [N]; -1 if it is not valid."""
    texts = [text.encode("utf-8") for text in counts]
    blocks = [_pixels(texts[start : start + _BLOCK]) for start in range(0, len(texts), _BLOCK)]
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def _pixels(texts: list[bytes]) -> NDArray[np.int64]:
    sums = np.full(len(texts), -1, np.int64)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    filled = np.flatnonzero(sizes)
    if not len(filled):
        return sums
    codes = np.frombuffer(b"".join(texts), np.uint8) - 48  # what is below 0 wraps around
    ends = np.cumsum(sizes)[filled]
    bad = (codes[ends - 1] & 32) > 0  # ends inside a number
    codes[ends - 1] &= 0xDF  # so that it does not run into the next row
    stops = np.flatnonzero((codes & 32) == 0)
    many = np.diff(np.searchsorted(stops, ends), prepend=0)  # numbers of each row
    first = np.cumsum(many) - many
    values, length = _values(codes, stops)
    bad |= np.maximum.reduceat(length, first) > MAX_LETTERS
    bad |= np.maximum.reduceat(codes, ends - sizes[filled]) > 63
    # from the fourth number on each is the difference to the run two before, so that later runs
    # hold it, too
    index = np.arange(len(values)) - np.repeat(first, many)
    times = np.where(index == 0, 1, (np.repeat(many, many) - 1 - index) // 2 + 1)
    sums[filled] = np.where(bad, -1, np.add.reduceat(values * times, first))
    return sums


def _values(
    codes: NDArray[np.uint8], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers that end at `stops`, and their lengths in characters.

    A character holds 5 bits, low bits first; the highest bit of the last one is the sign.
    """
    length = np.diff(stops, prepend=-1)
    starts = stops - length + 1
    values = (codes[starts] & 31).astype(np.int64)
    for place in range(1, MAX_LETTERS):
        long = np.flatnonzero(length > place)
        values[long] |= (codes[starts[long] + place] & 31).astype(np.int64) << 5 * place
    values -= np.where(codes[stops] & 16, np.int64(1) << 5 * np.minimum(length, MAX_LETTERS), 0)
    return values, length
