"""The name of a folder as the id of a patient or study, where `match_folders` is set.

A plain number may also count exams, series or days, so it is an id only if nothing else is likely.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from sono.curation.clinical.placeholders import known
from sono.curation.records.evidence import FileFacts
from sono.curation.records.identity import unpadded
from sono.curation.records.table import Record, RecordsTable, path_parts

MAX_COUNTER_DIGITS = 2  # a longer number may be an id
MIN_ID_DIGITS = 5  # an id of so many digits may name several folders
_NUMERIC = re.compile(r"[\d\W_]+")  # a number or a date
_COUNTER = re.compile(rf"\d{{1,{MAX_COUNTER_DIGITS}}}|(?:19|20)\d\d")  # or a year


class Folders:
    """The folders of all files of one join, and the ids that they give."""

    def __init__(self, files: Sequence[FileFacts], table: RecordsTable) -> None:
        self.table = table
        self.numbers: dict[str, set[str]] = {}  # patients of the table by their number
        for form in table.patients:
            if form.isdecimal():
                self.numbers.setdefault(unpadded(form), set()).add(form)
        self.places: dict[str, set[str]] = {}  # folders by their number
        for facts in files:
            folders = path_parts(os.fsdecode(facts.path))[:-1]
            for part, place in zip(folders, accumulate(folders, "{}/{}".format), strict=True):
                if part.isdecimal():
                    self.places.setdefault(unpadded(part), set()).add(place)

    def identified(self, facts: FileFacts) -> FileFacts:
        """The file with the id of its folder as study or patient, if its header lacks one.

        Folders above the one given to `sono qc` are of the machine, not of a patient. Where the
        folders may be several ids, `folder_rows` are the rows that have them.
        """
        study_known = bool(facts.study and self.table.of_study(facts.study))
        above = len(path_parts(os.fsdecode(facts.root))) - 1
        folders = path_parts(os.fsdecode(facts.path))[max(above, 0) : -1]
        named = [part for part in folders if self._rows(part)]
        if not named or (study_known and facts.patient_form):
            return facts
        rows = {id(row): row for part in named for row in self._rows(part)}
        sure = [part for part in named if not self._is_counter(part, folders)]
        if not sure or not self._is_one(sure):
            return replace(facts, folder_rows=tuple(rows.values()))
        if self.table.of_study(sure[-1]):
            return facts if study_known else replace(facts, study=sure[-1])
        return facts if facts.patient_form else replace(facts, patient=sure[-1])

    def _rows(self, part: str) -> list[Record]:
        return [*self.table.of_study(part), *self.table.of_patient(part)]

    def _is_counter(self, part: str, folders: Sequence[str]) -> bool:
        """Whether a folder may count something: a short number or year next to numbers and ids."""
        return _COUNTER.fullmatch(part) is not None and any(
            other != part and (_NUMERIC.fullmatch(other) or self.table.of_patient(other))
            for other in folders
        )

    def _is_one(self, named: Sequence[str]) -> bool:
        """Whether the folders `named` give one patient and at most one study."""
        studies = [self.table.of_study(part) for part in named if self.table.of_study(part)]
        patients = {part for part in named if self.table.of_patient(part)}
        owners = {known(row.patient) for rows in studies for row in rows}
        several = len({frozenset(map(id, rows)) for rows in studies}) > 1
        return (
            not several
            and len(patients | (owners - {None})) <= 1
            and not (patients and None in owners)
            and all(map(self._is_one_number, named))
        )

    def _is_one_number(self, part: str) -> bool:
        """Whether a plain number is one patient's in the table, and one folder's if it is short."""
        if not part.isdecimal():
            return True
        number = unpadded(part)
        few = len(part) >= MIN_ID_DIGITS or len(self.places.get(number, ())) < 2
        return few and len(self.numbers.get(number, ())) < 2
