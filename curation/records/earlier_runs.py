"""Files of earlier runs outside the folder of this run, and files that were moved or copied."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sono.curation.clinical.placeholders import id_form
from sono.curation.core.errors import counted
from sono.curation.core.tables import Row, rows_of
from sono.curation.readers.archives import file_of
from sono.curation.readers.object_store import is_url
from sono.curation.records.evidence import AMBIGUOUS, Match
from sono.curation.records.join_messages import EXAMPLES, example, shown_path
from sono.curation.records.table import RecordsTable, claim_of

# Reasons whose result may differ next time although the file is the same.
TRY_AGAIN = frozenset(
    {"worker_died", "unreadable", "changed_while_read", "needs_plugin", "needs_extra"}
)
PLACE = (
    "path",
    "root",
    "source_id",
    "file_size",
    "modified_ns",
)  # columns that change when a file is moved

Files = dict[bytes, list[Row]]  # rows by path


def by_path(rows: Iterable[Row]) -> Files:
    """The rows of each file, by its path."""
    files: Files = {}
    for row in rows:
        files.setdefault(row["path"], []).append(row)
    return files


@dataclass(frozen=True)
class EarlierRuns:
    """Rows of files outside a folder; `moved` and `copied` files by their path inside the folder.

    A file has moved if the folder of the earlier run no longer exists and more than half of its
    files are here byte for byte; `rows` does not contain it. The original of a copy still exists.
    """

    rows: list[Row]
    moved: Files
    copied: Files

    @classmethod
    def of(
        cls, sources: pd.DataFrame, root: bytes, digests: Mapping[bytes, str | None]
    ) -> "EarlierRuns":
        """Compare the vault's `sources` with the files below `root`, by path with SHA-256."""
        below = root.rstrip(b"/") + b"/"
        other = [
            path != root and not path.startswith(below) and path not in digests
            for path in sources["path"]
        ]
        files = by_path(rows_of(sources[other]))
        left = _left(files, set(filter(None, digests.values())))
        by_digest: dict[str, list[bytes]] = {}
        for path, rows in files.items():
            if isinstance(rows[0]["file_sha256"], str):
                by_digest.setdefault(rows[0]["file_sha256"], []).append(path)
        moved: Files = {}
        copied: Files = {}
        for path, digest in digests.items():
            same = sorted(
                by_digest.get(digest or "", ()),
                key=lambda other: (-_common_end(other, path), other),
            )
            gone = [other for other in same if other in left]
            if gone:
                moved[path] = files[gone[0]]
            elif same:
                copied[path] = files[same[0]]
        return cls(
            [row for path, rows in files.items() if path not in left for row in rows], moved, copied
        )

    def met_by(self, records: RecordsTable) -> list[Row]:
        """The rows of files that `records` has matched in earlier runs.

        The records of these files may not be applied to other files.
        """
        claims = set(map(claim_of, records.records))
        return [
            row
            for row in self.rows
            if row["named_by"] is not None and not claims.isdisjoint(row["named_by"])
        ]

    def of_other_rows(
        self, records: RecordsTable, met: Sequence[Row], root: bytes, names: bool
    ) -> list[str]:
        """A remark where frames outside the folder have facts from rows that `records` lacks.

        `met` are the rows of files that `records` has matched. A table that has matched no file of
        a folder and names none of its patients is taken for another table.
        """
        own, roots = set(map(id, met)), {row["root"] for row in met}
        others = [row for row in self.rows if row["named_by"] is not None and id(row) not in own]
        frames = [
            row
            for row in others
            if row["root"] in roots or id_form(str(row["raw_patient"])) in records.patients
        ]
        if not frames:
            return []
        shown = ", ".join(
            dict.fromkeys(shown_path(row["path"], root, names) for row in frames[:EXAMPLES])
        )
        places = "of folders graded earlier"
        kept = counted(len(frames), f"frame {places} keeps", f"frames {places} keep")
        return [
            f"{kept} facts from rows that are not in this table (for example {shown}); this is "
            "correct if they have a table of their own; "
            "if this table replaces it, run `sono qc` with this table on each of these folders, too"
        ]

    def followed(self, rows: Sequence[Row]) -> list[Row]:
        """The `rows` of the folder; a moved file keeps what was known at its former path."""
        return [
            row
            for path, own in by_path(rows).items()
            for row in _followed(own, self.moved.get(path))
        ]

    def remarks(self, root: bytes, names: bool) -> list[str]:
        """Remarks on moved and copied files; `names` as for `shown_path`."""
        known = (
            "file is byte-identical to a file already known under another path",
            "files are byte-identical to files already known under another path",
        )
        remarks = []
        if self.moved:
            remarks.append(
                f"{counted(len(self.moved), *known)}"
                f" ({_pair(self.moved, root, names)}), whose folder no "
                "longer exists, so they replace the former files and keep what is known about "
                "them; if you restore the former folder, run `sono qc` on it again"
            )
        if self.copied:
            remarks.append(
                f"{counted(len(self.copied), *known)}"
                f" ({_pair(self.copied, root, names)}), which stays in "
                "the study; accepted frames of both are exact duplicates, of which one is kept; if "
                "the folder was copied or moved, remove one of the two, then run `sono qc` again "
                "on its folder, or on the other folder if that one no longer exists"
            )
        return remarks


