"""Refuse a row that names a file if the file's path shows another patient, exam day or place."""

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
from sono.curation.records.folder_ids import MAX_COUNTER_DIGITS
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

# A possible id in a path: at least five letters and digits, or a letter and three digits. img_1 and
# 2024 are none.
_PATH_ID = re.compile(r"(?<![^\W_])(?=[^\W_]*\d)(?:[^\W\d_]+\d{3,}|[^\W_]{5,})(?![^\W_])")
# The name of a folder or file that counts patients: Patient 2, pat_02, case-12. Nothing may follow
# the number of the short word pt, because pt2 often means part 2.
_PATIENT_NUMBER = re.compile(
    r"(?:(?:patient(?:e|in)?|pat|paci?ente|paziente|pac|paz|case|caso|cas|casus|geval|fall(?!\W*(?:19|20)\d\d(?!\d))"
    r"|subject|subj|sub|sujet|sujeto|soggetto|sujeito|proband(?:in)?)(?:[\W_]*(?:no|nr|n°)(?![^\W\d_]))?"
    r"[\W_]*(\d+)(?![^\W_])|pt[\W_]*(\d+)$)"
)
# A day and nothing else: 20240310, 10.03.2024, 10_Mar_2024. A longer number that begins with a day
# may be an id.
_DAY = re.compile(
    r"(?:19|20)\d{6}|(?=.*(?<!\d)(?:19|20)\d\d(?!\d))"
    rf"\d{{1,4}}[-._, ]+(?:\d\d?|(?:{'|'.join(MONTHS)})[a-z]*)[-._, ]+\d{{1,4}}"
)
_NAME_LETTERS = re.compile(r"[^\W\d_]+")


