"""Which record belongs to which file: by evidence that is one to one in both directions, else none, with a reason."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sono.curation.records.ages import MAX_GA_DAYS, MIN_GA_DAYS
from sono.curation.records.dating import days_from_due, days_from_lmp, disagreeing
from sono.curation.records.evidence import (
    CANDIDATES,
    CONFLICT,
    NO_RECORD,
    UNDATED,
    UNDECIDED,
    FileFacts,
    Match,
    compare,
    date_problem,
    days_apart,
    lines_of,
)
from sono.curation.records.name_joins import Names
from sono.curation.records.table import JoinRules, Record, RecordsTable, path_parts

# What a record says of an exam or a frame, beside the age.
EXAM_FIELDS = (
    "plane", "region", "laterality", "presentation", "findings", "structures",
    "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm", "row_spacing_mm", "col_spacing_mm",
)  # fmt: skip


def join(files: Sequence[FileFacts], table: RecordsTable) -> list[Match]:
    """The match of each file, in their order.

    All `files` of a run must come together: a name serves a file only if it fits no other one.
    """
    named = Names(files, table)
    identified = [_with_folder_id(facts, table) for facts in files] if table.match_folders else list(files)
    exams = _exams_by_patient(identified)
    return [_match(facts, named, table, exams) for facts in identified]


def _match(facts: FileFacts, named: Names, table: RecordsTable, exams: Mapping[str, int]) -> Match:
    by_name = named.match(facts)
    if by_name.record is not None:
        return _dated(by_name, _of_same_patient(by_name, table), table.rules)
    if by_name.evidence:  # the file's own row, of another day
        return _dated(by_name, by_name.rows, table.rules)
    by_id = _by_id(facts, table, exams)
    if by_id is None:
        return by_name
    found = _dated(by_id, by_id.rows, table.rules) if by_id.evidence else by_id
    if by_name.codes == (NO_RECORD,):
        return found
    kept = tuple(code for code in by_name.codes if not (found.evidence and code == NO_RECORD))
    codes, why = tuple(dict.fromkeys((*kept, *found.codes))), "; ".join(filter(None, (by_name.why, found.why)))
    return replace(found, codes=codes, why=why, others=by_name.others)


# By study and patient


def _with_folder_id(facts: FileFacts, table: RecordsTable) -> FileFacts:
    """The file with the study or patient id that names its nearest folder, where its header has none that serves."""
    study_known = bool(facts.study and table.of_study(facts.study))
    for part in reversed(path_parts(os.fsdecode(facts.path))[:-1]):
        if table.of_study(part):
            return facts if study_known else replace(facts, study=part)
        if table.of_patient(part):
            return facts if facts.patient_form else replace(facts, patient=part)
    return facts


def _exams_by_patient(files: Iterable[FileFacts]) -> Counter[str]:
    """How many exams the files show of each patient: by study, else by day; a file with neither counts as one."""
    exams = {
        (facts.patient_form, facts.study or facts.exam_date or facts.content) for facts in files if facts.patient_form
    }
    return Counter(patient for patient, _ in exams if patient)


def _by_id(facts: FileFacts, table: RecordsTable, exams: Mapping[str, int]) -> Match | None:
    """The match of a file by its study's id, else by its patient's; None where no row has either."""
    tolerance = table.rules.tolerance_days
    studied = table.of_study(facts.study) if facts.study else []
    if studied:
        sound = [row for row in studied if compare(facts, row, tolerance).contradiction in ("", "date")]
        if not sound:
            why = f"{lines_of(studied)} has the file's study id, but another patient"
            return Match(facts, None, tuple(studied[:CANDIDATES]), "", (NO_RECORD, CONFLICT), why)
        return _of_exam(facts, sound, sound, "study id", tolerance) or _partial(facts, sound, "study id")
    rows = table.of_patient(facts.patient or "") if facts.patient_form else []
    if not rows:
        return None
    sound = [row for row in rows if compare(facts, row, tolerance).contradiction in ("", "date")]
    known = exams[facts.patient_form or ""]
    return (
        _of_exam(facts, rows, sound, "patient id", tolerance)
        or _of_only_exam(facts, rows, sound, table.rules, known)
        or _partial(facts, rows, "patient id", known)
    )


def _of_exam(
    facts: FileFacts, rows: Sequence[Record], sound: Sequence[Record], evidence: str, tolerance: int
) -> Match | None:
    """The row of the file's own exam: the nearest in date within the tolerance; by a study id also the only one."""
    apart = {id(row): days_apart(facts, row) for row in sound}
    near = [(days, row) for row in sound if (days := apart[id(row)]) is not None and days <= tolerance]
    best = [row for days, row in near if days == min(days for days, _ in near)]
    if len(best) == 1:
        return Match(facts, best[0], tuple(rows), f"{evidence} and exam date")
    if evidence == "study id" and len(sound) == 1 and apart[id(sound[0])] is None:
        return Match(facts, sound[0], tuple(rows), evidence)
    return None


