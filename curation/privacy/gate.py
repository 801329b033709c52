"""The privacy gate: every text, cell and name of the workspace is searched for every private
string of the sources.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from html import escape
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from sono.curation.clinical.name_variants import (
    MIN_WORD,
    TITLES,
    Phrase,
    is_initial,
    normalize,
    taken_apart,
    tokens_of,
    words_of,
)
from sono.curation.clinical.vocabulary import (
    CODE_COLUMNS,
    CODES,
    COLUMNS,
    KEY_WORDS,
    MACHINE_WORDS,
    PROSE,
    VOCABULARY,
)
from sono.curation.clinical.written_dates import dates_in
from sono.curation.core.atomic import write_text
from sono.curation.core.console import progress, warn
from sono.curation.core.errors import PrivacyError
from sono.curation.core.reasons import REASONS
from sono.curation.core.study_folder import CONFIG_NAME, NEW_CONFIG
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.private_strings import PrivateStrings, collect
from sono.curation.privacy.public_names import PublicNames
from sono.curation.privacy.source_names import (
    decoded,
    ids_of_patients,
    names_of_persons,
    raw_strings,
)
from sono.curation.privacy.text_extraction import CLOSED, DESCRIPTION, extract_texts
from sono.curation.readers.containers import MESSAGES

TEMPLATES = Path(__file__).parents[2] / "templates"
# What sono writes for people and programs, where short numbers are counts and decimals; any other
# text is a note.
PAGES = (".html", ".json", ".jsonl", ".log", ".toml", ".csv")
CENTER_COLUMNS = ("column 'center'", "column 'other_center'")
# Run lengths look like words of one to six letters and digits, and a short name stands among them
# by chance.
RUN_LENGTHS, MIN_IN_RUN_LENGTHS = "column 'counts'", 9
# Of a published text tower that a checkpoint keeps: written before there was a study, and full of
# common names.
VOCABULARIES = frozenset(
    [
        "merges.txt",
        "sentencepiece.bpe.model",
        "spiece.model",
        "tokenizer.json",
        "vocab.json",
        "vocab.txt",
    ]
)
MAX_LO = 64  # characters of a Long String in DICOM, where a longer machine is cut
MAX_PLACES = 3  # named in the error; all stand in the vault


@dataclass(frozen=True)
class Search:
    """One search: what is private, and what the study may say of itself."""

    private: PrivateStrings
    public: PublicNames
    # centers that are called like a person, by a name too short to count alone
    namesakes: frozenset[str] = frozenset()

    def found_at(self, place: Path, where: str, text: str) -> set[str]:
        """The private strings of `text`, without what sono or the study writes at this place by
        right.
        """
        page = place.suffix in PAGES or where == "column 'message'"
        found = self.private.found_in(text, page, glued=where != RUN_LENGTHS)
        if where == RUN_LENGTHS:
            return {one for one in found if len(one) >= MIN_IN_RUN_LENGTHS}
        if not found:  # nearly always
            return found
        names = self.public.at(place, where)
        taken_out = self._names_taken_out(
            names if where in CENTER_COLUMNS else names - self.namesakes
        )
        own = _own_text(place.as_posix(), where)
        inherent = self._inherent(own)
        words = words_of(own)
        cells = text.split("\n") if where.startswith("column ") else [text]  # two cells are no name
        return {
            one
            for cell in cells
            for one in self.private.found_in(cell, page, taken_out)
            if one not in inherent
            and (one in self.private.persons or not words.issuperset(one.split()))
        }

    def _inherent(self, own: str) -> set[str]:
        """What a person's name has in common with a text of ours."""
        return set().union(*map(self.private.found_in, own.splitlines()))

    @cached_property
    def _allowed(self) -> dict[frozenset[str], re.Pattern[str]]:
        return {}

    def _names_taken_out(self, names: frozenset[str]) -> Callable[[str], str]:
        """A function that takes the whole of each of `names` out of a plain text, but for those
        that name somebody.
        """
        if names not in self._allowed:
            phrases = {phrase for name in names for phrase in self._public_phrases(name)}
            choices = sorted((r"[\W_]+".join(phrase) for phrase in phrases), key=len, reverse=True)
            whole = rf"(?<![^\W_])(?:{'|'.join(choices)})(?![^\W_])" if choices else r"(?!)"
            self._allowed[names] = re.compile(whole)
        pattern = self._allowed[names]
        return lambda text: pattern.sub(" | ", text)

    def _public_phrases(self, name: str) -> Iterator[Phrase]:
        """The atoms of a public name, as they are written in tables, pages and DICOM; none
        where it names somebody.
        """
        atoms = tokens_of(normalize(name))
        if (
            not atoms
            or self._holds_id(name)
            or (name not in self.namesakes and self._names_person(name))
        ):
            return
        for form in {
            name,
            escape(name),
            quote(name),
            json.dumps(name),
            name[:MAX_LO],
            taken_apart(name),
        }:
            yield tuple(tokens_of(normalize(form)))

    def _holds_id(self, name: str) -> bool:
        """Whether a public name holds an id or a day of the sources."""
        return bool(
            self.private.ids & self.private.found_in(name)
            or self.private.days & dates_in(normalize(name))
        )

    def _names_person(self, name: str) -> bool:
        """Whether a public name is nothing but a person's, or holds a whole name.

        In a machine one word is enough.
        """
        persons = self.private.found_in(name) & self.private.persons
        words = {
            word for word in words_of(taken_apart(name)) if word.isalpha() and not is_initial(word)
        } - TITLES
        whole = persons - self.private.name_words  # LindqvistAnna is one word
        return bool(
            whole or (words and words <= self.private.name_words) or self._names_in_machine(name)
        )

    def _names_in_machine(self, name: str) -> set[str]:
        """The words of persons' names in a public name that is a machine, however short they
        are.
        """
        if name not in self.public.machines:
            return set()
        known = {one for one in self.private.name_words if len(one) > 1} - PROSE - self.public.words
        return (
            (known & words_of(name)) | (self.private.found_in(name) & self.private.persons)
        ) - MACHINE_WORDS

    def machines_with_names(self) -> Iterator[tuple[str, set[str]]]:
        """The hits that only a machine's own column gives.

        Words of names that are too short to count elsewhere.
        """
        found = set().union(*map(self._names_in_machine, self.public.machines))
        if found:
            yield "images.parquet, column 'machine'", found


