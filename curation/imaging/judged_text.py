"""What text on the tissue makes of a frame: painted at the border, a remark, or held."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal

import cv2
import numpy as np

from sono.curation.clinical.name_variants import normalize, tokens_of
from sono.curation.clinical.vocabulary import PRINTED_WORDS
from sono.curation.clinical.written_dates import dates_in
from sono.curation.core.arrays import Gray
from sono.curation.core.errors import SonoError
from sono.curation.imaging.border_text import border_lines
from sono.curation.imaging.burned_in_text import Line, at_border, burned_lines
from sono.curation.imaging.quality import QualityConfig
from sono.curation.imaging.sector import Sector, crop_to_sector
from sono.curation.imaging.text_detector import (
    Text,
    check_models,
    find_text,
    is_installed,
    read_text,
)

LIKELY = 0.5  # least likeness of text that is read
# least sum of `likeness` and `again`, also of text in a script that the reader does not know
PRINT = 1.55
LONG = 1.7  # length over height of such text; a single letter or a side mark is shorter
TALL, TALL_LONG = 80, 2.3  # pixels across a line above which an echo may be as short as a letter
# pixels across a line above which it needs this sum; tissue at the edge of a fan reached 1.56
HIGH, HIGH_PRINT = 60, 1.65
READ = 0.8  # confidence in letters that make a short or faint mark text

FILLED = 0.5  # letters for each square of a line; with fewer a part was not read
MAX_DIGITS = 4  # of a line without its frame counter; an id that is read in pieces has more
SIMILAR = 0.85  # of a word of six letters or more to the word it is a misreading of
_COUNTER = re.compile(r"\b\d{1,3}/\d{1,3}\b")
_GLUED = re.compile(r"(?<=[a-z]{4})(?=\d)")  # HEAD124/129
_FETUS = re.compile(r"\b(fetus|foetus|feto|twin|baby) ?[a-d]\b")  # of several
# What a scanner prints besides words: C7, FF2, 12, 25Hz, 21w3d, Gn -3.
_SETTING = re.compile(
    r"[a-z]{1,3}(?:0|[1-9]\d{0,2})|\d{1,3}(?:hz|mhz|khz|cm|mm|db|sec|fps|w|d)?|\d{1,2}w\dd?"
)
_ID = re.compile(r"(?=[a-z]*\d)(?:[a-z]{0,4}\d{6,}|[a-z]{2,4}\d{4,})")


def text_search(config: QualityConfig) -> Literal["detector", "rules", "off"]:
    """How text is searched: as set, or by rules where the detector is the default and is missing.

    Raises SonoError if the settings name the detector and it is not installed, or if it is damaged.
    """
    if config.text != "detector":
        return config.text
    if is_installed():
        check_models()
        return "detector"
    if "text" in config.model_fields_set:
        raise SonoError(
            '[qc] text = "detector" needs the text detector, which is not installed; '
            "install it (pip install 'sono[ocr]') or set text = \"rules\" in sono.toml"
        )
    return "rules"


def judge_text(
    ink: Gray, sector: Sector, config: QualityConfig
) -> tuple[Sector, list[str], list[str] | None]:
    """Look for text in the sector of a frame [H, W].

    Returns the sector without what is painted over, the reason codes, and the words that were
    read; None where nothing reads.
    """
    how = text_search(config)
    if how == "off":
        return sector, ["text_unsearched"], None
    if how == "rules":
        painted, codes = _judge_by_rules(ink, sector)
        return painted, _held_or_remark(codes, config), None
    x0, y0, x1, y1 = sector.box
    kept = np.ascontiguousarray(sector.inside[y0:y1, x0:x1])
    # with its surroundings, so that a line is whole of which a part is painted over already
    part = np.ascontiguousarray(_without_insets(ink, sector)[y0:y1, x0:x1])
    edge: list[Text] = []
    inner: list[Text] = []
    for found in find_text(part, kept, LIKELY):
        outer = at_border(_bounds(found, x0, y0), *ink.shape)
        # what is painted over anyway need not be read
        text = found if outer and is_text(found) else read_text(part, found)
        if is_text(text):
            (edge if outer else inner).append(text)
    unclear = [text.words for text in inner if not is_harmless(text)]
    codes = ["text_in_sector"] if unclear else []
    if not any(looks_like_id(words) for words in unclear):
        codes = _held_or_remark(codes, config)
    codes += ["overlay"] if inner and not codes else []
    return _painted(sector, edge), codes, [text.words for text in inner if text.words]


def _without_insets(ink: Gray, sector: Sector) -> Gray:
    """A copy of the frame [H, W] that is black in its insets, whose text is painted over."""
    rest = ink.copy()
    for x0, y0, x1, y1 in sector.insets:
        rest[y0:y1, x0:x1] = 0
    return rest


def _judge_by_rules(ink: Gray, sector: Sector) -> tuple[Sector, list[str]]:
    """The sector without lines of text at its border, and the code of what is left on tissue."""
    x0, y0, x1, y1 = sector.box
    painted = replace(sector, inside=sector.inside & ~border_lines(ink))
    kept = np.ascontiguousarray(painted.inside[y0:y1, x0:x1])
    return painted, ["text_in_sector"] if burned_lines(crop_to_sector(ink, painted), kept) else []


def is_text(text: Text) -> bool:
    """Whether a find of the detector is a line of text and no echo that resembles a letter.

    In a script that the reader does not know (Arabic, Cyrillic) only the detector counts.
    """
    shape = text.length / text.height
    letters = sum(map(str.isalnum, text.words))
    alike = text.likeness + text.again >= (PRINT if text.height <= HIGH else HIGH_PRINT)
    printed = alike and shape >= (LONG if text.height <= TALL else TALL_LONG)
    return printed or (letters >= 2 and text.confidence >= READ)


def is_harmless(text: Text) -> bool:
    """Whether a line was read surely, and consists only of what scanners and their users write."""
    simple = normalize(text.words)
    apart = _FETUS.sub(r"\1", _GLUED.sub(" ", simple))
    atoms = tokens_of(apart)
    digits = sum(map(str.isdigit, _COUNTER.sub(" ", apart)))
    enough = len("".join(atoms)) >= FILLED * text.length / text.height
    if text.confidence < READ or not enough or digits > MAX_DIGITS or dates_in(simple):
        return False
    return all(
        _SETTING.fullmatch(atom)
        or atom in PRINTED_WORDS
        or (len(atom) >= 6 and get_close_matches(atom, PRINTED_WORDS, n=1, cutoff=SIMILAR))
        for atom in atoms
    )


def looks_like_id(words: str) -> bool:
    """Whether a line contains a date, or a number as long as those of patients."""
    simple = normalize(words)
    return bool(dates_in(simple)) or any(_ID.fullmatch(atom) for atom in tokens_of(simple))


def _held_or_remark(codes: Sequence[str], config: QualityConfig) -> list[str]:
    return ["overlay"] if codes and config.burned_text == "remark" else list(codes)


def _bounds(text: Text, x: int, y: int) -> Line:
    """The upright box of a text in a part of the frame that begins at `x`, `y`."""
    corners = cv2.boxPoints(text.box)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return Line(int(low[0]) + x, int(low[1]) + y, int(high[0]) + 1 + x, int(high[1]) + 1 + y)


def _painted(sector: Sector, texts: Sequence[Text]) -> Sector:
    """The sector without lines in its box, with a margin for commas and tails of letters."""
    if not texts:
        return sector
    x0, y0, x1, y1 = sector.box
    cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for text in texts:
        middle, (across, down), angle = text.box
        room = max(4.0, text.height / 3)
        corners = cv2.boxPoints((middle, (across + room, down + room), angle))
        cv2.fillPoly(cover, [np.round(corners).astype(np.int32)], 1)
    inside = sector.inside.copy()
    inside[y0:y1, x0:x1] &= cover == 0
    return replace(sector, inside=inside)
