"""Text in a frame, found and read by the PP-OCR models that the package rapidocr contains.

A cheap map shows where edges are as sharp and dense as those of letters and run in all directions,
which those of speckle rarely do; only there the detector runs. The models are read from the
installed files, and nothing is downloaded.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.core.arrays import Gray, Mask
from sono.curation.core.errors import SonoError
from sono.curation.imaging.components import connected_components

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DETECTOR, READER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"

EDGE = 15  # gray levels of curvature; the edges of letters of 30 levels have more
WINDOW = 17  # pixels in which edges are counted
MIN_EDGES = 0.28  # share of edges in a window; the least over any text was 0.32
REST = 0.05 * 255  # of a line; less of its box than this is the frame's, not the line's
GRID = 8  # pixels; the side of the squares in which places of text are joined
# (larger minus smaller) over total energy of the gradients in 2 x 2 squares: 0 if they run in all
# directions, as those of letters do (below 0.3 somewhere in every line), 1 if all run in one
MAX_ONE_WAY = 0.4
NEAR = 8  # squares around such a place that are kept, too: a line, and what is around it
MARGIN = 24  # pixels around such a place
MIN_FILLED = 0.75  # share of a box of such places that is searched as a whole
MAX_PLACE = 640  # pixels of a side that is searched at once; bounds the memory

STROKE = 15  # pixels, wider than a stroke of letters of 40 pixels
GAIN = 2.0  # makes faint strokes brighter
# probabilities of text, above which a pixel belongs to it; the next divides what is too high
PIXELS = (0.3, 0.6, 0.9)
MIN_PIXELS = 12  # of a line
GROWTH = 1.6  # the detector marks the core of a line; the line is larger by this rule of its paper
HEIGHTS = (11, 150)  # pixels of a line with the space around it
AGAIN_HEIGHT = 32  # pixels of a line that is looked at again
AGREED = 0.4  # least mean probability then; lines of letters have more
SIDE = 32  # pixels, of which the sides of the detector's input are multiples

LINE_HEIGHT = 48  # pixels, the input of the reader
MAX_LENGTH = 960  # pixels of a line for the reader
SURE, SURE_LENGTH = 0.9, 4  # confidence and letters of what is not read upside down too


# center (x, y), (width, height) and degrees, as OpenCV's rotated rectangles
Box = tuple[tuple[float, float], tuple[float, float], float]


class Text(NamedTuple):
    """A line of text: where it is, and what was read.

    `likeness` is the detector's mean probability in the frame, `again` in a picture of the line
    alone, and `confidence` the reader's; all 0 to 1. A line that was not read has no words.
    """

    likeness: float
    again: float
    box: Box
    words: str = ""
    confidence: float = 0.0

    @property
    def height(self) -> float:
        """Pixels across the line."""
        return min(self.box[1])

    @property
    def length(self) -> float:
        """Pixels along the line."""
        return max(self.box[1])


@cache
def is_installed() -> bool:
    """Whether the extra `ocr` is installed: the models, and what runs them."""
    return find_spec("onnxruntime") is not None and (_models() / DETECTOR).is_file()


def check_models() -> None:
    """Raise SonoError if a model cannot be loaded."""
    for name in (DETECTOR, READER):
        _session(name)


def find_text(gray: Gray, kept: Mask | None = None, least: float = 0.5) -> list[Text]:
    """The lines of text of a frame [H, W] that the detector finds as likely as `least`, unread.

    Only lines of which more than a rest is in the pixels `kept` [H, W] count; all without it.
    """
    places = _places(gray, kept)
    if not places:
        return []
    strokes, found = _strokes(gray), []
    own = None if kept is None else kept.view(np.uint8) * np.uint8(255)
    for likeness, box in _lines(_text_map(strokes, places), least):
        if own is not None and _upright(own, box).mean() < REST:
            continue
        again = _look_again(strokes, box)
        if again >= AGREED:
            found.append(Text(likeness, again, box))
    return found


def read_text(gray: Gray, text: Text) -> Text:
    """A line of the frame [H, W] with its words, read in the direction with more sure letters."""
    line = _upright(gray, text.box)
    first = _decode(_run(READER, line)[0])
    if first[1] >= SURE and len(first[0]) >= SURE_LENGTH:
        return text._replace(words=first[0], confidence=first[1])
    both = (first, _decode(_run(READER, line[::-1, ::-1])[0]))
    words, confidence = max(both, key=lambda one: one[1] * sum(map(str.isalnum, one[0])))
    return text._replace(words=words, confidence=confidence)


def _models() -> Path:
    """The folder of the models; importing the package would load much more."""
    spec = find_spec("rapidocr")
    return Path((spec.submodule_search_locations or ["."])[0] if spec else ".") / "models"


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `work`, which may change how its thread computes."""
    answer: Future[Any] = Future()
    _queue(os.getpid()).put((answer, work, arguments))
    try:
        return answer.result()
    finally:
        wait([answer])  # after Ctrl-C, too: a thread that computes at exit aborts the process


