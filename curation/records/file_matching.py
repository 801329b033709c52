"""Match the files of an export with a records table, with evidence or reasons, for a report."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from sono.curation.clinical.values import most_common, shape
from sono.curation.core.atomic import real_path
from sono.curation.core.console import progress
from sono.curation.core.tables import empty_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.readers.files import list_sources, name_of, peek_source, without_studies
from sono.curation.records.earlier_runs import EarlierRuns
from sono.curation.records.evidence import NO_RECORD, FileFacts, Match
from sono.curation.records.join_messages import shown_path
from sono.curation.records.joins import join
from sono.curation.records.like_ids import LikeIds
from sono.curation.records.name_encodings import unclear_names_remark
from sono.curation.records.record_fields import files_of
from sono.curation.records.table import RecordsTable, path_parts

MAX_LINES = 20
MAX_FILES = 5  # files that are listed for one row

IsMask = Callable[[bytes], bool]


@dataclass(frozen=True)
class RowJoin:
    """A row and the files that match it by one `rule`.

    `rule` is the evidence and the codes of what is left out, or "no file". `files` are the first of
    `count`; `why` explains what prevents more. A row with several rules occurs several times;
    `applied` is whether this one applies it at least in part.
    """

    line: int
    about: str
    rule: str
    count: int
    files: tuple[str, ...]
    why: str
    applied: bool = False


@dataclass(frozen=True)
class RawMatch:
    """Counts of matched files and rows, patterns of unmatched file names, and all row matches."""

    files: int  # images or DICOM
    other_files: int
    matched: int
    unmatched: int
    unmatched_names: dict[str, int]
    rows_without_file: int
    lines_without_file: tuple[int, ...]  # the first of them
    like_ids: LikeIds  # patient ids of files that the table spells differently
    codes: dict[str, int]  # files by the code of what was left out
    rows: tuple[RowJoin, ...]
    unclear_names: str  # a remark on names in an unknown encoding, "" where there are none

    def examples(self) -> list[tuple[RowJoin, int, int]]:
        """The first row of each rule, with the number of rows and files of that rule.

        A row that is applied to files of its own is not counted where other files contradict it.
        """
        own = {row.line for row in self.rows if row.applied}
        rows = Counter(row.rule for row in self.rows if row.applied or row.line not in own)
        files: Counter[str] = Counter()
        first: dict[str, RowJoin] = {}
        for row in self.rows:
            files[row.rule] += row.count
            first.setdefault(row.rule, row)
        return [(row, rows[rule], files[rule]) for rule, row in first.items()]


@dataclass(frozen=True)
class MatchOptions:
    """How files are matched: the `center` of `sono qc`, and the vault's table `sources`.

    `partition` is the column that the settings use for the splits.

    With `names`, files are shown by their path below the raw folder, else masked. `is_mask` returns
    whether a file is a picture of a mask, which `sono qc` ignores; it is called where files share a
    name.
    """

    names: bool = False
    is_mask: IsMask | None = None
    center: str | None = None
    sources: pd.DataFrame = field(default_factory=partial(empty_table, SOURCES))
    partition: str = ""

    @cached_property
    def centers(self) -> dict[bytes, str]:
        """The center that an earlier run was given for a file, by its path."""
        known = self.sources[["path", "namespace"]].dropna()
        return dict(zip(known["path"], known["namespace"], strict=True))


def match_raw(
    raw: Path | str, table: RecordsTable, table_path: Path, options: MatchOptions
) -> tuple[RawMatch, set[str]]:
    """Match every file below `raw` as `sono qc` does, without decoding pixels.

    Returns the match and the names of persons in the headers.
    """
    own = os.fsencode(real_path(table_path))
    listed, _ = without_studies(list_sources(raw))
    paths = [path for path in listed if os.path.realpath(path) != own]
    facts: list[FileFacts] = []
    persons: set[str] = set()
    with progress("match", len(paths)) as advance:
        for path in paths:
            advance()
            source = peek_source(path)
            if source is not None:
                header = source.header
                persons.update(header.persons)
                ids = (header.patient, header.study, header.exam_date)
                facts.append(
                    FileFacts(path, *ids, source.file_sha256, header.facts, root=name_of(raw))
                )
    runs = EarlierRuns.of(
        options.sources,
        name_of(raw),
        dict.fromkeys(paths) | {one.path: one.digest for one in facts},
    )
    earlier, others = files_of(runs.met_by(table)), files_of(runs.rows)
    pictures = _without_masks(
        [_of_center(one, options, runs) for one in facts], earlier, options.is_mask
    )
    joined = join([*pictures, *earlier], table, others)
    matches = joined[: len(pictures)]
    served = {id(match) for match in matches if match.record or match.evidence}
    missed = [match for match in matches if id(match) not in served]
    used = {row.line for match in joined for row in match.applied_rows}
    missing = sorted(record.line for record in table.records if record.line not in used)
    found = RawMatch(
        files=len(pictures),
        other_files=len(paths) - len(pictures),
        matched=len(served),
        unmatched=len(missed),
        unmatched_names=most_common(
            Counter(shape(os.fsdecode(one.file.path).rpartition("/")[2]) for one in missed)
        ),
        rows_without_file=len(missing),
        lines_without_file=tuple(missing[:MAX_LINES]),
        like_ids=LikeIds.of(
            (one.patient for one in facts), (record.patient for record in table.records)
        ),
        codes=dict(sorted(Counter(code for match in matches for code in match.codes).items())),
        rows=_rows(joined, table, name_of(raw), options.names),
        unclear_names=unclear_names_remark(paths, name_of(raw), table.records, options.names),
    )
    return found, persons


def _of_center(facts: FileFacts, options: MatchOptions, runs: EarlierRuns) -> FileFacts:
    """The file with the given center, else with the center of an earlier run."""
    before = runs.moved.get(facts.path, ())
    known = next((row["namespace"] for row in before), None) or options.centers.get(facts.path)
    return replace(facts, center=options.center or known)


def _without_masks(
    facts: list[FileFacts], earlier: list[FileFacts], is_mask: IsMask | None
) -> list[FileFacts]:
    """The files without pictures of masks; only files that share a name with another are tested."""
    if is_mask is None:
        return facts
    names = [path_parts(os.fsdecode(one.path))[-1].rpartition(".")[0] for one in (*facts, *earlier)]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [
        one
        for one, name in zip(facts, names, strict=False)
        if name not in shared or not is_mask(one.path)
    ]


def _rows(
    matches: Sequence[Match], table: RecordsTable, root: bytes, names: bool
) -> tuple[RowJoin, ...]:
    """Each row of the table with each rule by which files match it."""
    met: dict[int, dict[str, list[Match]]] = {record.line: {} for record in table.records}
    for match in (part for one in matches for part in one.parts or (one,)):
        for row in match.rows:
            # other rows only gave a date of the pregnancy
            if match.record is None or row.line == match.record.line:
                met[row.line].setdefault(_rule(match), []).append(match)
    found = []
    for record in sorted(table.records, key=lambda record: record.line):
        for rule, joined in met[record.line].items():
            files = tuple(shown_path(match.file.path, root, names) for match in joined[:MAX_FILES])
            first = joined[0]
            applied = bool(first.evidence)
            found.append(
                RowJoin(record.line, record.kind, rule, len(joined), files, first.why, applied)
            )
        if not met[record.line]:
            found.append(
                RowJoin(record.line, record.kind, "no file", 0, (), "no file has its name or id")
            )
    return tuple(found)


def _rule(match: Match) -> str:
    """The evidence and the codes of what is left out, as text."""
    codes = [code for code in match.codes if code != NO_RECORD] or list(match.codes)
    return ", ".join(filter(None, (match.evidence, *codes)))