def check_privacy(workspace: Workspace) -> int:
    """Search the whole workspace; returns the number of private strings searched, PrivacyError on a
    hit.

    Where the vault is not here nothing private is known: a warning says so, and the number is 0.
    SonoError for the vault of another study. What was found, and where, stands in the vault's
    `leaks.txt`.
    """
    return check_folder(workspace, workspace.root)


def check_folder(workspace: Workspace, folder: Path) -> int:
    """`check_privacy` of a folder that something of the workspace was exported to."""
    return _check(workspace, lambda search: _leaks(folder, search))


def check_file(workspace: Workspace, file: Path, name: str) -> int:
    """`check_privacy` of one exported file, which is to be called `name`."""
    return _check(workspace, lambda search: _leaks_in(file, Path(name), search))


def check_texts(workspace: Workspace, name: str, texts: Iterable[str]) -> int:
    """`check_privacy` of texts that are drawn into a picture called `name`."""
    return _check(
        workspace,
        lambda search: (
            (name, found) for text in texts if (found := search.found_at(Path(name), "", text))
        ),
    )


def _check(
    workspace: Workspace, leaks_of: Callable[[Search], Iterable[tuple[str, set[str]]]]
) -> int:
    if not workspace.has_vault():
        warn(workspace.without_vault())
        return 0
    if not workspace.sources_path.exists():
        return 0  # nothing was read yet
    search = _search(workspace)
    leaks = dict(chain(search.machines_with_names(), leaks_of(search)))
    report = workspace.vault / "leaks.txt"
    # a vault that cannot be written: the search holds, and so does its complaint
    with suppress(OSError):
        report.unlink(missing_ok=True)
    if leaks:
        lines = [f"{place}\t{', '.join(sorted(found))}" for place, found in leaks.items()]
        with suppress(OSError):
            write_text(report, "\n".join(lines) + "\n", mode=0o600)
        raise PrivacyError(_complaint(leaks, report))
    return len(search.private)


