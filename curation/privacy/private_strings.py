"""The private strings of a study in every spelling, and the search for them in a text."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import chain, pairwise

from sono.curation.clinical.id_forms import (
    grouped_ids,
    id_spellings,
    without_fractions,
    written_ids,
)
from sono.curation.clinical.look_alikes import latin_reading
from sono.curation.clinical.name_variants import (
    MIN_DIGITS,
    MIN_ID_DIGITS,
    MIN_JOINED,
    MIN_WORD,
    PARTICLES,
    TITLES,
    WORD_INITIALS,
    Phrase,
    divided,
    is_initial,
    letter_runs,
    name_parts,
    name_spellings,
    normalize,
    single_forms,
    spellings,
    split_words,
    tokens_of,
    written_as_initial,
)
from sono.curation.clinical.written_dates import dates_in
from sono.curation.privacy.text_extraction import decode_obfuscation

# A text with a larger share of invalid UTF-8 is binary data, which contains short names by chance.
MAX_UNREADABLE = 0.01
# letters of a name that is found inside a longer word; shorter ones occur there by chance
MIN_INSIDE = 6


@dataclass(frozen=True)
class PrivateStrings:
    """The private strings: single words, phrases by their first word, and days.

    `persons` are the words and phrases that name a person, `name_words` all words of these names.
    `ids` are the words that are ids of patients and exams, `patients` those of them that are
    written without the signs between their groups, or in groups. Names inside words of `own` are
    not searched for.
    """

    words: frozenset[str]
    phrases: Mapping[str, frozenset[Phrase]]
    days: frozenset[date]
    persons: frozenset[str] = frozenset()
    name_words: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.words) + sum(map(len, self.phrases.values())) + len(self.days)

    def found_in(
        self,
        text: str,
        page: bool = False,
        without: Callable[[str], str] | None = None,
        glued: bool = True,
    ) -> set[str]:
        """The private strings in `text`, whatever their spelling.

        In a `page`, numbers of fewer than 7 digits are ignored. `without` removes what is allowed
        from the normalized text. With `glued`, names inside words are found, too.
        """
        found: set[str] = set()
        readings = (text, decode_obfuscation(text))
        for reading in filter(None, (*readings, *map(latin_reading, readings))):
            simple = without_fractions(normalize(reading))
            if without is not None:
                simple = without(simple)
            atoms = tokens_of(simple)
            distinct = set(atoms)
            readable = reading.count("\ufffd") <= MAX_UNREADABLE * len(reading)
            words = self.words & single_forms(simple, distinct)
            if self.patients:
                words |= self.patients.intersection(grouped_ids(simple, page))
            found |= {
                word for word in words if not (page and word.isdigit() and len(word) < MIN_DIGITS)
            }
            if not readable:
                found -= {word for word in words if len(word) < MIN_WORD and word.isascii()}
            phrases = self._phrases_in(atoms, reading)
            found |= (
                phrases if readable else {one for one in phrases if len(one) > MIN_JOINED}
            )  # MIN_JOINED letters and a blank
            found |= {day.isoformat() for day in self.days & dates_in(simple)}
            if glued and readable and self.persons:
                found |= self._names_inside(distinct) | self._names_next_to_digits(
                    reading, distinct, without
                )
        return found

    def _phrases_in(self, atoms: list[str], text: str) -> set[str]:
        """The phrases among the atoms of `text`.

        Titles, initials and particles between the words of a phrase are ignored.
        """
        if self.phrases.keys().isdisjoint(atoms):
            return set()
        bare = [
            atom for atom in atoms if (len(atom) > 1 or not is_initial(atom)) and atom not in TITLES
        ]
        short = [atom for atom in bare if atom not in PARTICLES]
        found = self._phrases_of(atoms) | (
            self._phrases_of(bare) if len(bare) < len(atoms) else set()
        )
        found |= self._phrases_of(short) if len(short) < len(bare) else set()
        return {
            " ".join(phrase)
            for phrase in found
            if len(phrase) > 2
            or WORD_INITIALS.isdisjoint(phrase)
            or written_as_initial(phrase, text)
        }

    def _phrases_of(self, atoms: list[str]) -> set[Phrase]:
        """The phrases among `atoms`, found by their first two words, which are rarely present."""
        pairs = self._starts.keys() & set(pairwise(atoms))
        if not pairs:
            return set()
        return {
            phrase
            for place, pair in enumerate(pairwise(atoms))
            if pair in pairs
            for phrase in self._starts[pair]
            if tuple(atoms[place : place + len(phrase)]) == phrase
        }

    @cached_property
    def _starts(self) -> dict[tuple[str, str], list[Phrase]]:
        """The phrases by their first two words."""
        found: dict[tuple[str, str], list[Phrase]] = {}
        for phrase in chain.from_iterable(self.phrases.values()):
            found.setdefault((phrase[0], phrase[1]), []).append(phrase)
        return found

    @cached_property
    def _long_names(self) -> dict[str, list[str]]:
        """The names that are also found inside a longer word, by their first letters."""
        found: dict[str, list[str]] = {}
        for name in self.persons:
            if len(name) >= MIN_INSIDE and name.isalpha():
                found.setdefault(name[:MIN_INSIDE], []).append(name)
        return found

    def _names_inside(self, atoms: set[str]) -> set[str]:
        """The long names inside of words, as in `patlindqvist` and `lindqvist2`."""
        found = set()
        for run in letter_runs(atoms - self.own, MIN_INSIDE):
            for place in range(len(run) - MIN_INSIDE + 1):
                for name in self._long_names.get(run[place : place + MIN_INSIDE], ()):
                    if run not in self.own and run.startswith(name, place):
                        found.add(name)
        return found

    @cached_property
    def _name_atoms(self) -> frozenset[str]:
        return frozenset(atom for one in self.persons for atom in one.split() if len(atom) > 1)

    def _names_next_to_digits(
        self, text: str, atoms: set[str], without: Callable[[str], str] | None
    ) -> set[str]:
        """The names that only a digit or a capital separates from the next word.

        Examples are `Doe2` and `FrauMeier`.
        """
        if divided(text, atoms).isdisjoint(self._name_atoms):
            return set()
        apart = split_words(text)
        simple = normalize(apart)
        parts = tokens_of(without(simple) if without is not None else simple)
        return (self._phrases_in(parts, apart) | self.words.intersection(parts)) & self.persons


def collect(
    raw: Iterable[str],
    own: frozenset[str],
    persons: Iterable[str] = (),
    prose: frozenset[str] = frozenset(),
    patients: Iterable[str] = (),
) -> PrivateStrings:
    """The private strings of `raw`, `persons` and `patients` in every spelling.

    `persons` are names, `patients` ids of patients and exams. A word of `own` is not private by
    itself; in a name, this applies only to words of `prose`.
    """
    words: set[str] = set()
    ids: set[str] = set()
    joined: set[str] = set()
    known_ids = set(patients)
    phrases: dict[str, set[Phrase]] = {}
    days: set[date] = set()

    def add(phrase: Phrase) -> str:
        if len(phrase) == 1:
            words.add(phrase[0])
        else:
            phrases.setdefault(phrase[0], set()).add(phrase)
        return " ".join(phrase)

    for text in raw:
        found = {add(phrase) for phrase in spellings(text, own)}
        if text in known_ids or (
            not re.search(r"\s", text) and sum(map(str.isdigit, text)) >= MIN_ID_DIGITS
        ):
            ids.update(one for one in found if any(map(str.isdigit, one)))
        days |= dates_in(normalize(text))
    for text in known_ids:
        joined.update(add(phrase) for phrase in id_spellings(text, own))
    written = {form for text in known_ids for form in written_ids(text)}
    names = list(persons)
    known = {add(phrase) for name in names for phrase in name_spellings(name, prose)}
    return PrivateStrings(
        frozenset(words),
        {first: frozenset(some) for first, some in phrases.items()},
        frozenset(days),
        frozenset(known),
        frozenset(part for name in names for part in name_parts(tokens_of(normalize(name)))),
        own | prose,
        frozenset(ids | joined | written),
        frozenset(joined | written),
    )
