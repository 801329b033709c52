"""What the folders and the name of a file say against a row that names it.

Another patient, exam day or place.
"""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import date

from sono.curation.clinical.name_variants import words_of
from sono.curation.clinical.placeholders import id_form, is_exam_day
from sono.curation.records.evidence import (
    CANDIDATES,
    CONFLICT,
    NO_RECORD,
    FileFacts,
    Match,
    compare,
    lines_of,
)
from sono.curation.records.identity import ids_differ, known
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
_DAY = re.compile(r"((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)", re.ASCII)


class Paths:
    """The files that are joined together.

    Folders that all of them share name no single patient or day.
    """

    def __init__(self, files: Sequence[FileFacts], table: RecordsTable) -> None:
        self.table = table
        paths = [_parts(facts)[:-1] for facts in files]
        self.shared = shared_start(min(paths), max(paths)) if len(paths) > 1 else 0

    def checked(self, match: Match) -> Match:
        """The match by name.

        A conflict where the path of the file says that the row is of something else.
        """
        record, facts = match.record, match.file
        if record is None:
            return match
        for why, others in (
            self._place(facts, record),
            self._person(facts, record),
            self._day(facts, record),
        ):
            if why:
                rows = (record, *others[: CANDIDATES - 1])
                told = f"{lines_of([record])} names the file, whose {why}"
                return Match(facts, None, rows, "", (NO_RECORD, CONFLICT), told)
        return match

    def _place(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """An absolute path counts elsewhere if one folder moved.

        That of all such paths, and nobody's own.
        """
        key, path = path_parts(record.key), _parts(facts)
        same = _common_end(key, path)
        before, now = key[: len(key) - same], path[: len(path) - same]
        if not ABSOLUTE.match(record.key) or not before or not now or self._agrees(facts, record):
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
        held = [
            *self._names(facts, record),
            *(text for part in _parts(facts) for text in _PATH_ID.findall(part)),
        ]
        if not all(ids_differ(text, record.patient) for text in held if known(text)):
            return "", ()
        others = [row for text in held for row in self.table.patients.get(id_form(text), ())]
        if others:
            return f"name or folder holds the patient id of {lines_of(others[:1])}", others
        alike = any(_is_written_alike(text, record.patient or "") for text in held)
        return ("name or folder holds the id of another patient" if alike else ""), ()

    def _names(self, facts: FileFacts, record: Record) -> Iterator[str]:
        """The folders and the stem of a file in full.

        A number that the row's own path has counts files or folders.
        """
        *folders, name = _parts(facts)
        own = {*path_parts(without_suffix(record.key)), *path_parts(record.key)}
        for part in (*folders[self.shared :], without_suffix(name)):
            if not (part.isdecimal() and part in own):
                yield part

    def _day(self, facts: FileFacts, record: Record) -> tuple[str, Sequence[Record]]:
        """A folder that is called by another day than the row's exam date, where the header has
        none.
        """
        if facts.day is not None or record.exam_date is None:
            return "", ()
        days = [day for part in _parts(facts)[self.shared : -1] if (day := _day_of(part))]
        apart = [abs((day - record.exam_date).days) for day in days]
        other = bool(apart) and min(apart) > self.table.rules.tolerance_days
        return ("folder has another date than the row's exam date" if other else ""), ()

    def _agrees(self, facts: FileFacts, record: Record) -> bool:
        return compare(facts, record, self.table.rules.tolerance_days).agrees


def _parts(facts: FileFacts) -> list[str]:
    return path_parts(os.fsdecode(facts.path))


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


def _day_of(folder: str) -> date | None:
    found = _DAY.fullmatch(folder)
    try:
        day = date(int(found[1]), int(found[3]), int(found[4])) if found else None
    except ValueError:
        return None
    return day if day and is_exam_day(day) else None
