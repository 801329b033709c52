"""What a row of the masks table says of its own frame: box, run lengths and size, for all rows at once."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.errors import SonoError

_NO_LETTER = -1  # pixels of a text that is no run-length string


def check_fit(path: Path, masks: pd.DataFrame, images: pd.DataFrame) -> None:
    """SonoError for the first mask whose box, run lengths or size do not fit its frame, with file, row and column.

    A mask whose frame `images` does not have is not looked at.
    """
    known = images.dropna(subset=["image_id", "height", "width"]).drop_duplicates("image_id").set_index("image_id")
    frames = known.reindex(masks["image_id"])
    for name in ("height", "width"):
        size = frames[name].to_numpy(np.int64, na_value=0)
        wrong = (size > 0) & (size != masks[name].to_numpy(np.int64))
        _refuse(path, masks, name, wrong, [f"its frame has {one}" for one in size[wrong][:1]])
    for place, extent, side in (("box_x", "box_width", "width"), ("box_y", "box_height", "height")):
        end = masks[place].to_numpy(np.int64) + masks[extent].to_numpy(np.int64)
        wrong = end > masks[side].to_numpy(np.int64)
        _refuse(path, masks, extent, wrong, [f"the box ends at {one}, outside of the frame" for one in end[wrong][:1]])
    pixels = pixels_of(masks["counts"])
    wrong = pixels != masks["height"].to_numpy(np.int64) * masks["width"].to_numpy(np.int64)
    _refuse(path, masks, "counts", wrong, [_pixels_said(int(one)) for one in pixels[wrong][:1]])


def _pixels_said(pixels: int) -> str:
    return f"{pixels} pixels, not height x width" if pixels >= 0 else "not run lengths of COCO"


def _refuse(path: Path, masks: pd.DataFrame, name: str, wrong: NDArray[np.bool_], why: list[str]) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        value = masks[name].iloc[row]
        shown = f"{value[:20]!r}..." if isinstance(value, str) and len(value) > 20 else f"{value!r}"
        raise SonoError(
            f"{path}: row {row + 1}: column '{name}' has {shown}; {why[0]}; make the mask again on this study's frame"
        )


def pixels_of(counts: pd.Series) -> NDArray[np.int64]:
    """The sum of the run lengths of each compressed COCO string [N]; -1 where it is none."""
    texts = [text.encode("utf-8") for text in counts]
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    rows = np.repeat(np.arange(len(texts)), sizes)
    bad = np.zeros(len(texts), np.bool_)
    bad[rows[(codes < 0) | (codes > 63)]] = True
    ends = (codes & 32) == 0  # the last letter of each number
    last = np.cumsum(sizes)[sizes > 0] - 1
    bad[np.flatnonzero(sizes > 0)[~ends[last]]] = True
    bad |= sizes == 0
    ends[last] = True  # so that a cut string does not run into the next
    stops = np.flatnonzero(ends)
    starts = np.concatenate(([0], stops[:-1] + 1)) if len(stops) else stops
    length = stops - starts + 1
    bad[rows[stops[length > 7]]] = True
    places = np.arange(len(codes)) - np.repeat(starts, length)
    parts = (codes & 31) << np.minimum(5 * places, 35)
    values = np.add.reduceat(parts, starts) if len(starts) else parts
    values -= np.where(codes[stops] & 16, np.int64(1) << np.minimum(5 * length, 40), 0)
    return np.where(bad, _NO_LETTER, _sums(values, rows[stops], len(texts)))


def _sums(values: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Sums of runs by row: from the fourth number on, each is the difference to the run two before."""
    many = np.bincount(rows, minlength=count)
    first = np.cumsum(many) - many
    index = np.arange(len(values)) - first[rows]
    times = np.where(index == 0, 1, (many[rows] - 1 - index) // 2 + 1)  # how many runs hold this difference
    sums = np.zeros(count, np.int64)
    np.add.at(sums, rows, values * times)
    return sums
