"""What the folders and the name of a file say against a row that names it.

Another patient, exam day or place.
"""

import os
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from itertools import combinations

from sono.curation.clinical.name_variants import PARTICLES, normalize, words_of
from sono.curation.clinical.placeholders import id_form, is_exam_day, is_mothers_birth, known
from sono.curation.clinical.written_dates import MONTHS, dates_in
from sono.curation.records.evidence import (
    CANDIDATES,
    CONFLICT,
    NO_RECORD,
    FileFacts,
    Match,
    compare,
    lines_of,
)
from sono.curation.records.identity import (
    ids_differ,
    name_words,
    names_differ,
    same_id,
    same_name,
    unpadded,
)
from sono.curation.records.table import (
    ABSOLUTE,
    Record,
    RecordsTable,
    path_parts,
    shared_start,
    without_suffix,
)

# What may be an id in a path: five letters and digits or more, or a letter and three digits; not
# img_1 or 2024.
_PATH_ID = re.compile(r"(?<![^\W_])(?=[^\W_]*\d)(?:[^\W\d_]+\d{3,}|[^\W_]{5,})(?![^\W_])")
# A folder that counts patients: Patient 2, pat_02, case-12; of a short word no further text, as pt2
# is often a part.
_COUNTED = re.compile(
    r"(?:(?:patient(?:e|in)?|pat|paci?ente|paziente|pac|paz|case|caso|cas|casus|geval|fall(?!\W*(?:19|20)\d\d(?!\d))"
    r"|subject|subj|sub|sujet|sujeto|soggetto|sujeito|proband(?:in)?)(?:[\W_]*(?:no|nr|n°)(?![^\W\d_]))?"
    r"[\W_]*(\d+)(?![^\W_])|pt[\W_]*(\d+)$)"
)
_RUNNING = 2  # digits of a number that may count anything: one more is an id
# A day and nothing else: 20240310, 10.03.2024, 10_Mar_2024. Eight digits that begin with a day may
# be an id.
_DAY = re.compile(
    r"(?:19|20)\d{6}|(?=.*(?<!\d)(?:19|20)\d\d(?!\d))"
    rf"\d{{1,4}}[-._, ]+(?:\d\d?|(?:{'|'.join(MONTHS)})[a-z]*)[-._, ]+\d{{1,4}}"
)
_NAME_LETTERS = re.compile(r"[^\W\d_]+")


