"""The privacy gate: search every text of the workspace for every private string of the sources."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
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
    split_words,
    tokens_of,
    words_of,
)
from sono.curation.clinical.vocabulary import MACHINE_WORDS, PROSE, VOCABULARY
from sono.curation.clinical.written_dates import dates_in
from sono.curation.core.atomic import write_text
from sono.curation.core.console import progress, warn
from sono.curation.core.errors import PrivacyError
from sono.curation.core.table_batches import read_batches
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.own_texts import TEMPLATES, own_names, own_text, without_own
from sono.curation.privacy.private_strings import PrivateStrings, collect
from sono.curation.privacy.public_names import PublicNames
from sono.curation.privacy.source_names import SEARCHED, SourceStrings, decoded
from sono.curation.privacy.text_extraction import CLOSED, extract_texts

# Files in which sono writes counts and decimals, so short numbers are not ids. A text file of any
# other kind is a note.
PAGES = (".html", ".json", ".jsonl", ".log", ".toml", ".csv", ".xml", ".nrrd", ".mha")
CENTER_COLUMNS = ("column 'center'", "column 'other_center'")
# Run lengths look like words of one to six letters and digits, so a short name may occur among them
# by chance.
RUN_LENGTHS, MIN_IN_RUN_LENGTHS = "column 'counts'", 9
# Vocabulary files of a published text tower, stored in checkpoints: they contain common names, and
# nothing of the study.
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
# A cell that is a digest or pseudonym of sono: letters and digits, without zeros that fill it up.
_DIGEST = re.compile(r"^(?!00)(?=\d*[a-f])(?=[a-f]*\d)(?:[0-9a-f]{16}|[0-9a-f]{64})$", re.MULTILINE)
MAX_LO = 64  # characters of a Long String in DICOM; a longer machine name is truncated
MAX_PLACES = 3  # places that the error names; leaks.txt in the vault lists all


@dataclass(frozen=True)
class Search:
    """One search: the private strings, and the public names that are allowed in their places.

    `namesakes` are centers whose only word is a person's name too short to be private by itself.
    """

    private: PrivateStrings
    public: PublicNames
    namesakes: frozenset[str] = frozenset()

    def found_at(self, place: Path, where: str, text: str) -> set[str]:
        """The private strings in `text`, except those that are allowed at this place.

        Allowed are sono's own words and the public names that belong there.
        """
        page = place.suffix in PAGES or where == "column 'message'"
        if where.startswith("column "):  # a digest is a cell as a whole, and takes long to search
            private = self.private.words.intersection(text.split("\n"))
            text = "\n".join((_DIGEST.sub("", text), *private))
        found = self.private.found_in(text, page, glued=where != RUN_LENGTHS)
        if where == RUN_LENGTHS:
            return {one for one in found if len(one) >= MIN_IN_RUN_LENGTHS}
        if not found:  # nearly always
            return found
        names = self.public.at(place, where)
        without_names = self._remover_of(
            names if where in CENTER_COLUMNS else names - self.namesakes
        )
        own = own_text(place.as_posix(), where)
        in_own_text = self._found_in_lines(own) | own_names(place)
        words = words_of(own)
        # a name does not continue in the next cell
        text = without_own(text, place, where, found)
        cells = text.split("\n") if where.startswith("column ") else [text]
        return {
            one
            for cell in cells
            for one in self.private.found_in(cell, page, without_names)
            if one not in in_own_text
            and (one in self.private.persons or not words.issuperset(one.split()))
        }

    def _found_in_lines(self, text: str) -> set[str]:
        """The private strings in the lines of `text`."""
        return set().union(*map(self.private.found_in, text.splitlines()))

    @cached_property
    def _patterns(self) -> dict[frozenset[str], re.Pattern[str]]:
        return {}

    def _remover_of(self, names: frozenset[str]) -> Callable[[str], str]:
        """A function that removes complete `names` from a normalized text.

        A name that contains the name of a person is not removed.
        """
        if names not in self._patterns:
            phrases = {phrase for name in names for phrase in self._public_phrases(name)}
            choices = sorted((r"[\W_]+".join(phrase) for phrase in phrases), key=len, reverse=True)
            whole = rf"(?<![^\W_])(?:{'|'.join(choices)})(?![^\W_])" if choices else r"(?!)"
            self._patterns[names] = re.compile(whole)
        pattern = self._patterns[names]
        return lambda text: pattern.sub(" | ", text)

    def _public_phrases(self, name: str) -> Iterator[Phrase]:
        """Yield the atoms of a public name as they are written in tables, pages and DICOM.

        A name that contains an id or the name of a person yields nothing.
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
            split_words(name),
        }:
            yield tuple(tokens_of(normalize(form)))

    def _holds_id(self, name: str) -> bool:
        """Whether a public name contains an id or a date of the sources."""
        return bool(
            self.private.ids & self.private.found_in(name)
            or self.private.days & dates_in(normalize(name))
        )

    def _names_person(self, name: str) -> bool:
        """Whether a public name consists only of a person's name, or contains a full name.

        In the name of a machine, one word of a person's name is sufficient.
        """
        persons = self.private.found_in(name) & self.private.persons
        words = {
            word for word in words_of(split_words(name)) if word.isalpha() and not is_initial(word)
        } - TITLES
        whole = persons - self.private.name_words  # LindqvistAnna is one word
        return bool(
            whole or (words and words <= self.private.name_words) or self._names_in_machine(name)
        )

    def _names_in_machine(self, name: str) -> set[str]:
        """The words of persons' names in the name of a machine, however short they are.

        The result is empty if `name` is not the name of a machine.
        """
        if name not in self.public.machines:
            return set()
        known = {one for one in self.private.name_words if len(one) > 1} - PROSE - self.public.words
        return (
            (known & words_of(name)) | (self.private.found_in(name) & self.private.persons)
        ) - MACHINE_WORDS

    def machines_with_names(self) -> Iterator[tuple[str, set[str]]]:
        """Yield the place and the words of persons' names in the column `machine`.

        They include words that are too short to be private anywhere else.
        """
        found = set().union(*map(self._names_in_machine, self.public.machines))
        if found:
            yield "images.parquet, column 'machine'", found


