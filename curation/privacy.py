"""The privacy gate: every output byte, cell and file name is searched for every private string of the sources."""

import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from sono.curation.errors import PrivacyError
from sono.curation.planes import PlaneTable
from sono.curation.reasons import REASONS
from sono.curation.tables import SOURCES, read_table
from sono.curation.workspace import CONFIG_NAME, NEW_CONFIG, Workspace

# Shorter strings ("1", "AB") occur in any text by chance.
MIN_WORD = 5
MIN_NUMBER = 7  # in pages and logs, where shorter numbers are counts and decimals
# Words of our own tables and pages that may also stand in a file name or a comment.
OWN_WORDS = frozenset(
    ["fetal", "ultrasound", "image", "images", "frame", "frames", "plane", "planes", "study", "patient", "patients",
     "center", "region", "mask", "masks", "caption", "captions", "accepted", "unknown", "normal", "brain", "train"]
)  # fmt: skip
PNG_CHUNKS_OF_PIXELS = {b"IHDR", b"IDAT", b"IEND", b"pHYs"}  # pHYs: dots per inch, written by matplotlib
# What sono itself writes there: a file may be called blank.png, no_regions.dcm or records.csv.
CODE_COLUMNS = frozenset(("status", "reasons", "spacing_reason"))
_CODE = re.compile(r"[a-z]+(?:_[a-z]+)*")
# The letters of an embedded picture are words by chance; its frame is searched where it is stored.
_PICTURE = re.compile(r"data:image/\w+;base64,[\w+/=]+", re.ASCII)
_SIZE = re.compile(r"\d+ x \d+ pixels|\d+ (?:pixels|bytes|levels)")
_WORD = re.compile(r"[^\W_]+(?:[.^'/\-][^\W_]+)*")


def check_privacy(workspace: Workspace) -> int:
    """Search the whole workspace; returns the number of private strings searched, PrivacyError on a hit.

    Does nothing (0) where the vault is not here: without it nothing private is known.
    """
    path = workspace.sources_path
    if not path.exists():
        return 0
    private = private_words(read_table(path, SOURCES), workspace.planes())
    for file in sorted(workspace.root.rglob("*")):
        if file.is_file():
            _check_file(file, workspace.root, private)
    return len(private)


def private_words(sources: pd.DataFrame, planes: PlaneTable) -> frozenset[str]:
    """Every private string of the sources and its common reformattings, in normal form."""
    raw: set[str] = set()
    for strings in sources["private"].dropna():
        raw.update(strings)
    raw.update(sources["raw_patient"].dropna(), sources["raw_study"].dropna())
    for path in sources["path"]:
        raw.add(Path(path.decode("utf-8", "replace")).stem)
    own = OWN_WORDS | set(_words(" ".join((*planes.by_id, *planes.structures, *(p.name for p in planes.planes)))))
    public = set(sources["machine"].dropna()) | set(sources["center"].dropna())
    own |= {word for text in public for word in _words(text)}
    found = {form for text in raw for form in _forms(text)}
    return frozenset(form for form in found if form not in own and len(form) >= MIN_WORD)


def _forms(text: str) -> Iterator[str]:
    """The whole string, its words, and dates in the orders people write them."""
    plain = _normal(text)
    yield plain
    yield from _words(plain)
    date = re.fullmatch(r"((?:19|20)\d\d)(\d\d)(\d\d)", plain) or re.fullmatch(r"((?:19|20)\d\d)-(\d\d)-(\d\d)", plain)
    if date:
        year, month, day = date.groups()
        yield from (f"{year}{month}{day}", f"{year}-{month}-{day}")
        for between in ".-/":
            yield from (between.join((day, month, year)), between.join((month, day, year)))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _words(text: str) -> list[str]:
    """Words of a text and their parts: `doe^jane-1.png` gives doe^jane-1.png, doe, jane, png."""
    whole = _WORD.findall(_normal(text))
    return [*whole, *(part for word in whole for part in re.split(r"[.^'/\-]", word))]


def _check_file(file: Path, root: Path, private: frozenset[str]) -> None:
    place = file.relative_to(root)
    _search(_words(str(place)), private, f"the name of {place.parent}/*")
    if file.suffix == ".parquet":
        for column, cells in _cells(file):
            _search(cells, private, f"{place}, column '{column}'")
    elif file.suffix == ".png":
        _check_png(file.read_bytes(), private, str(place))
    else:
        text = _PICTURE.sub("", _text_bytes(file).decode("utf-8", "replace"))
        words = (word for word in _words(text) if len(word) >= MIN_NUMBER or not word.isdigit())
        _search(set(words) - _own_words(str(place)), private, str(place))


@cache
def _own_words(place: str) -> frozenset[str]:
    """The words that sono writes into the file at `place` for any study."""
    if place == CONFIG_NAME:
        return frozenset(_words(NEW_CONFIG))
    if place.endswith(".html"):
        pages = Path(__file__).parents[1] / "templates" / "reports"
        words = (word for page in pages.iterdir() for word in _words(page.read_text(encoding="utf-8")))
        return frozenset(words) | _OWN_SENTENCES
    return frozenset()


def _text_bytes(file: Path) -> bytes:
    """The bytes of a file that may hold text: of a checkpoint all but the numbers of its tensors."""
    if file.suffix == ".safetensors":
        with file.open("rb") as stream:
            # the length of the JSON header comes first
            return stream.read(min(int.from_bytes(stream.read(8), "little"), file.stat().st_size))
    if file.suffix == ".pt" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return b" ".join(archive.read(name) for name in archive.namelist() if "/data/" not in name)
    return file.read_bytes()


def _cells(file: Path) -> Iterator[tuple[str, Iterable[str]]]:
    """The distinct words of every text column of a table."""
    table = pq.read_table(file, partitioning=None)
    for name in table.schema.names:
        values = table[name].combine_chunks()
        if str(values.type).startswith("list"):
            values = values.flatten()
        if str(values.type) in ("string", "large_string"):
            texts = [_foreign(name, text) for text in values.unique().to_pylist() if text]
            own = _OWN_SENTENCES if name == "message" else frozenset()
            yield name, {form for text in texts for form in (_normal(text), *_words(text))} - own


def _foreign(column: str, text: str) -> str:
    """What in a cell may come from a source: not the codes and sizes that sono writes."""
    if column in CODE_COLUMNS and _CODE.fullmatch(text):
        return ""
    return _SIZE.sub(" ", text) if column == "message" else text


_OWN_SENTENCES = frozenset(_words(" ".join(reason.meaning for reason in REASONS.values())))


def _check_png(content: bytes, private: frozenset[str], place: str) -> None:
    """A PNG may hold pixels alone; any other chunk, and what follows the end, is searched as text."""
    position, rest = 8, b""
    while position + 8 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        kind = content[position + 4 : position + 8]
        if kind not in PNG_CHUNKS_OF_PIXELS:
            rest += content[position + 8 : position + 8 + size] + b" "
        position += size + 12
        if kind == b"IEND":
            break
    rest += content[position:]
    if rest:
        _search(_words(rest.decode("utf-8", "replace")), private, place)


def _search(words: Iterable[str], private: frozenset[str], place: str) -> None:
    hits = private.intersection(words)
    if hits:
        # the string itself must not reach a log
        raise PrivacyError(
            f"{place}: {len(hits)} private string{'s' if len(hits) > 1 else ''} of the sources "
            f"(lengths {sorted(map(len, hits))[:5]}) found; nothing may be handed over before this is mended"
        )
