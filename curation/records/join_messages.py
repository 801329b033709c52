"""Remarks of `sono qc` on rows and files without a match, with examples."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sono.curation.clinical.values import shown_name
from sono.curation.core.errors import counted
from sono.curation.records.evidence import (
    AMBIGUOUS,
    CONFLICT,
    DIFFERS,
    HEADER_CENTER,
    NO_RECORD,
    ONE_IMAGE,
    UNDECIDED,
    Match,
)
from sono.curation.records.like_ids import LikeIds
from sono.curation.records.table import RecordsTable

EXAMPLES = 3
WHAT = {
    AMBIGUOUS: (
        "fits",
        "fit",
        " a row no better than other files do, so no row is applied; add folders "
        "(P1/IM_0001.png) or ids to the table, or the center, if two centers use one number",
    ),
    CONFLICT: (
        "matches",
        "match",
        " a row that the header or path of the file or --center contradicts, so it is not applied; "
        "correct the row; only if a column does not contain such a fact at all, switch it off (for "
        'example sex = "" in [records.columns])',
    ),
    UNDECIDED: (
        "is",
        "are",
        " of a patient with a record, but no date shows that it describes this exam, so age, "
        "biometry, findings and plane stay unknown if they depend on the day; add file names, "
        "study ids or exam dates to the table",
    ),
    ONE_IMAGE: (
        "has",
        "have",
        " a row that fits several images of its exam, so its plane, side, structures and "
        "spacing, which describe one image, stay unknown; add file names or SOPInstanceUIDs to the "
        "table",
    ),
    DIFFERS: (
        "has",
        "have",
        " a record with another pixel spacing or machine than the header; the header's "
        "value is kept; correct the record",
    ),
}

CENTER_ADVICE = (
    "; if the table and the headers have different names of the same hospitals, set "
    'center = "" in [records.columns] and give --center-from with the title of that column'
)


@dataclass(frozen=True)
class Joined:
    """The number of records without a file, and example matches for each code."""

    unmatched: int
    examples: Mapping[str, tuple[str, ...]]
    like_ids: LikeIds = field(default_factory=LikeIds)
    centers_differ: bool = False  # whether a header's hospital contradicts a row's center

    @classmethod
    def of(
        cls, records: RecordsTable | None, matches: Sequence[Match], root: bytes, names: bool
    ) -> "Joined":
        """Summarize the `matches` of the files below `root`; `names` as for `shown_path`."""
        if records is None:
            return cls(0, {})
        used = {row.line for match in matches for row in match.applied_rows}
        found: dict[str, list[str]] = {code: [] for code in WHAT}
        for match in matches:
            for code in set(match.codes) & found.keys():
                if len(found[code]) < EXAMPLES:
                    found[code].append(example(match, root, names))
        centers = any(HEADER_CENTER in match.why for match in matches if CONFLICT in match.codes)
        unmatched = sum(record.line not in used for record in records.records)
        examples = {code: tuple(lines) for code, lines in found.items()}
        like_ids = LikeIds.of(
            (match.file.patient for match in matches), (row.patient for row in records.records)
        )
        return cls(unmatched, examples, like_ids, centers)


def join_remarks(joined: Joined, counts: Mapping[str, int]) -> list[str]:
    """A remark for each code that accepted frames have; `counts` are frames by code."""
    remarks = []
    if counts.get(NO_RECORD) or joined.unmatched:
        remarks.append(
            f"{counted(counts.get(NO_RECORD, 0), 'accepted frame')} without a record, "
            f"{counted(joined.unmatched, 'record')} without a file"
        )
    remarks += filter(None, [joined.like_ids.remark()])
    for code, (verb, verbs, rest) in WHAT.items():
        if counts.get(code):
            shown = "; ".join(dict.fromkeys(joined.examples.get(code, ())))
            advice = CENTER_ADVICE if code == CONFLICT and joined.centers_differ else ""
            remarks.append(
                f"{counted(counts[code], f'accepted frame {verb}', f'accepted frames {verbs}')}"
                f"{rest}"
                f"{advice}{f' (for example {shown})' if shown else ''}"
            )
    return remarks


def shown_path(path: bytes, root: bytes, names: bool) -> str:
    """The path of a file below `root`, masked unless `names` is set."""
    return shown_name(os.fsdecode(path.removeprefix(root.rstrip(b"/") + b"/")), names)


def list_paths(shown: Sequence[str]) -> list[str]:
    """Paths or masked paths, each once, with its count if several files look like it."""
    return [
        f"{path} ({count} files)" if count > 1 else path for path, count in Counter(shown).items()
    ]


def example(match: Match, root: bytes, names: bool) -> str:
    """A file, why no row is applied to it, and the other files that the row fits."""
    others = ", ".join(list_paths([shown_path(path, root, names) for path in match.others]))
    return (
        f"{shown_path(match.file.path, root, names)}: "
        f"{match.why}{f', also {others}' if others else ''}"
    )
