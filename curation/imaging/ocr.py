"""Text inside the sector: lines found by their strokes, and what Tesseract reads there."""

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.curation.clinical.name_variants import normalize, tokens_of
from sono.curation.clinical.vocabulary import OWN_WORDS, SCANNER_WORDS
from sono.curation.clinical.written_dates import dates_in
from sono.curation.core.errors import SonoError
from sono.curation.imaging.burned_in_text import Line, burned_lines
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.misread import ALIKE

CONFIDENCE = 60  # percent, below which Tesseract reads letters into speckle
SURE = 85  # for words that are suspicious by their look alone
BRIGHT = 170  # gray level of print; echoes as bright are wider than its strokes
STROKE = 9  # pixels, wider than a stroke
SCALE = 2  # Tesseract wants letters of 20 pixels and more
SECONDS = 20  # for one frame
TRIAL = "ULTRASOUND"  # what Tesseract must read before it is trusted

LINE_HEIGHT = 24  # pixels to which a line is enlarged to be read alone
MIN_READ = 0.7  # characters for each square of a line; with fewer a part was not read
MAX_DIGITS = 4  # of a line without its frame counter; an id that is read in pieces has more
_COUNTER = re.compile(r"\b\d{1,3}/\d{1,3}\b")
# What a scanner prints besides words: C7, FF2, 12, 25Hz.
_SETTING = re.compile(r"[a-z]{1,3}\d{1,3}|\d{1,3}(?:hz|mhz|khz|cm|mm|db|sec|fps|w|d)?")
_ID = re.compile(r"(?=[a-z]*\d)(?:[a-z]{0,4}\d{6,}|[a-z]{2,4}\d{4,})")
_NAME = re.compile(r"[A-Z][a-zà-ÿ'-]{3,}|[A-ZÀ-Þ'^-]{5,}")


@dataclass(frozen=True)
class Word:
    """A recognized word, its confidence in percent, and the line that contains it."""

    text: str
    confidence: float
    line: str


def check_tesseract() -> None:
    """Raise SonoError if Tesseract is not installed, or cannot read a plain word."""
    if shutil.which("tesseract") is None:
        raise SonoError(
            "[qc] ocr = true needs the program tesseract, which is not installed; install it "
            "(Debian: apt-get install tesseract-ocr) or set ocr = false in sono.toml"
        )
    page = np.zeros((120, 480), np.uint8)
    cv2.putText(page, TRIAL, (20, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 235, 2, cv2.LINE_AA)
    read = read_words(page) or ()
    if not get_close_matches(TRIAL, [word.text.upper() for word in read], n=1, cutoff=ALIKE):
        raise SonoError(
            "[qc] ocr = true, but the installed tesseract cannot read a plain word; repair it "
            "(are its English data installed?) or set ocr = false in sono.toml"
        )


def judge_print(
    gray: NDArray[np.uint8], inside: NDArray[np.bool_], config: QualityConfig
) -> tuple[list[str], list[str] | None]:
    """Reason codes for text on a frame cropped to its sector [H, W], and the words read there.

    The words are None if nothing was read. A line of text is `text_in_sector` (or a remark, by
    `config.burned_text`), unless Tesseract is used and reads only a scanner's own words in it.
    """
    lines = burned_lines(gray, inside)
    words = read_words(gray) if config.ocr else None
    unclear = bool(lines) and (words is None or not all(_is_harmless(gray, line) for line in lines))
    held = looks_private(words or ()) or (unclear and config.burned_text == "quarantine")
    codes = ["print_unread"] * (config.ocr and words is None) + ["text_in_sector"] * held
    codes += ["overlay"] * (bool(lines) and not held)
    return codes, [word.text for word in words or ()] if config.ocr else None


def _is_harmless(gray: NDArray[np.uint8], line: Line) -> bool:
    """Whether Tesseract reads a line of text completely, and only words that scanners write."""
    room = line.y1 - line.y0
    part = gray[
        max(0, line.y0 - room) : line.y1 + room, max(0, line.x0 - 2 * room) : line.x1 + 2 * room
    ]
    scale = LINE_HEIGHT / room / SCALE
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    words = read_words(np.asarray(cv2.resize(part, size, interpolation=how), np.uint8), single=True)
    text = normalize(" ".join(word.text for word in words or ()))
    known = OWN_WORDS | SCANNER_WORDS
    atoms = tokens_of(text)
    enough = len("".join(atoms)) >= MIN_READ * (line.x1 - line.x0) / (line.y1 - line.y0)
    digits = sum(map(str.isdigit, _COUNTER.sub(" ", text)))
    if not enough or digits > MAX_DIGITS or dates_in(text):
        return False
    return all(atom in known or _SETTING.fullmatch(atom) for atom in atoms)


def read_words(gray: NDArray[np.uint8], single: bool = False) -> list[Word] | None:
    """The words that Tesseract reads in a frame [H, W]; None if it fails.

    Only words of three or more letters and digits with sufficient confidence count; in the picture
    of a `single` line all do.
    """
    _, page = cv2.imencode(".png", _strokes(gray), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    # 11: sparse text, in no order
    command = ["tesseract", "stdin", "stdout", "--psm", "7" if single else "11", "tsv"]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        read = subprocess.run(
            command,
            input=page.tobytes(),
            capture_output=True,
            env=environment,
            timeout=SECONDS,
            check=True,
        )
        return _parse_words(read.stdout.decode(), single)
    except (subprocess.SubprocessError, OSError, KeyError, TypeError, ValueError, csv.Error):
        return None


def _parse_words(page: str, single: bool) -> list[Word]:
    rows = list(csv.DictReader(io.StringIO(page), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows:  # even an empty picture has a row for its page
        raise ValueError("no answer")
    words = [
        Word(row["text"], float(row["conf"]), f"{row['block_num']}.{row['line_num']}")
        for row in rows
        if row["text"]
    ]
    return (
        words
        if single
        else [
            word
            for word in words
            if word.confidence >= CONFIDENCE and sum(map(str.isalnum, word.text)) >= 3
        ]
    )


def _strokes(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thin bright strokes, dark on white and enlarged; tissue disappears."""
    bright = np.where(gray >= BRIGHT, gray, 0).astype(np.uint8)
    thin = cv2.subtract(
        bright, cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((STROKE, STROKE), np.uint8))
    )
    return np.asarray(
        255 - cv2.resize(thin, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC), np.uint8
    )


def looks_private(words: Iterable[Word]) -> bool:
    """Whether the words look like a date, an id, or two names in one line."""
    sure = [word for word in words if word.confidence >= SURE]
    return any(_is_date_or_id(word.text) for word in sure) or any(
        one.line == other.line and _is_name(one.text) and _is_name(other.text)
        for one, other in pairwise(sure)
    )


def _is_date_or_id(text: str) -> bool:
    simple = normalize(text)
    return bool(dates_in(simple)) or any(_ID.fullmatch(atom) for atom in tokens_of(simple))


def _is_name(text: str) -> bool:
    bare = text.strip(",.;:")
    return bool(_NAME.fullmatch(bare)) and normalize(bare) not in SCANNER_WORDS