def check_privacy(workspace: Workspace) -> int:
    """Search the complete workspace; returns the number of private strings that were searched for.

    Raises PrivacyError if one is found; `leaks.txt` in the vault lists what was found and where.
    Raises SonoError for the vault of another study. Without a vault nothing can be searched for: a
    warning reports this, and the number is 0.
    """
    return check_folder(workspace, workspace.root)


def check_folder(workspace: Workspace, folder: Path) -> int:
    """`check_privacy` of a folder to which the workspace was exported."""
    return _check(workspace, lambda search: _leaks(folder, search))


def check_file(workspace: Workspace, file: Path, name: str) -> int:
    """`check_privacy` of one exported file, which will get the name `name`."""
    return _check(workspace, lambda search: _leaks_in(file, Path(name), search))


def check_texts(workspace: Workspace, name: str, texts: Iterable[str]) -> int:
    """`check_privacy` of texts that are drawn into the picture `name`."""
    return _check(
        workspace,
        lambda search: (
            (name, found) for text in texts if (found := search.found_at(Path(name), "", text))
        ),
    )


def text_search(workspace: Workspace) -> Search | None:
    """The search for private strings in many texts; None if nothing can be searched for."""
    if not workspace.has_vault() or not workspace.sources_path.exists():
        return None
    return _search(workspace)


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
    # if the vault is not writable, the search is still valid, and the error is still raised
    with suppress(OSError):
        report.unlink(missing_ok=True)
    if leaks:
        lines = [f"{place}\t{', '.join(sorted(found))}" for place, found in leaks.items()]
        with suppress(OSError):
            write_text(report, "\n".join(lines) + "\n", mode=0o600)
        raise PrivacyError(_message(leaks, report))
    return len(search.private)


def _message(leaks: dict[str, set[str]], report: Path) -> str:
    """The error: places and counts, without the strings, which must not reach a log."""
    counts = {place: len(found) for place, found in leaks.items()}
    places = [
        f"{place}: {count} private string{'s' * (count > 1)}" if count else place
        for place, count in counts.items()
    ]
    more = f" and {len(places) - MAX_PLACES} more places" if len(places) > MAX_PLACES else ""
    closed = (
        "; remove an archive that cannot be searched, or replace it by one that is complete, small "
        "and without a password"
        if 0 in counts.values()
        else ""
    )
    strings = " of the sources" if any(counts.values()) else ""
    word = (
        "; add a word that is not secret to public_words under [study] in sono.toml"
        if strings
        else ""
    )
    return (
        f"{'; '.join(places[:MAX_PLACES])}{more}{strings}; {report} lists them. Do not share the "
        f"study before this is fixed{closed}{word}"
    )


def private_strings(workspace: Workspace) -> PrivateStrings:
    """The private strings that the vault of `workspace` contains, including the pseudonym key."""
    return _search(workspace).private


def _search(workspace: Workspace) -> Search:
    mark = workspace.study().key_check
    sources = SourceStrings.of(read_batches(workspace.sources_path, SOURCES, SEARCHED, mark))
    public = PublicNames.of(workspace, sources)
    own, prose = VOCABULARY | public.words, PROSE | public.words
    found = collect(sources.raw, own, sources.persons, prose, sources.patients)
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
    """The only word of a `center`, if it is a person's name too short to be private by itself.

    Titles and initials are ignored. The result is "" for any other center.
    """
    words = [
        word for word in tokens_of(normalize(center)) if word not in TITLES and not is_initial(word)
    ]
    return (
        words[0] if len(words) == 1 and len(words[0]) < MIN_WORD and words[0] in name_words else ""
    )


def _leaks(folder: Path, search: Search) -> Iterator[tuple[str, set[str]]]:
    """Yield every place in `folder` with private strings, and these strings."""
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
    if path.is_file() and not vocabulary and not _is_own_page(path):
        yield from _leaks_in(path, place, search, str(shown))


def _is_own_page(path: Path) -> bool:
    """Whether the file at `path` is one that every exported model contains, unchanged."""
    page = TEMPLATES / "onnx" / path.name
    return page.is_file() and path.read_bytes() == page.read_bytes()


def _leaks_in(
    path: Path, place: Path, search: Search, shown: str = ""
) -> Iterator[tuple[str, set[str]]]:
    """Yield every place in the file at `path` with private strings, and these strings.

    An archive that cannot be searched is yielded with no strings. `place` is the path of the file
    below the searched folder.
    """
    for where, text in extract_texts(path, place.suffix):
        found = search.found_at(place, where, text)
        if found or where == CLOSED:
            yield ", ".join(filter(None, (shown or str(place), where))), found