class Paths:
    """The paths of all files of one join.

    Folders that all files share do not identify a single patient or day.
    """

    def __init__(self, files: Sequence[FileFacts], table: RecordsTable) -> None:
        self.table = table
        self.parts = {facts.path: path_parts(os.fsdecode(facts.path)) for facts in files}
        paths = [parts[:-1] for parts in self.parts.values()]
        self.shared = shared_start(min(paths), max(paths)) if len(paths) > 1 else 0
        self.rows_by_letters: dict[str, list[Record]] = {}  # results of `_rows_named`
        self.rows_by_number: dict[str, list[Record]] = {}  # of patients whose id is a number
        for form, rows in table.patients.items():
            if form.isdecimal():
                self.rows_by_number.setdefault(unpadded(form), []).extend(rows)
        self.numbers = {
            unpadded(part)
            for parts in self.parts.values()
            for part in parts[self.shared : -1]
            if part.isdecimal()
        }
        self.pairs, self.words = _pairs_of_names(table.records)

    def checked(self, match: Match) -> Match:
        """`match` itself, or a conflict if the path of the file contradicts the row."""
        record, facts = match.record, match.file
        if record is None:
            return match
        for check in (
            self._wrong_place,
            self._wrong_id,
            self._wrong_number,
            self._wrong_name,
            self._wrong_day,
        ):
            why, others = check(facts, record)
            if why:
                message = f"{lines_of([record])} names the file, whose {why}"
                owners = {id(row): row for row in others if row is not record}
                return Match(
                    facts,
                    None,
                    (record,),
                    "",
                    (NO_RECORD, CONFLICT),
                    message,
                    owners=tuple(owners.values())[:CANDIDATES],
                )
        return match

    # Each check returns why the path contradicts the record ("" if it does not), and the rows that
    # the path fits instead.

    def _wrong_place(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """Whether an absolute path of the record cannot have moved to the path of the file.

        It can if only the folder that all absolute paths of the table share was replaced, and this
        folder is not named after the patient.
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
                "path differs from the row's above the folders that agree; write the path below "
                "RAW in the row",
                (),
            )
        return "", ()

    def _wrong_id(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """Whether the path contains the id of another patient, while the header has no id.

        This is the id of another row's patient, or one written like the id of the record's patient
        with other digits.
        """
        if facts.patient_form or not known(record.patient):
            return "", ()
        own = _own_parts(record.key)
        texts = [part for part in self._own_names(facts) if not (part.isdecimal() and part in own)]
        texts += (text for part in self.parts[facts.path] for text in _PATH_ID.findall(part))
        if not all(ids_differ(text, record.patient) for text in texts if known(text)):
            return "", ()
        others = [row for text in texts for row in self._rows_of(text)]
        if others:
            return f"name or folder contains the patient id of {lines_of(others[:1])}", others
        alike = any(_is_written_alike(text, record.patient or "") for text in texts)
        return ("name or folder contains the id of another patient" if alike else ""), ()

    def _rows_of(self, text: str) -> Sequence[Record]:
        """The rows of the patient with an id; a number may have other leading zeros."""
        form = id_form(text)
        by_number = self.rows_by_number.get(unpadded(form), ()) if form.isdecimal() else ()
        return by_number or self.table.patients.get(form, ())

    def _wrong_number(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """Whether a folder or the file counts patients with another number (Patient 2).

        So does a folder that is a number, if another folder has the number of the record's patient.
        This is checked only if the id of the record's patient is a plain number.
        """
        patient = known(record.patient)
        if facts.patient_form or not patient or not patient.isdecimal():
            return "", ()
        parts = self._own_names(facts)
        plain = {unpadded(part) for part in parts[:-1] if part.isdecimal()}
        if unpadded(patient) in self.numbers - plain and plain - set(
            map(unpadded, _own_parts(record.key))
        ):
            return "folder is a number, and another folder has the number of the row's patient", ()
        counted = [part for part in parts if _patient_number(part)]
        own = _own_parts(record.key) if counted else ()
        numbers = {_patient_number(part) for part in counted if part not in own}
        if not numbers or unpadded(patient) in numbers:
            return "", ()
        if any(len(part) > MAX_COUNTER_DIGITS and not ids_differ(part, patient) for part in parts):
            return "", ()
        return "name or folder has another patient number than the row", ()

    def _wrong_name(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """Whether the path contains the full name of another row's patient.

        It does not count if the header or the path contains the name of the record's patient.
        """
        if (
            not self.pairs
            or facts.patient_form
            or same_name(facts.header.get("PatientName"), record.name)
        ):
            return "", ()
        *folders, name = self.parts[facts.path]
        found = [row for part in (*folders, without_suffix(name)) for row in self._rows_named(part)]
        if not found or any(_may_share_name(record, row) for row in found):
            return "", ()
        return f"name or folder contains the name of the patient of {lines_of(found[:1])}", found

    def _rows_named(self, part: str) -> list[Record]:
        """The rows whose patient's name has two words in `part`, a folder or stem.

        Digits in `part` are ignored.
        """
        letters = " ".join(_NAME_LETTERS.findall(part))
        if letters not in self.rows_by_letters:
            words = sorted(self.words.intersection(name_words(letters))) if " " in letters else []
            found = [row for pair in combinations(words, 2) for row in self.pairs.get(pair, ())]
            self.rows_by_letters[letters] = list({id(row): row for row in found}.values())
        return self.rows_by_letters[letters]

    def _own_names(self, facts: FileFacts) -> list[str]:
        """The folders and the stem of a file, without the folders that all files share."""
        *folders, name = self.parts[facts.path]
        return [*folders[self.shared :], without_suffix(name)]

    def _wrong_day(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """Whether a folder, or a name with the patient's id, has another day than the exam date.

        This is checked only if the header has no study date.
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
                for part in self._own_names(facts)
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
    """The folders and the name of a record's own path, the name with and without its suffix.

    Numbers in them count files or folders, not patients.
    """
    *folders, name = path_parts(record_key) or [""]
    return frozenset((*folders, name, without_suffix(name)))


def _common_end(key: Sequence[str], path: Sequence[str]) -> int:
    """The number of parts that agree at the end of a key and of a path.

    The suffix of the last part is ignored.
    """
    pairs = enumerate(zip(reversed(key), reversed(path), strict=False))
    agree = (
        one == other or (not at and without_suffix(one) == without_suffix(other))
        for at, (one, other) in pairs
    )
    return next((count for count, same in enumerate(agree) if not same), min(len(key), len(path)))


def _numbers_differ(one: str, other: str) -> bool:
    """Whether the names of two folders are ids or numbers that differ.

    Examples: P1 and P3, 2023 and 2024, W10001 and 4711.
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
    """Whether `folders` contain the id of the record's patient or a word of the name."""
    patient = known(record.patient)
    ids = {id_form(text) for part in folders for text in (part, *_PATH_ID.findall(part))}
    names = {word for word in words_of(record.name or "") if len(word) > 1}
    return patient in ids or not words_of(*folders).isdisjoint(names)


@lru_cache(65536)
def _patient_number(part: str) -> str:
    """The number of a folder or stem that counts patients, without leading zeros; "" for none."""
    found = _PATIENT_NUMBER.match(normalize(part))
    return unpadded(found[1] or found[2]) if found else ""


@lru_cache(65536)
def _days_of(folder: str) -> frozenset[date]:
    """The days that the complete name of a folder may mean, in either order of day and month."""
    text = normalize(folder)
    return frozenset(filter(is_exam_day, dates_in(text))) if _DAY.fullmatch(text) else frozenset()


@lru_cache(65536)
def _days_with_id(part: str, patient: str) -> frozenset[date]:
    """The days in a folder or file name that also contains the `patient` id: W10001_2024-03-10."""
    rest = re.sub(rf"(?<![^\W_]){re.escape(patient)}(?![^\W_])", " ", part)
    return (
        frozenset(filter(is_exam_day, dates_in(normalize(rest)))) if rest != part else frozenset()
    )


def _may_share_name(record: Record, other: Record) -> bool:
    """Whether the patients of two records may be one person, so that they share one name."""
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
    """The rows by each pair of words of their patient's name, and all words of these names.

    Each name and patient has one row.
    """
    pairs: dict[tuple[str, str], list[Record]] = {}
    rows = {(record.name, record.patient): record for record in reversed(records) if record.name}
    for record in reversed(rows.values()):
        words = {word for word in name_words(record.name or "") if len(word) > 1} - PARTICLES
        for pair in combinations(sorted(words), 2):
            pairs.setdefault(pair, []).append(record)
    return pairs, frozenset(word for pair in pairs for word in pair)