def _of_only_exam(
    facts: FileFacts, rows: Sequence[Record], sound: Sequence[Record], rules: JoinRules, exams: int
) -> Match | None:
    """The only row of a patient, where a date is missing but the files show no more than one exam of the patient."""
    if len(rows) != 1 or len(sound) != 1 or days_apart(facts, rows[0]) is not None or rows[0].exam_date_unread:
        return None
    of_all = rules.undated == "all_exams" and rows[0].exam_date is None
    if not of_all and (rules.undated == "none" or exams != 1):
        return None
    evidence = "patient id, row of all exams" if of_all else "patient id, only row and only exam"
    why = f"no date shows that line {rows[0].line} is of this exam; it is the patient's only row"
    return Match(facts, rows[0], tuple(rows), evidence, () if of_all else (UNDATED,), "" if of_all else why)


def _partial(facts: FileFacts, rows: Sequence[Record], evidence: str, exams: int = 1) -> Match:
    """The patient's rows, none of which is known to be of the file's exam."""
    if len(rows) == 1 and days_apart(facts, rows[0]):
        why = date_problem(facts, rows[0])
    elif facts.day is None and any(row.exam_date for row in rows):
        why = f"the file has no study date that would decide on {lines_of(rows)}"
    elif facts.day is not None and all(days_apart(facts, row) for row in rows):
        why = f"none of {lines_of(rows)} is of the file's study date"
    elif len(rows) == 1 and exams > 1:
        why = f"{lines_of(rows)} has no exam date, and the patient has {exams} exams here"
    else:
        why = f"no date decides between {lines_of(rows)}" if len(rows) > 1 else f"{lines_of(rows)} has no exam date"
    return Match(facts, None, tuple(rows), evidence, (UNDECIDED,), why)


# Ages on the file's own day


def _of_same_patient(match: Match, table: RecordsTable) -> tuple[Record, ...]:
    record = match.record
    patient = match.file.patient if match.file.patient_form else record.patient if record else None
    return tuple(table.of_patient(patient)) if patient else ()


def _dated(match: Match, rows: Sequence[Record], rules: JoinRules) -> Match:
    """The match with the age on the file's study date; a due date or last period may be that of any of the `rows`."""
    record, day = match.record, match.file.day
    if day is None and record is not None:
        day = record.exam_date
    datings = dict(record.stated) if record else {}
    problem = ""
    for name, to_days in (("due", days_from_due), ("lmp", days_from_lmp)):
        own = getattr(record, name) if record else None
        known = {own} if own else {getattr(row, name) for row in rows} - {None}
        if day is None:
            problem = problem or ("there is no exam date to count from" if known else "")
            continue
        ages = {age for start in known if MIN_GA_DAYS <= (age := to_days(day, start)) <= MAX_GA_DAYS}
        if len(ages) > 1:
            problem = f"{lines_of(rows)} give different ages on the study date"
        elif ages:
            datings[name] = ages.pop()
    if problem:
        datings = {name: days for name, days in datings.items() if name not in ("due", "lmp")}
    source = next((name for name in rules.ga_from if name in datings), None)
    if source is not None:
        conflicts = disagreeing(source, datings)
        match = replace(match, ga_days=datings[source], ga_source=source, ga_conflicts=conflicts)
    elif problem:
        why = "; ".join(filter(None, (match.why, f"the age is unknown: {problem}")))
        return replace(match, codes=tuple(dict.fromkeys((*match.codes, UNDECIDED))), why=why)
    withheld = record is not None or (source is None and any(map(_is_dated, rows))) or any(map(_has_exam_facts, rows))
    return match if withheld else replace(match, codes=(), why="")


def _is_dated(row: Record) -> bool:
    return row.due is not None or row.lmp is not None


def _has_exam_facts(row: Record) -> bool:
    return bool(row.stated) or any(getattr(row, name) for name in EXAM_FIELDS)
