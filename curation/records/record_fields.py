"""Write the matching records into the measured rows of files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from sono.curation.clinical.name_variants import words_of
from sono.curation.clinical.placeholders import known_id
from sono.curation.clinical.values import shape
from sono.curation.core.geometry import is_square
from sono.curation.core.reasons import CONTAINERS, REASONS, verdict_of
from sono.curation.core.tables import Row
from sono.curation.privacy.misread import says_private
from sono.curation.privacy.source_names import names_of
from sono.curation.readers.dicom_regions import MAX_PICTURE_MM, is_too_wide
from sono.curation.readers.source import header_of
from sono.curation.records.evidence import DIFFERS, JOIN_CODES, FileFacts, Match
from sono.curation.records.identity import machines_differ
from sono.curation.records.joins import join
from sono.curation.records.table import Record, RecordsTable, claim_of

RECORD_FIELDS = (
    "plane", "region", "ga_days", "ga_source", "laterality", "presentation", "findings",
    "structures", "bmi_band", "parity", "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm",
)  # fmt: skip
OF_RECORD = ("partition", "named_by", "record_note", "site")  # written with the fields
RECORD_REASONS = ("ga_conflict", "not_square", DIFFERS, *JOIN_CODES)
# columns of the file that a record may fill
REPLACED = ("center", "machine", "row_spacing_mm", "col_spacing_mm", "spacing_reason")
# Reasons of files that are not frames, so that no record can describe them.
NOT_FRAMES = frozenset(
    {
        "mask_image",
        "not_an_image",
        "pixel_data",
        "system_file",
        "no_pixels",
        "structured_report",
        "not_a_file",
        "broken_link",
        *CONTAINERS,
    }
)


def forget_records(rows: list[Row]) -> None:
    """Remove from `rows` what earlier records wrote into them."""
    for row in rows:
        row["reasons"] = [code for code in row["reasons"] if code not in RECORD_REASONS]
        row.update(dict.fromkeys((*RECORD_FIELDS, *OF_RECORD, "from_report")))
        row.update(raw_patient=row.get("file_patient"), raw_study=row.get("file_study"))
        row.update(json.loads(_known(row.get("replaced")) or "{}"), replaced=None)


def join_records(
    rows: list[Row],
    records: RecordsTable | None,
    partition: Mapping[int, str],
    others: Iterable[Row] = (),
) -> list[Match]:
    """Write patient, center and record fields into `rows`, and their splits by `partition`.

    `partition` maps lines of the table to splits. `others` are further rows of the study, whose
    headers may show that an id belongs to several people. Returns the match of each file that
    contains a frame.
    """
    matches = (
        {}
        if records is None
        else {match.file.path: match for match in join(files_of(rows), records, files_of(others))}
    )
    for row in rows:
        match = matches.get(row["path"])
        if match is not None:
            matches[row["path"]] = match = _with_difference(match, _fill(row, match))
            row["record_note"] = match.why or None
            named = {partition.get(one.line) for one in match.applied_rows}
            row["partition"] = named.pop() if len(named) == 1 else None
        elif records is not None and row["status"] != "error" and isinstance(row["file"], str):
            row["reasons"] = [*row["reasons"], "no_record"]
        _judge_print(row)
        for name in ("raw_patient", "raw_study"):
            row[name] = row[name] if known_id(_known(row[name])) else None
    return list(matches.values())


def files_of(rows: Iterable[Row]) -> list[FileFacts]:
    """The facts of each file of `rows` that may contain a frame (not a structured report)."""
    facts: dict[bytes, FileFacts] = {}
    for row in rows:
        if row["path"] not in facts and NOT_FRAMES.isdisjoint(row["reasons"]):
            facts[row["path"]] = facts_of(row)
    return list(facts.values())


def facts_of(row: Row) -> FileFacts:
    """The facts of the file of a row, independent of records."""
    return FileFacts(
        row["path"],
        patient=_known(row["file_patient"]),
        study=_known(row["file_study"]),
        exam_date=_known(row["raw_exam_date"]),
        digest=_known(row["file_sha256"]),
        header=header_of(row["header_facts"]),
        center=_known(row["namespace"]),
        matched_before=row.get("named_by") is not None,
        root=row["root"],
    )


def _with_difference(match: Match, differing: str) -> Match:
    """The match with a note on the facts in which its record differs from the file."""
    if not differing or DIFFERS in match.codes:
        return match
    return replace(
        match, codes=(*match.codes, DIFFERS), why="; ".join(filter(None, (match.why, differing)))
    )


def _fill(row: Row, match: Match) -> str:
    """Write the record of a match, or only what does not depend on the exam day, into `row`.

    A spacing and a machine of the file itself are kept. Returns a text on how the record differs
    from them, "" for no difference.
    """
    row["replaced"] = json.dumps({name: _or_none(row.get(name)) for name in REPLACED})
    record, differing = match.record, ""
    if record is not None:
        for name in RECORD_FIELDS:
            value = getattr(record, name)
            row[name] = list(value) if isinstance(value, tuple) else value
        row["raw_study"] = record.study or _known(row["raw_study"])
        differing = "; ".join(filter(None, (_set_spacing(row, record), _set_machine(row, record))))
    row["named_by"] = [claim_of(one) for one in match.named] or None
    row["ga_days"], row["ga_source"] = match.ga_days, match.ga_source
    sites = {one.site for one in match.applied_rows}
    row["site"] = sites.pop() if len(sites) == 1 else None
    row["raw_patient"] = match.patient
    row["center"] = row["center"] or match.center
    met = (*match.rows, *match.owners)
    row["private"] = [*row["private"], *(text for one in met for text in one.private)]
    persons = () if row.get("persons") is None else row["persons"]
    row["persons"] = [*persons, *(text for one in met for text in one.persons)]
    if row["status"] != "error" and isinstance(row["file"], str):
        row["reasons"] = [
            *row["reasons"],
            *match.codes,
            *(["ga_conflict"] if match.ga_conflicts else []),
        ]
        row["reasons"] += [DIFFERS] if differing else []
    return differing


def _set_spacing(row: Row, record: Record) -> str:
    """Use the record's pixel spacing in mm if the file has none, else return how it differs.

    The record's spacing is of the file's pixels; that of stored pixels, which may have been
    resampled, is scaled.
    """
    down, across = record.row_spacing_mm, record.col_spacing_mm
    if down is None or across is None:
        return ""
    spacing = f"line {record.line} gives a spacing of {down:.4g} x {across:.4g} mm"
    picture = "source" if pd.isna(row.get("file_height")) else "file"
    height, width = row.get(f"{picture}_height"), row.get(f"{picture}_width")
    if height and width and is_too_wide(int(height), int(width), down, across):
        return (
            f"{spacing}, which would make the image wider than {MAX_PICTURE_MM:g} mm, so it is "
            "not used"
        )
    if "rotated_by_exif" in row["reasons"] and not is_square(down / across):
        return (
            f"{spacing}, but the orientation tag rotates the image: give one value for both, or "
            "square pixels"
        )
    rows, columns = 1.0, 1.0
    if not pd.isna(row.get("file_height")):
        rows, columns = (
            row["file_height"] / row["source_height"],
            row["file_width"] / row["source_width"],
        )
    if None in (_or_none(row["row_spacing_mm"]), _or_none(row["col_spacing_mm"])):
        row.update(
            {
                "row_spacing_mm": down * rows,
                "col_spacing_mm": across * columns,
                "spacing_reason": None,
            }
        )
        if not is_square(down * rows / (across * columns)):
            row["reasons"] = [*row["reasons"], "not_square"]
        return ""
    own = row["row_spacing_mm"] / rows, row["col_spacing_mm"] / columns
    if is_square(down / own[0]) and is_square(across / own[1]):  # equal but for rounding
        return ""
    return f"{spacing} and the header {own[0]:.4g} x {own[1]:.4g} mm"


def _set_machine(row: Row, record: Record) -> str:
    """Use the record's machine if the file has none, else return how it differs.

    A name with fewer words is no difference.
    """
    own = _known(row["machine"])
    row["machine"] = own or record.machine
    if not own or not record.machine or not machines_differ(own, record.machine):
        return ""
    one, other = words_of(own), words_of(record.machine)
    persons = words_of(*record.persons, *(row["persons"] if row.get("persons") is not None else ()))
    theirs, ours = (
        shape(text) if words & persons else text
        for text, words in ((record.machine, other), (own, one))
    )
    return f"line {record.line} gives the machine '{theirs}' and the header '{ours}'"


def _or_none(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value


def _judge_print(row: Row) -> None:
    """Quarantine a frame in which a private string of its own file or record was read."""
    printed = row.get("printed")
    if printed is None or len(printed) == 0:
        return
    raw = [
        *row["private"],
        *names_of(row["path"], row["root"]),
        row["raw_patient"],
        row["raw_study"],
    ]
    if says_private(printed, (text for text in raw if isinstance(text, str))):
        meaning = REASONS["private_text"].meaning
        row |= asdict(verdict_of([*row["reasons"], "private_text"], meaning))


def _known(value: Any) -> str | None:
    return value if isinstance(value, str) else None
