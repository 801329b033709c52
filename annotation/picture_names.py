"""Names of pictures: the stem of a frame without what tools and data sets add to it."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from sono.curation.records.table import SUFFIXES

# What tools and data sets put after or before a frame's name. Label Studio: 8 hexadecimal digits;
# Roboflow: the former ending and a hash.
ENDING = re.compile(
    r"(.+?)[ _.-]+(?:masks?|seg|segmentation|labels?|gt|ground[ _-]?truth|annotations?)",
    re.IGNORECASE,
)
# eight digits alone may be a date or a patient's number
LABEL_STUDIO = re.compile(r"(?=\d*[a-f])[0-9a-f]{8}-(.+)")
ROBOFLOW = re.compile(rf"(.+)_(?:{'|'.join(sorted(SUFFIXES))})\.rf\.[0-9a-z]{{8,}}")


class Reading(NamedTuple):
    """One interpretation of a name: the stem, what was removed, whether Label Studio renamed it."""

    stem: str
    taken: str = ""
    uploaded: bool = False


def readings(stem: str) -> list[Reading]:
    """The stems that a name may refer to.

    The first is the name itself; in each of the next ones, one more addition of a tool is removed.
    """
    found = [Reading(stem)]
    for reading in found:  # grows while it is read
        for pattern, what in (
            (ROBOFLOW, "Roboflow's ending"),
            (LABEL_STUDIO, "Label Studio's prefix"),
            (ENDING, "the ending"),
        ):
            match = pattern.fullmatch(reading.stem)
            if match and all(match[1] != one.stem for one in found):
                taken = ", ".join(filter(None, (reading.taken, what)))
                found.append(Reading(match[1], taken, reading.uploaded or pattern is LABEL_STUDIO))
        bare = stem_of(reading.stem)
        if all(bare != one.stem for one in found):
            found.append(Reading(bare, reading.taken, reading.uploaded))
    return found


def stem_of(name: str) -> str:
    """A file's name without the extension of a picture; a UID keeps its numbers."""
    head, _, suffix = name.rpartition(".")
    return head if head and suffix in SUFFIXES | {"json"} else name


def local_path(name: str) -> str:
    """A name without Label Studio's prefix of a local file's path."""
    return unquote(name.partition("?d=")[2]) if "?d=" in name else name