def _complaint(leaks: dict[str, set[str]], report: Path) -> str:
    """The places and how many strings; the strings themselves must not reach a log."""
    counts = {place: len(found) for place, found in leaks.items()}
    places = [
        f"{place}: {count} private string{'s' * (count > 1)}" if count else place
        for place, count in counts.items()
    ]
    more = f" and {len(places) - MAX_PLACES} more places" if len(places) > MAX_PLACES else ""
    closed = (
        "; an archive must be whole, small and without a password, or go"
        if 0 in counts.values()
        else ""
    )
    strings = " of the sources" if any(counts.values()) else ""
    word = (
        "; a word that is no secret goes to public_words under [study] in sono.toml"
        if strings
        else ""
    )
    return (
        f"{'; '.join(places[:MAX_PLACES])}{more}{strings}; {report} tells which. Nothing may be "
        f"handed over "
        f"before this is mended{closed}{word}"
    )


def private_strings(workspace: Workspace) -> PrivateStrings:
    """What the vault knows of the persons behind the study, the pseudonym key included."""
    return _search(workspace).private


def _search(workspace: Workspace) -> Search:
    sources = workspace.sources()
    public = PublicNames.of(workspace, sources)
    own, prose = VOCABULARY | public.words, PROSE | public.words
    found = collect(
        raw_strings(sources), own, names_of_persons(sources), prose, ids_of_patients(sources)
    )
    key = {workspace.key_path.read_text().strip().lower()}
    namesakes = {
        name: word
        for name in public.centers
        if (word := _short_name(name, found.name_words - prose))
    }
    short = frozenset(namesakes.values())
    words, persons = found.words | key | short, found.persons | short
    return Search(replace(found, words=words, persons=persons), public, frozenset(namesakes))


def _short_name(center: str, name_words: frozenset[str]) -> str:
    """The word of a person's name that is all of a `center` but titles, where it is too short
    to be private alone.
    """
    words = [
        word for word in tokens_of(normalize(center)) if word not in TITLES and not is_initial(word)
    ]
    return (
        words[0] if len(words) == 1 and len(words[0]) < MIN_WORD and words[0] in name_words else ""
    )


def _leaks(folder: Path, search: Search) -> Iterator[tuple[str, set[str]]]:
    """Every place of `folder` with a private string, and these."""
    paths = sorted(folder.rglob("*"))
    with progress("privacy search", len(paths)) as advance:
        for path in paths:
            yield from _leaks_at(path, path.relative_to(folder), search)
            advance()


def _leaks_at(path: Path, place: Path, search: Search) -> Iterator[tuple[str, set[str]]]:
    found = search.found_at(place, "the name", decoded(os.fsencode(place.name)))
    shown = place.parent / "*" if found else place
    if found:
        yield f"the name of {shown}", found
    if path.is_symlink() and (
        found := search.private.found_in(decoded(os.fsencode(path.readlink())))
    ):
        yield f"the target of {shown}", found
    vocabulary = place.name in VOCABULARIES and place.match("runs/*/*/text/*")
    if path.is_file() and not vocabulary:
        yield from _leaks_in(path, place, search, str(shown))


def _leaks_in(
    path: Path, place: Path, search: Search, shown: str = ""
) -> Iterator[tuple[str, set[str]]]:
    """Every place of the file at `path` that is closed or has a private string.

    `place` is its place in its folder.
    """
    for where, text in extract_texts(path, place.suffix):
        found = search.found_at(place, where, text)
        if found or where == CLOSED:
            yield ", ".join(filter(None, (shown or str(place), where))), found


@cache
def _own_text(place: str, where: str) -> str:
    """What sono writes at `where` in the file at `place` for any study, a word, code or
    sentence a line.
    """
    meanings = [*(reason.meaning for reason in REASONS.values()), *MESSAGES]
    if where.startswith("column "):
        column = where.removeprefix("column ").strip("'").removeprefix("other_")
        if column == "text":
            return "\n".join(_pages("captions"))
        return "\n".join(
            CODES if column in CODE_COLUMNS else meanings if column == "message" else ()
        )
    if where == DESCRIPTION:
        return "\n".join(COLUMNS)
    if place == CONFIG_NAME:
        return NEW_CONFIG
    if place.endswith(".html"):
        return "\n".join((*CODES, *meanings, *_pages("reports")))
    return (
        "\n".join((*CODES, *COLUMNS, *KEY_WORDS))
        if place.endswith((".json", ".jsonl", ".log"))
        else ""
    )


@cache
def _pages(folder: str) -> tuple[str, ...]:
    return tuple(
        page.read_text(encoding="utf-8")
        for page in (TEMPLATES / folder).rglob("*")
        if page.is_file()
    )
