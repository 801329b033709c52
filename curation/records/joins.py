"""Join records and files by evidence that is one to one in both directions."""

from collections.abc import Sequence
from dataclasses import replace

from sono.curation.clinical.dating import days_from_due, days_from_lmp, disagreeing
from sono.curation.clinical.gestational_age import MAX_GA_DAYS, MIN_GA_DAYS
from sono.curation.clinical.placeholders import id_form
from sono.curation.records.evidence import (
    CANDIDATES,
    CONFLICT,
    NO_RECORD,
    ONE_IMAGE,
    UNDECIDED,
    FileFacts,
    Match,
    ambiguous,
    compare,
    contradiction_of,
    date_problem,
    days_apart,
    lines_of,
    unread_date,
)
from sono.curation.records.folder_ids import Folders
from sono.curation.records.identity import same_person
from sono.curation.records.name_joins import Names
from sono.curation.records.path_evidence import PathEvidence
from sono.curation.records.shared_ids import People
from sono.curation.records.table import (
    EXAM_FIELDS,
    IMAGE_FIELDS,
    JoinRules,
    Record,
    RecordsTable,
    without,
    without_day,
)

# Between the study date and the acquisition date of a header; beyond, a clock may be wrong.
MAX_CLOCK_DAYS = 7


def join(
    files: Sequence[FileFacts], table: RecordsTable, witnesses: Sequence[FileFacts] = ()
) -> list[Match]:
    """The match of each file, in the order of `files`.

    Pass all `files` that the table may describe at once, because a row that names a file is
    applied only if its name fits no other file. `witnesses` are further files of the study: their
    headers may show that an id belongs to several people, or that an exam has several images. A
    row that also names a witness without a match is not applied.
    """
    own = {facts.path for facts in files}
    further = [facts for facts in witnesses if facts.path not in own]
    named = Names(files, table, [facts for facts in further if not facts.matched_before])
    if table.match_folders:
        folders = Folders((*files, *further), table)
        files, further = (list(map(folders.identified, one)) for one in (files, further))
    people = People((*files, *further))
    paths = PathEvidence(files, table)
    by_name = [paths.checked(named.match(facts)) for facts in files]
    matches = [_with_named_rows(found, _match(found, table, people)) for found in by_name]
    ids = _ids_of_shared_rows(matches)
    near = [one for one in further if not ids.isdisjoint(map(id_form, _ids_of(one)))]
    elsewhere = [_match(Match(facts), table, people) for facts in near]
    return _with_facts_of_one_image(matches, elsewhere)


def _with_named_rows(by_name: Match, match: Match) -> Match:
    """The match with all rows that were found by name or id, whether applied or not."""
    rows = (*by_name.rows, *by_name.owners, *match.rows)
    return replace(match, named=tuple({id(row): row for row in rows}.values()))


def _ids_of(facts: FileFacts) -> tuple[str, ...]:
    return (facts.patient_form or "", *facts.exam_ids)


def _ids_of_shared_rows(matches: Sequence[Match]) -> set[str]:
    """The ids of applied rows that have facts of one image but name none."""
    rows = (match.record for match in matches if match.record and match.record.kind != "image")
    return {
        id_form(identity)
        for row in rows
        if any(getattr(row, name) for name in IMAGE_FIELDS)
        for identity in (row.patient, row.study, row.accession)
        if identity
    }


def _with_facts_of_one_image(matches: Sequence[Match], elsewhere: Sequence[Match]) -> list[Match]:
    """The matches, without facts of one image where the row of an exam fits several images.

    A row also fits a file of its patient without a date. Copies of one file are one image.
    `elsewhere` are matches of further files.
    """
    images: dict[int, set[str | bytes]] = {}
    for match in (*matches, *elsewhere):
        undated = () if CONFLICT in match.codes or match.file.day else match.applied_rows
        for row in (match.record,) if match.record else undated:
            if row.kind != "image":
                images.setdefault(row.line, set()).add(match.file.content)
    counts = {line: len(found) for line, found in images.items() if len(found) > 1}
    return [
        _without_facts_of_image(match, match.record, counts[match.record.line])
        if match.record is not None and match.record.line in counts
        else match
        for match in matches
    ]