@cache
def _queue(process: int) -> "SimpleQueue[Any]":
    """The work for a thread of this process; a forked process has no threads.

    The thread is a daemon, so that it does not keep an interrupted process alive.
    """
    queue: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_serve, args=(queue,), name=f"text detector of {process}", daemon=True).start()
    return queue


def _serve(queue: "SimpleQueue[Any]") -> None:
    while True:
        answer, work, arguments = queue.get()
        try:
            answer.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            answer.set_exception(error)


@cache
def _session(name: str) -> "InferenceSession":
    path = _models() / name
    try:
        return _apart(_load, path)
    except Exception as error:  # onnxruntime's own have no common class
        raise SonoError(
            f"{path}: this model of the text detector cannot be loaded, so it or onnxruntime is "
            "damaged; run pip install --force-reinstall rapidocr onnxruntime, or set "
            f'text = "rules" under [qc] in sono.toml ({error})'
        ) from error


def _load(path: Path) -> "InferenceSession":
    import onnxruntime  # only where text is searched

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # a seventh of the detector's weights are denormal numbers, which take four times as long; they
    # become zero in all that the thread of the session computes
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def _alphabet() -> list[str]:
    known = _session(READER).get_modelmeta().custom_metadata_map["character"].split("\n")
    return ["", *known, " "]


def _run(name: str, pixels: Gray) -> NDArray[np.float32]:
    """The output of a model for gray pixels [h, w]."""
    scaled = pixels.astype(np.float32) / 127.5 - 1
    given = {"x": np.repeat(scaled[None, None], 3, axis=1)}
    return np.asarray(_apart(_session(name).run, None, given)[0], np.float32)