def withdrawn_records_remark(
    earlier: Sequence[Row], matches: Iterable[Match], before: int, root: bytes, names: bool
) -> list[str]:
    """A remark where rows that matched files of `earlier` runs fit other files, too.

    Such a row is applied to no file. `before` is the number of frames of `earlier` that already
    lacked their record for this reason when the run began.
    """
    count = sum(AMBIGUOUS in row["reasons"] for row in earlier)
    if not count:
        return []
    roots = {row["path"]: row["root"] for row in earlier}
    found = [match for match in matches if match.file.path in roots and AMBIGUOUS in match.codes]
    shown = "; ".join(example(match, root, names) for match in found[:EXAMPLES])
    fresh = f", {count - before} of them since this run" if count > before else ""
    places = "of folders graded earlier"
    frames = counted(count, f"frame {places} is", f"frames {places} are")
    return [
        f"{frames} without a record{fresh} (for example {shown}), because the name or number of "
        "its row also fits files of this folder or of others; add "
        "folders (P1/IM_0001.png), study UIDs or birth dates to the table, then run `sono qc` with "
        "it on each of the folders"
    ]


def _left(files: Files, here: set[str]) -> set[bytes]:
    """The paths of files that were moved away.

    Their folder no longer exists, and most of its files are `here` by their digests.
    """
    folders: dict[bytes, Files] = {}
    for path, rows in files.items():
        folders.setdefault(rows[0]["root"], {})[path] = rows
    left: set[bytes] = set()
    for root, own in folders.items():
        digests = {path: rows[0]["file_sha256"] for path, rows in own.items()}
        known = [path for path, digest in digests.items() if isinstance(digest, str)]
        found = {path for path in known if digests[path] in here}
        if 2 * len(found) > len(known) and _is_gone(root):
            left |= found | (own.keys() - known)  # unreadable files have no digest
    return left


def _is_gone(path: bytes) -> bool:
    """Whether nothing exists at `path`; False where a store or permissions hide it."""
    if is_url(path):
        return False
    try:
        Path(os.fsdecode(file_of(path))).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _followed(own: list[Row], before: list[Row] | None) -> list[Row]:
    """The rows of a file, or its rows `before` it was moved if they have the same settings."""
    if (
        before is None
        or own[0]["named_by"] is not None
        or before[0]["settings_hash"] != own[0]["settings_hash"]
    ):
        return own
    if any(not TRY_AGAIN.isdisjoint(row["reasons"]) for row in before):
        return own
    return [row | {name: own[0][name] for name in PLACE} for row in before]


def _common_end(one: bytes, other: bytes) -> int:
    """The number of trailing names that two paths share."""
    pairs = enumerate(zip(reversed(one.split(b"/")), reversed(other.split(b"/")), strict=False))
    return next((count for count, (mine, theirs) in pairs if mine != theirs), 0)


def _pair(files: Files, root: bytes, names: bool) -> str:
    path, rows = next(iter(files.items()))
    return (
        f"for example {shown_path(path, root, names)}: {shown_path(rows[0]['path'], root, names)}"
    )
