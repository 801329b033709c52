"""Headers of MetaImage (.mhd) and NRRD (.nhdr) whose pixels are in a file next to them.

The name in a header is followed only if it is a plain name in the same folder.
"""

import re

from sono.curation.readers.source import UnreadableError, readable

HEADERS = (".mhd", ".nhdr")
PIXELS = (".raw", ".zraw", ".raw.gz")
HEADER_BYTES = 8 << 20
META_END = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*)(?:\r?\n|\Z)", re.MULTILINE)

_NRRD_DATA = re.compile(rb"^data ?file:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_NRRD_START = b"NRRD000"
_LIST = re.compile(r"LIST\b.*|.*%.*", re.IGNORECASE)
_MOST_LETTERS = 255
_ADVICE = (
    "give it a plain name in the same folder that ends in .raw, .zraw or .raw.gz, or save both as "
    "one .mha or .nrrd file"
)


def written_name(header: bytes) -> str | None:
    """The name of the file with the pixels as a header has it; None where it holds them itself."""
    if header.startswith(_NRRD_START):
        head = re.split(rb"\r?\n\r?\n", header[:HEADER_BYTES], maxsplit=1)[0]
        found = _NRRD_DATA.search(head)
        return None if found is None else readable(found[1])
    end = META_END.search(header, 0, HEADER_BYTES)
    return None if end is None or end[1].strip() == b"LOCAL" else readable(end[1])


def plain_name(written: str) -> str:
    """The name of a file in the folder of the header; raises UnreadableError for any other."""
    name = written.strip()
    if _LIST.fullmatch(name):
        raise refused("they are in a list of files")
    if not name or not name.isprintable() or len(name) > _MOST_LETTERS:
        raise refused("the header has no name of their file")
    if re.search(r"[/\\:]|^\.", name):
        raise refused("the name of their file has a folder or begins with a point")
    if not name.lower().endswith(PIXELS):
        raise refused("the name of their file has another ending")
    return name


def refused(why: str) -> UnreadableError:
    """The error for pixels in another file that is not read."""
    return UnreadableError("volume", f"its pixels are in another file, but {why}; {_ADVICE}")


def check_rest(header: bytes) -> None:
    """Refuse a header with bytes after its end, which would be pixels or a second header."""
    if header.startswith(_NRRD_START):
        rest = b"".join(re.split(rb"\r?\n\r?\n", header, maxsplit=1)[1:])
    else:
        end = META_END.search(header, 0, HEADER_BYTES)
        rest = b"" if end is None else header[end.end() :]
    if rest.strip():
        raise refused("there are bytes after the header")


def headers_of(name: str) -> list[str]:
    """The names of headers that may name a file of pixels: those with the same first part."""
    ending = next((one for one in PIXELS if name.lower().endswith(one)), None)
    if ending is None:
        return []
    stem = name[: -len(ending)]
    return [stem + one for header in HEADERS for one in (header, header.upper())]
