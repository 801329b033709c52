"""Print inside the sector, read by Tesseract as a second opinion: words that may tell about a person."""

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

from sono.curation.errors import SonoError
from sono.curation.privacy import OWN_WORDS, collect
from sono.curation.spellings import MIN_WORD, atoms_of, dates_in, plain

CONFIDENCE = 60  # percent, below which Tesseract reads letters into speckle
SURE = 85  # for words that are suspicious by their look alone
BRIGHT = 170  # gray level of print; echoes as bright are wider than its strokes
STROKE = 9  # pixels, wider than a stroke
SCALE = 2  # Tesseract wants letters of 20 pixels and more
SECONDS = 20  # for one frame
TRIAL = "ULTRASOUND"  # what Tesseract must read before it is trusted
ALIKE = 0.8  # of two words, one of them misread by a letter or two
# Words that scanners and their users write on frames; they are no names.
SCANNER_WORDS = frozenset(
    ["abdomen", "baby", "bladder", "brain", "breech", "cereb", "cerebellum", "cervix", "cord", "face", "feet", "femur",
     "fetal", "fetus", "foot", "hand", "hands", "head", "heart", "humerus", "kidney", "kidneys", "left", "legs", "lips",
     "long", "lower", "placenta", "profile", "right", "sagittal", "spine", "stomach", "trans", "transverse", "trim",
     "twin", "upper", "view", "harm", "high", "penetration", "gain", "power", "general", "routine", "obstetric"]
)  # fmt: skip

_ID = re.compile(r"(?=[a-z]*\d)(?:[a-z]{0,4}\d{6,}|[a-z]{2,4}\d{4,})")
_NAME = re.compile(r"[A-Z][a-zà-ÿ'-]{3,}|[A-ZÀ-Þ'^-]{5,}")


@dataclass(frozen=True)
class Word:
    """A word as read, its confidence in percent, and the line it stands in."""

    text: str
    confidence: float
    line: str


def check_tesseract() -> None:
    """SonoError where Tesseract is not installed, or does not read what is plainly written."""
    if shutil.which("tesseract") is None:
        raise SonoError(
            "[qc] ocr = true needs the program tesseract, which is not here; install it (Debian: apt-get install "
            "tesseract-ocr) or set ocr = false in sono.toml"
        )
    page = np.zeros((120, 480), np.uint8)
    cv2.putText(page, TRIAL, (20, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 235, 2, cv2.LINE_AA)
    read = read_words(page) or ()
    if not get_close_matches(TRIAL, [word.text.upper() for word in read], n=1, cutoff=ALIKE):
        raise SonoError(
            "[qc] ocr = true, but the tesseract that is installed does not read a plain word; mend it (is its English "
            "data here?) or set ocr = false in sono.toml"
        )


def read_words(gray: NDArray[np.uint8]) -> list[Word] | None:
    """The words of three letters or digits and more that Tesseract sees in a frame [H, W]; None if it fails."""
    _, page = cv2.imencode(".png", _strokes(gray), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    command = ["tesseract", "stdin", "stdout", "--psm", "11", "tsv"]  # 11: sparse text, in no order
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        read = subprocess.run(
            command, input=page.tobytes(), capture_output=True, env=environment, timeout=SECONDS, check=True
        )
        return _words(read.stdout.decode())
    except (subprocess.SubprocessError, OSError, KeyError, TypeError, ValueError, csv.Error):
        return None


def _words(page: str) -> list[Word]:
    rows = list(csv.DictReader(io.StringIO(page), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows:  # even an empty picture has a row for its page
        raise ValueError("no answer")
    words = [
        Word(row["text"], float(row["conf"]), f"{row['block_num']}.{row['line_num']}") for row in rows if row["text"]
    ]
    return [word for word in words if word.confidence >= CONFIDENCE and sum(map(str.isalnum, word.text)) >= 3]


def _strokes(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thin bright strokes, dark on white and enlarged; tissue disappears."""
    bright = np.where(gray >= BRIGHT, gray, 0).astype(np.uint8)
    thin = cv2.subtract(bright, cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((STROKE, STROKE), np.uint8)))
    return np.asarray(255 - cv2.resize(thin, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC), np.uint8)


def looks_private(words: Iterable[Word]) -> bool:
    """Whether what was read looks like a date, an id, or two names in a line."""
    sure = [word for word in words if word.confidence >= SURE]
    return any(_is_date_or_id(word.text) for word in sure) or any(
        one.line == other.line and _is_name(one.text) and _is_name(other.text) for one, other in pairwise(sure)
    )


def says_private(texts: Iterable[str], raw: Iterable[str]) -> bool:
    """Whether print says a private string of its own file or record, also with a letter or two misread."""
    private = collect(raw, OWN_WORDS | SCANNER_WORDS)
    text = " ".join(texts)
    return bool(private.found_in(text)) or any(
        len(atom) > MIN_WORD and bool(get_close_matches(atom, private.words, n=1, cutoff=ALIKE))
        for atom in atoms_of(plain(text))
    )


def _is_date_or_id(text: str) -> bool:
    simple = plain(text)
    return bool(dates_in(simple)) or any(_ID.fullmatch(atom) for atom in atoms_of(simple))


def _is_name(text: str) -> bool:
    bare = text.strip(",.;:")
    return bool(_NAME.fullmatch(bare)) and plain(bare) not in SCANNER_WORDS
