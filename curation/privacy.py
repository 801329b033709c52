"""The privacy gate: every text, cell and name of the workspace is searched for every private string of the sources."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pandas as pd

from sono.curation.errors import PrivacyError
from sono.curation.outputs import DESCRIPTION, texts_of, undisguised
from sono.curation.planes import REGIONS, PlaneTable
from sono.curation.readers.containers import MESSAGES
from sono.curation.reasons import REASONS, SPACING_REASONS
from sono.curation.records.values import FINDINGS, LATERALITY, PRESENTATION
from sono.curation.spellings import MIN_DIGITS, Phrase, atoms_of, dates_in, plain, single_forms, spellings
from sono.curation.storage import write_text
from sono.curation.tables import CAPTIONS, IMAGES, MASKS, SOURCES, read_table
from sono.curation.workspace import CONFIG_NAME, NEW_CONFIG, Workspace

# Words of our own tables and pages that may also stand in a file name or a comment.
OWN_WORDS = frozenset(
    ["accepted", "annotation", "annotations", "brain", "caption", "captions", "center", "centers", "dataset",
     "fetal", "frame", "frames", "id", "ids", "image", "images", "label", "labels", "mask", "masks", "metrics", "model",
     "normal", "overlay", "patient", "patients", "pixel", "pixels", "plane", "planes", "records", "region", "report",
     "series", "study", "train", "training", "ultrasound", "unknown", "validation", "weeks"]
)  # fmt: skip
# What sono itself writes there: a file may be called blank.png, no_regions.dcm or records.csv.
CODE_COLUMNS = ("column 'status'", "column 'reasons'", "column 'spacing_reason'")
TEMPLATES = Path(__file__).parents[1] / "templates"
PAGES = (".html", ".json", ".jsonl", ".log", ".toml", ".csv", ".txt")  # short numbers are counts and decimals there
# Of a published text tower that a checkpoint keeps: written before there was a study, and full of common names.
VOCABULARIES = frozenset(
    ["merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.json", "vocab.json", "vocab.txt"]
)
MAX_PLACES = 3  # named in the error; all stand in the vault


@dataclass(frozen=True)
class PrivateStrings:
    """What must not leave: single words, phrases by their first word, and days."""

    words: frozenset[str]
    phrases: Mapping[str, frozenset[Phrase]]
    days: frozenset[date]

    def __len__(self) -> int:
        return len(self.words) + sum(map(len, self.phrases.values())) + len(self.days)

    def found_in(self, text: str, own: frozenset[str] = frozenset(), page: bool = False) -> set[str]:
        """The private strings in `text`, whatever their spelling; in a `page` numbers under 7 digits do not count."""
        found: set[str] = set()
        for reading in filter(None, (text, undisguised(text))):
            simple = plain(reading)
            atoms = atoms_of(simple)
            words = self.words & single_forms(simple, set(atoms))
            found |= {word for word in words if not (page and word.isdigit() and len(word) < MIN_DIGITS)}
            if not self.phrases.keys().isdisjoint(atoms):
                found |= set(self._phrases_in(atoms))
            found |= {day.isoformat() for day in self.days & dates_in(simple)}
        return {one for one in found if not own.issuperset(one.split())}

    def _phrases_in(self, atoms: list[str]) -> Iterator[str]:
        for place, atom in enumerate(atoms):
            for phrase in self.phrases.get(atom, ()):
                if tuple(atoms[place : place + len(phrase)]) == phrase:
                    yield " ".join(phrase)


def check_privacy(workspace: Workspace) -> int:
    """Search the whole workspace; returns the number of private strings searched, PrivacyError on a hit.

    Does nothing (0) where the vault is not here: without it nothing private is known. What was found, and where,
    stands in the vault's `leaks.txt`.
    """
    return check_folder(workspace, workspace.root)


def check_folder(workspace: Workspace, folder: Path) -> int:
    """`check_privacy` of a folder that something of the workspace was exported to."""
    report = workspace.vault / "leaks.txt"
    if not workspace.sources_path.exists():
        return 0
    private = private_strings(workspace)
    leaks = dict(_leaks(folder, private))
    report.unlink(missing_ok=True)
    if leaks:
        lines = [f"{place}\t{', '.join(sorted(found))}" for place, found in leaks.items()]
        write_text(report, "\n".join(lines) + "\n", mode=0o600)
        raise PrivacyError(_complaint(leaks, report))
    return len(private)


def _complaint(leaks: dict[str, set[str]], report: Path) -> str:
    """The places and how many strings; the strings themselves must not reach a log."""
    places = [f"{place}: {len(found)} private string{'s' * (len(found) > 1)}" for place, found in leaks.items()]
    more = f" and {len(places) - MAX_PLACES} more places" if len(places) > MAX_PLACES else ""
    return (
        f"{'; '.join(places[:MAX_PLACES])}{more} of the sources; {report} tells which. Nothing may be handed over "
        "before this is mended; a word that is no secret goes to public_words under [study] in sono.toml"
    )


def private_strings(workspace: Workspace) -> PrivateStrings:
    """What the vault knows of the persons behind the study, the pseudonym key included."""
    sources = read_table(workspace.sources_path, SOURCES)
    own = _own_words(workspace.planes(), sources, workspace)
    found = collect(raw_strings(sources), own)
    key = workspace.key_path.read_text().strip().lower() if workspace.key_path.exists() else ""
    return PrivateStrings(found.words | ({key} - {""}), found.phrases, found.days)


def raw_strings(sources: pd.DataFrame) -> set[str]:
    """Every private string of the sources as it stood there, the names of files and folders included."""
    raw: set[str] = set()
    for strings in sources["private"].dropna():
        raw.update(strings)
    raw.update(sources["raw_patient"].dropna(), sources["raw_study"].dropna())
    for path, root in set(zip(sources["path"], sources["root"], strict=True)):
        raw.update(names_of(path, root))
    return raw


def names_of(path: bytes, root: bytes) -> tuple[str, ...]:
    """The names of a file and of the folders that it stands in, from `root` on."""
    top, inner = _decoded(root), Path(_decoded(path))
    below = inner.relative_to(top) if inner.is_relative_to(top) else inner
    return (*below.parent.parts, below.stem, Path(top).name)


def collect(raw: Iterable[str], own: frozenset[str]) -> PrivateStrings:
    """The private strings in every spelling; words that are our `own` are none."""
    words: set[str] = set()
    phrases: dict[str, set[Phrase]] = {}
    days: set[date] = set()
    for text in raw:
        for phrase in spellings(text, own):
            if len(phrase) == 1:
                words.add(phrase[0])
            else:
                phrases.setdefault(phrase[0], set()).add(phrase)
        days |= dates_in(plain(text))
    return PrivateStrings(
        frozenset(words), {first: frozenset(known) for first, known in phrases.items()}, frozenset(days)
    )


def _decoded(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in atoms_of(plain(text)))


def _own_words(planes: PlaneTable, sources: pd.DataFrame, workspace: Workspace) -> frozenset[str]:
    """Words that captions and tables hold by right: of planes, structures, findings, machines and centers."""
    study = workspace.study()
    public = {*sources["machine"].dropna(), *sources["center"].dropna(), *study.public_words}
    terms = (*planes.by_id, *planes.structures, *(plane.name for plane in planes.planes), *REGIONS, *FINDINGS)
    return OWN_WORDS | _words(*terms, *LATERALITY, *PRESENTATION, *public, study.name, workspace.root.name)


def _leaks(folder: Path, private: PrivateStrings) -> Iterator[tuple[str, set[str]]]:
    """Every place of `folder` with a private string, and these."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        found = private.found_in(_decoded(os.fsencode(place.name)))
        shown = str(place.parent / "*") if found else str(place)
        if found:
            yield f"the name of {shown}", found
        if path.is_symlink() and (found := private.found_in(_decoded(os.fsencode(path.readlink())))):
            yield f"the target of {shown}", found
        vocabulary = place.name in VOCABULARIES and place.match("runs/*/*/text/*")
        if path.is_file() and not vocabulary:
            for where, text in texts_of(path):
                page = path.suffix in PAGES or where == "column 'message'"
                if found := private.found_in(text, _own_words_at(str(place), where), page):
                    yield ", ".join(filter(None, (shown, where))), found


@cache
def _own_words_at(place: str, where: str) -> frozenset[str]:
    """The words that sono writes at `where` in the file at `place` for any study."""
    if where in CODE_COLUMNS:
        return _words(*REASONS, *SPACING_REASONS)
    if where == "column 'message'":
        return _words(*(reason.meaning for reason in REASONS.values()), *MESSAGES)
    if where == DESCRIPTION:
        return _words(*(column for spec in (IMAGES, MASKS, CAPTIONS) for column in spec.columns))
    if place == CONFIG_NAME:
        return _words(NEW_CONFIG)
    folder = {".html": "reports", ".parquet": "captions" if where == "column 'text'" else ""}.get(Path(place).suffix)
    if not folder:
        return frozenset()
    pages = (page for page in (TEMPLATES / folder).rglob("*") if page.is_file())
    return _words(*(page.read_text(encoding="utf-8") for page in pages), *(one.meaning for one in REASONS.values()))