def _places(gray: Gray, kept: Mask | None = None) -> list[tuple[slice, slice]]:
    """Where edges are dense enough for text: rows and columns, at most MAX_PLACE of each.

    Only places in or near the pixels `kept` [H, W] count.
    """
    curved = cv2.Laplacian(gray, cv2.CV_16S, ksize=1)
    edges = np.where(np.abs(curved) >= EDGE, np.uint8(255), np.uint8(0))
    dense = cv2.blur(edges, (WINDOW, WINDOW)) >= 255 * MIN_EDGES
    if kept is not None:
        dense &= cv2.dilate(kept.view(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0
    rows, columns = (-(-side // GRID) for side in gray.shape)
    padded = np.zeros((rows * GRID, columns * GRID), np.bool_)
    padded[: gray.shape[0], : gray.shape[1]] = dense
    squares = np.asarray(padded.reshape(rows, GRID, columns, GRID).any(axis=(1, 3)))
    seeds = (squares & (_one_way(gray) <= MAX_ONE_WAY)).view(np.uint8)
    squares &= cv2.dilate(seeds, np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)) > 0
    reach = 2 * MARGIN // GRID + 1
    joined = cv2.dilate(np.asarray(squares, np.uint8), np.ones((reach, reach), np.uint8))
    labels, stats = connected_components(np.asarray(joined > 0))
    return [
        (slice(GRID * y0, GRID * y1), slice(GRID * x0, GRID * x1))
        for number, (x, y, wide, tall, _) in enumerate(stats.tolist())
        if number
        for x0, y0, x1, y1 in _pieces(labels == number, x, y, x + wide, y + tall)
    ]


def _one_way(gray: Gray) -> NDArray[np.float32]:
    """How far the gradients in each square [rows, columns] run in one direction, 0 to 1."""
    tall, wide = gray.shape
    whole = cv2.copyMakeBorder(gray, 0, -tall % GRID, 0, -wide % GRID, cv2.BORDER_REPLICATE)
    across, down = (cv2.Sobel(whole, cv2.CV_32F, one, 1 - one, ksize=1) for one in (1, 0))
    size = (whole.shape[1] // GRID, whole.shape[0] // GRID)
    xx, yy, xy = (
        cv2.blur(cv2.resize(cv2.multiply(*pair), size, interpolation=cv2.INTER_AREA), (2, 2))
        for pair in ((across, across), (down, down), (across, down))
    )
    return np.asarray(cv2.magnitude(xx - yy, 2 * xy) / (xx + yy + 1), np.float32)


def _pieces(mask: Mask, x0: int, y0: int, x1: int, y1: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover the squares of `mask` in a box, and less besides them than that box.

    Halves overlap, so that a line of text is whole in one of them or continues in both.
    """
    rows = np.flatnonzero(mask[y0:y1, x0:x1].any(axis=1))
    columns = np.flatnonzero(mask[y0:y1, x0:x1].any(axis=0))
    if not len(rows):
        return
    x0, x1 = x0 + int(columns[0]), x0 + int(columns[-1]) + 1
    y0, y1 = y0 + int(rows[0]), y0 + int(rows[-1]) + 1
    wide, tall, shared = x1 - x0, y1 - y0, MARGIN // GRID
    area = wide * tall
    middle = ((x0 + x1) // 2, (y0 + y1) // 2)
    if wide > tall:
        halves = ((x0, y0, middle[0] + shared, y1), (middle[0] - shared, y0, x1, y1))
    else:
        halves = ((x0, y0, x1, middle[1] + shared), (x0, middle[1] - shared, x1, y1))
    filled = int(mask[y0:y1, x0:x1].sum())
    large = max(wide, tall) * GRID > MAX_PLACE
    if max(wide, tall) > 6 * shared and (large or filled < MIN_FILLED * area):
        for half in halves:
            yield from _pieces(mask, *half)
    else:
        yield x0, y0, x1, y1


def _strokes(gray: Gray) -> Gray:
    """What is bright and narrow in a frame [H, W], in any direction."""
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (STROKE, STROKE))
    narrow = cv2.subtract(gray, cv2.morphologyEx(gray, cv2.MORPH_OPEN, pen))
    return np.asarray(cv2.convertScaleAbs(narrow, alpha=GAIN), np.uint8)


def _text_map(strokes: Gray, places: list[tuple[slice, slice]]) -> NDArray[np.float32]:
    """The probability of text at each pixel [H, W]; 0 outside of `places`."""
    likely = np.zeros(strokes.shape, np.float32)
    for place in places:
        likely[place] = np.maximum(likely[place], _detect(strokes[place]))
    return likely


def _detect(part: Gray) -> NDArray[np.float32]:
    """The probability of text at each pixel [h, w]."""
    tall, wide = part.shape
    page = np.zeros((-(-tall // SIDE) * SIDE, -(-wide // SIDE) * SIDE), np.uint8)
    page[:tall, :wide] = part
    return _run(DETECTOR, page)[0, 0, :tall, :wide]


def _look_again(strokes: Gray, box: Box) -> float:
    """The mean probability along a line that is upright and of the size that the detector prefers.

    Tissue that resembles letters in the frame rarely does so at another size and angle.
    """
    middle, (across, down), angle = box
    room = 2 * min(across, down)
    page = _upright(strokes, (middle, (across + room, down + room), angle), 3 * AGAIN_HEIGHT)
    core = _detect(page)[round(1.3 * AGAIN_HEIGHT) : round(1.7 * AGAIN_HEIGHT)]
    wide = core.shape[1] - 2 * AGAIN_HEIGHT
    ends = AGAIN_HEIGHT + wide // 10
    return float(core[:, ends : core.shape[1] - ends].max(axis=0).mean())


def _lines(
    likely: NDArray[np.float32], least: float, pixels: float = PIXELS[0]
) -> list[tuple[float, Box]]:
    """The likeness and the box of each line in a map of probabilities [H, W].

    A part that is higher than a line is divided by asking for more probable pixels.
    """
    labels, stats = connected_components(likely > pixels)
    found: list[tuple[float, Box]] = []
    for number, (x, y, wide, tall, area) in enumerate(stats.tolist()):
        if number == 0 or area < MIN_PIXELS:
            continue
        place = np.s_[y : y + tall, x : x + wide]
        own = labels[place] == number
        inner = np.argwhere(own)[:, ::-1].astype(np.float32)
        (column, row), (across, down), angle = cv2.minAreaRect(inner)
        across, down = across + 1, down + 1
        room = GROWTH * across * down / (across + down)
        likeness = float(likely[place][own].mean())
        high = min(across, down) + room
        if high > HEIGHTS[1] and pixels != PIXELS[-1]:
            part = np.where(own, likely[place], np.float32(0))
            found += [
                (one, ((left + x, top + y), size, turn))
                for one, ((left, top), size, turn) in _lines(
                    part, least, PIXELS[PIXELS.index(pixels) + 1]
                )
            ]
        elif likeness >= least and HEIGHTS[0] <= high <= HEIGHTS[1]:
            found.append((likeness, ((x + column, y + row), (across + room, down + room), angle)))
    return found


def _upright(gray: Gray, box: Box, high: int = LINE_HEIGHT) -> Gray:
    """The pixels of a box, its longer side across, `high` pixels high."""
    (x, y), (across, down), angle = box
    if down > across:
        across, down, angle = down, across, angle + 90
    wide = int(np.clip(np.ceil(across * high / down / 8) * 8, 16, MAX_LENGTH))
    turn = np.deg2rad(angle)
    right = np.array([np.cos(turn), np.sin(turn)]) * across
    below = np.array([-np.sin(turn), np.cos(turn)]) * down
    corner = np.array([x, y]) - (right + below) / 2
    matrix = np.column_stack([right / wide, below / high, corner])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(gray, matrix, (wide, high), flags=how, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _decode(answer: NDArray[np.float32]) -> tuple[str, float]:
    """The text of the reader's answer [steps, letters], and the mean probability of its letters."""
    best, sure = answer.argmax(axis=1), answer.max(axis=1)
    kept = (best > 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not kept.any():
        return "", 0.0
    return "".join(_alphabet()[letter] for letter in best[kept]), float(sure[kept].mean())