class Paths:
    """The files that are joined together.

    Folders that all of them share name no single patient or day.
    """

    def __init__(self, files: Sequence[FileFacts], table: RecordsTable) -> None:
        self.table = table
        self.parts = {facts.path: path_parts(os.fsdecode(facts.path)) for facts in files}
        paths = [parts[:-1] for parts in self.parts.values()]
        self.shared = shared_start(min(paths), max(paths)) if len(paths) > 1 else 0
        self.named: dict[str, list[Record]] = {}  # the rows whose names the letters of a part hold
        self.pairs, self.words = _pairs_of_names(table.records)

    def checked(self, match: Match) -> Match:
        """The match by name.

        A conflict where the path of the file says that the row is of something else.
        """
        record, facts = match.record, match.file
        if record is None:
            return match
        for check in (self._place, self._person, self._number, self._name, self._day):
            why, others = check(facts, record)
            if why:
                rows = (record, *others[: CANDIDATES - 1])
                told = f"{lines_of([record])} names the file, whose {why}"
                return Match(facts, None, rows, "", (NO_RECORD, CONFLICT), told)
        return match

    def _place(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """An absolute path counts elsewhere if one folder moved.

        That of all such paths, and nobody's own.
        """
        if not ABSOLUTE.match(record.key):
            return "", ()
        key, path = path_parts(record.key), self.parts[facts.path]
        same = _common_end(key, path)
        before, now = key[: len(key) - same], path[: len(path) - same]
        if not before or not now or self._agrees(facts, record):
            return "", ()
        if (
            len(before) > self.table.root
            or _numbers_differ(before[-1], now[-1])
            or _names_person(before, record)
        ):
            return (
                "folders above the ones that agree are others than the row's; give the row the "
                "path below RAW",
                (),
            )
        return "", ()

    def _person(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """The id of another row's patient, or one written like that of the row's, where the
        header has none.
        """
        if facts.patient_form or not known(record.patient):
            return "", ()
        own = _own_parts(record.key)
        held = [part for part in self._names(facts) if not (part.isdecimal() and part in own)]
        held += (text for part in self.parts[facts.path] for text in _PATH_ID.findall(part))
        if not all(ids_differ(text, record.patient) for text in held if known(text)):
            return "", ()
        others = [row for text in held for row in self.table.patients.get(id_form(text), ())]
        if others:
            return f"name or folder holds the patient id of {lines_of(others[:1])}", others
        alike = any(_is_written_alike(text, record.patient or "") for text in held)
        return ("name or folder holds the id of another patient" if alike else ""), ()

    def _number(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """A folder or stem that counts patients (Patient 2) otherwise than a plain number that
        is the row's id.
        """
        patient = known(record.patient)
        if facts.patient_form or not patient or not patient.isdecimal():
            return "", ()
        parts = self._names(facts)
        counted = [part for part in parts if _counted(part)]
        own = _own_parts(record.key) if counted else ()
        numbers = {_counted(part) for part in counted if part not in own}
        if not numbers or unpadded(patient) in numbers:
            return "", ()
        if any(len(part) > _RUNNING and not ids_differ(part, patient) for part in parts):
            return "", ()
        return "name or folder has another number than the patient's of the row", ()

    def _name(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """The full name of another row's patient, where neither the header nor the path has
        that of the row's.
        """
        if (
            not self.pairs
            or facts.patient_form
            or same_name(facts.header.get("PatientName"), record.name)
        ):
            return "", ()
        *folders, name = self.parts[facts.path]
        found = [row for part in (*folders, without_suffix(name)) for row in self._rows_named(part)]
        if not found or any(_may_be_named(record, row) for row in found):
            return "", ()
        return f"name or folder holds the name of the patient of {lines_of(found[:1])}", found

    def _rows_named(self, part: str) -> list[Record]:
        """A row for each name of which two words stand in a folder or stem.

        Its digits do not count.
        """
        letters = " ".join(_NAME_LETTERS.findall(part))
        if letters not in self.named:
            words = sorted(self.words.intersection(name_words(letters))) if " " in letters else []
            found = [row for pair in combinations(words, 2) for row in self.pairs.get(pair, ())]
            self.named[letters] = list({id(row): row for row in found}.values())
        return self.named[letters]

    def _names(self, facts: FileFacts) -> list[str]:
        """The folders and the stem of a file, without the folders that all files share."""
        *folders, name = self.parts[facts.path]
        return [*folders[self.shared :], without_suffix(name)]

    def _day(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """A folder that is called by another day than the row's exam date, or a folder or name
        with the patient's id and another day, where the header has none.
        """
        if facts.day is not None or record.exam_date is None:
            return "", ()
        folders = [_days_of(part) for part in self.parts[facts.path][self.shared : -1]]
        if own := known(record.patient):
            folders += [
                frozenset(
                    day
                    for day in _days_with_id(part, own)
                    if not is_mothers_birth(day, record.exam_date)
                )
                for part in self._names(facts)
            ]
        apart = [
            abs((day - record.exam_date).days)
            for days in folders
            if record.birth not in days
            for day in days
        ]
        other = bool(apart) and min(apart) > self.table.rules.tolerance_days
        return ("name or folder has another date than the row's exam date" if other else ""), ()

    def _agrees(self, facts: FileFacts, record: Record) -> bool:
        return compare(facts, record, self.table.rules.tolerance_days).agrees


@lru_cache
def _own_parts(record_key: str) -> frozenset[str]:
    """The parts of a row's own path, with and without its suffix: numbers in them count files or
    folders, not patients.
    """
    *folders, name = path_parts(record_key) or [""]
    return frozenset((*folders, name, without_suffix(name)))


def _common_end(key: Sequence[str], path: Sequence[str]) -> int:
    """How many parts at the end of a key and of a path agree.

    Of the last ones the kind of file does not count.
    """
    pairs = enumerate(zip(reversed(key), reversed(path), strict=False))
    agree = (
        one == other or (not at and without_suffix(one) == without_suffix(other))
        for at, (one, other) in pairs
    )
    return next((count for count, same in enumerate(agree) if not same), min(len(key), len(path)))


def _numbers_differ(one: str, other: str) -> bool:
    """Whether two folders are ids or numbers of one kind.

    P1 and P3, 2023 and 2024, W10001 and 4711.
    """
    both_ids = all(part.isdecimal() or _PATH_ID.search(part) for part in (one, other))
    return both_ids or _is_written_alike(one, other)


def _is_written_alike(one: str, other: str) -> bool:
    """Whether two texts have the same letters and differ in their digits."""
    first, second = id_form(one), id_form(other)
    letters = re.sub(r"\d+", "0", first)
    return (
        letters != first
        and letters not in ("0", "")
        and letters == re.sub(r"\d+", "0", second) != second
    )


def _names_person(folders: Sequence[str], record: Record) -> bool:
    """Whether folders of a row's own path hold the id or a name of its patient."""
    patient = known(record.patient)
    held = {id_form(text) for part in folders for text in (part, *_PATH_ID.findall(part))}
    names = {word for word in words_of(record.name or "") if len(word) > 1}
    return patient in held or not words_of(*folders).isdisjoint(names)


@lru_cache(65536)
def _counted(part: str) -> str:
    """The number of a folder or stem that counts patients, without leading zeros; "" for none."""
    found = _COUNTED.match(normalize(part))
    return unpadded(found[1] or found[2]) if found else ""


@lru_cache(65536)
def _days_of(folder: str) -> frozenset[date]:
    """The days that the whole name of a folder may be, in either order of day and month."""
    text = normalize(folder)
    return frozenset(filter(is_exam_day, dates_in(text))) if _DAY.fullmatch(text) else frozenset()


@lru_cache(65536)
def _days_with_id(part: str, patient: str) -> frozenset[date]:
    """The days in a folder or name that holds the id of the `patient`, too: W10001_2024-03-10."""
    rest = re.sub(rf"(?<![^\W_]){re.escape(patient)}(?![^\W_])", " ", part)
    return (
        frozenset(filter(is_exam_day, dates_in(normalize(rest)))) if rest != part else frozenset()
    )


def _may_be_named(record: Record, other: Record) -> bool:
    """Whether the patient of a row can have the name of another row's."""
    if same_id(record.patient, other.patient):
        return True
    return not (
        names_differ(record.name, other.name)
        if record.name
        else ids_differ(record.patient, other.patient)
    )


def _pairs_of_names(
    records: Sequence[Record],
) -> tuple[dict[tuple[str, str], list[Record]], frozenset[str]]:
    """The rows by every two words of their patient's name, one row a name and patient, and all
    words of names.
    """
    pairs: dict[tuple[str, str], list[Record]] = {}
    rows = {(record.name, record.patient): record for record in reversed(records) if record.name}
    for record in reversed(rows.values()):
        words = {word for word in name_words(record.name or "") if len(word) > 1} - PARTICLES
        for pair in combinations(sorted(words), 2):
            pairs.setdefault(pair, []).append(record)
    return pairs, frozenset(word for pair in pairs for word in pair)