def _without_facts_of_image(match: Match, record: Record, count: int) -> Match:
    """The match without the facts of one image, because its record fits `count` images."""
    lost = [name.removeprefix("row_") for name in IMAGE_FIELDS if getattr(record, name)]
    if not lost:
        return match
    shown = ", ".join(name.removesuffix("_mm") for name in lost if name != "col_spacing_mm")
    why = f"line {record.line} fits {count} images; facts of one image ({shown}) are not used"
    by_ids = [_without_facts_of_image(part, record, count) for part in match.parts[1:]]
    return replace(
        match,
        record=without(record, IMAGE_FIELDS),
        parts=(*match.parts[:1], *by_ids),
        codes=(*match.codes, ONE_IMAGE),
        why="; ".join(filter(None, (match.why, why))),
    )


def _match(by_name: Match, table: RecordsTable, people: People) -> Match:
    facts = by_name.file
    if by_name.record is not None:
        return _dated(by_name, _rows_of_patient(by_name, table, people), table.rules)
    if by_name.evidence:  # the row names the file, but has another exam date
        return _dated(by_name, by_name.rows, table.rules)
    by_id = _by_id(facts, table, people)
    if by_id is None:
        return by_name
    found = _dated(by_id, by_id.rows, table.rules) if by_id.evidence else by_id
    if by_name.codes == (NO_RECORD,):
        return found
    kept = tuple(code for code in by_name.codes if not (found.evidence and code == NO_RECORD))
    codes, why = (
        tuple(dict.fromkeys((*kept, *found.codes))),
        "; ".join(filter(None, (by_name.why, found.why))),
    )
    return replace(
        found,
        codes=codes,
        why=why,
        others=by_name.others,
        owners=by_name.owners,
        parts=(by_name, found),
    )


# Matches by ids


def _by_id(facts: FileFacts, table: RecordsTable, people: People) -> Match | None:
    """The match by the ids of the exam, else by the patient's id; None if no row has them."""
    tolerance = table.rules.tolerance_days
    by_exam = {id(row): row for identity in facts.exam_ids for row in table.of_study(identity)}
    rows = list(by_exam.values()) or (
        table.of_patient(facts.patient or "") if facts.patient_form else []
    )
    if not rows and facts.folder_rows:
        rows = list(facts.folder_rows)
        why = (
            f"its folders may be ids of {lines_of(rows)}, or count exams, series or days; write "
            "the path of the file or longer ids in the table"
        )
        return ambiguous(facts, tuple(rows[:CANDIDATES]), (), why)
    if not rows:
        return None
    what = "exam id" if by_exam else "patient id"
    verdicts = {id(row): compare(facts, row, tolerance) for row in rows}
    own = [row for row in rows if not verdicts[id(row)].of_person]
    sound = [row for row in own if verdicts[id(row)].same_exam]
    if not own or (by_exam and not sound):
        problem = contradiction_of(facts, rows[0], verdicts[id(rows[0])].contradiction)
        why = (
            f"{problem}, although it has the file's {what}"
            if len(rows) == 1
            else (
                f"{lines_of(rows)} have the file's {what}, but each of them contradicts the file "
                f"(for example, {problem})"
            )
        )
        return Match(facts, None, tuple(rows[:CANDIDATES]), "", (NO_RECORD, CONFLICT), why)
    strangers = [row for row in rows if verdicts[id(row)].of_person]
    if by_exam:
        own = sound
        claims = [row for row in sound if not verdicts[id(row)].contradiction] or sound
        unsure = not all(people.exam_decided(facts, row, strangers) for row in claims)
    else:
        unsure = not all(people.person_decided(facts, row, strangers) for row in own)
    if unsure or not all(same_person(own[0], row) for row in own):
        why = (
            f"several people or exams have the file's {what}, and nothing shows whether "
            f"{lines_of(own)} describes this file"
        )
        return ambiguous(facts, tuple(own[:CANDIDATES]), (), why)
    if not sound:
        why = contradiction_of(facts, own[0], verdicts[id(own[0])].contradiction)
        return Match(facts, None, tuple(own), what, (UNDECIDED, CONFLICT), why)
    return _of_exam(facts, own, sound, what, tolerance) or _partial(facts, own, what)


def _of_exam(
    facts: FileFacts, rows: Sequence[Record], sound: Sequence[Record], evidence: str, tolerance: int
) -> Match | None:
    """The match with the only row that is nearest in date within the tolerance; None for none.

    If the evidence is an exam id, a single row without a date matches, too.
    """
    apart = {id(row): days_apart(facts, row) for row in sound}
    near = [
        (days, row) for row in sound if (days := apart[id(row)]) is not None and days <= tolerance
    ]
    best = [row for days, row in near if days == min(days for days, _ in near)]
    if len(best) == 1:
        return Match(facts, best[0], tuple(rows), f"{evidence} and exam date")
    if evidence == "exam id" and len(sound) == 1 and apart[id(sound[0])] is None:
        return Match(facts, sound[0], tuple(rows), evidence)
    return None


def _partial(facts: FileFacts, rows: Sequence[Record], evidence: str) -> Match:
    """A match with all rows of the patient, because none is known to describe the file's exam."""
    if len(rows) == 1 and days_apart(facts, rows[0]):
        why = date_problem(facts, rows[0])
    elif facts.day is None and any(row.exam_date for row in rows):
        why = f"the file has no study date to compare with {lines_of(rows)}"
    elif facts.day is not None and all(days_apart(facts, row) for row in rows):
        why = f"none of {lines_of(rows)} has the file's study date"
    else:
        lacks = (
            unread_date(rows[0])
            if rows[0].exam_date_unread
            else f"{lines_of(rows)} has no exam date"
        )
        why = f"no date decides between {lines_of(rows)}" if len(rows) > 1 else lacks
    return Match(facts, None, tuple(rows), evidence, (UNDECIDED,), why)


# Ages on the file's study date


def _rows_of_patient(match: Match, table: RecordsTable, people: People) -> tuple[Record, ...]:
    """The rows of the applied record's patient, which may contain the dates of the pregnancy."""
    record, facts = match.record, match.file
    patient = facts.patient if facts.patient_form else record.patient if record else None
    rows = table.of_patient(patient) if patient and record else []
    tolerance = table.rules.tolerance_days
    return tuple(
        row
        for row in rows
        if record
        and same_person(record, row)
        and not compare(facts, row, tolerance).of_person
        and people.person_decided(facts, row, ())
    )


def _dated(match: Match, rows: Sequence[Record], rules: JoinRules) -> Match:
    """The match with the gestational age on the file's study date.

    The due date or last period may come from any of the `rows`.
    """
    record, day = match.record, match.file.day
    if record is not None and record.exam_date_unread:
        match = replace(match, codes=(*match.codes, UNDECIDED), why=unread_date(record))
    if day is None and record is not None:
        day = record.exam_date
    shift = _days_later(match)
    if (
        record is not None
        and shift
        and record.kind != "image"
        and any(getattr(record, name) for name in EXAM_FIELDS)
    ):
        why = (
            f"{date_problem(match.file, record)}: the row's sizes, findings and plane belong to "
            "its own exam date"
        )
        match = replace(match, record=without_day(record), codes=(*match.codes, UNDECIDED), why=why)
    stated = {name: days + shift for name, days in record.stated.items()} if record else {}
    datings = {name: days for name, days in stated.items() if MIN_GA_DAYS <= days <= MAX_GA_DAYS}
    problem, doubtful = "", _doubtful_day(match, rules)
    for name, to_days in (("due", days_from_due), ("lmp", days_from_lmp)):
        own = getattr(record, name) if record else None
        known = {own} if own else {getattr(row, name) for row in rows} - {None}
        if day is None or doubtful:
            missing = doubtful or "there is no exam date to count from"
            problem = problem or (missing if known else "")
            continue
        ages = {
            age for start in known if MIN_GA_DAYS <= (age := to_days(day, start)) <= MAX_GA_DAYS
        }
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
    withheld = (
        record is not None
        or (source is None and any(map(_is_dated, rows)))
        or any(map(_has_exam_facts, rows))
    )
    return match if withheld else replace(match, codes=(), why="")


def _doubtful_day(match: Match, rules: JoinRules) -> str:
    """Why the study date of a file may be wrong, "" if it is not doubtful.

    The exam date of an applied record confirms it.
    """
    days = match.file.clock_days
    confirmed = match.record is not None and match.record.exam_date is not None
    if confirmed or days <= max(MAX_CLOCK_DAYS, rules.tolerance_days):
        return ""
    return f"its study and acquisition dates are {days} days apart"


def _days_later(match: Match) -> int:
    """Days from the exam date of the applied record to the study date of its file."""
    day, exam = match.file.day, match.record.exam_date if match.record else None
    return (day - exam).days if day and exam else 0


def _is_dated(row: Record) -> bool:
    return row.due is not None or row.lmp is not None


def _has_exam_facts(row: Record) -> bool:
    return (
        bool(row.stated) or row.exam_date_unread or any(getattr(row, name) for name in EXAM_FIELDS)
    )
