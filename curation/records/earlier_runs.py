"""What the vault knows of files outside the folder of a run.

Of earlier runs, moved here, or copied.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sono.curation.clinical.placeholders import id_form
from sono.curation.core.tables import Row, rows_of
from sono.curation.readers.object_store import is_url
from sono.curation.records.evidence import AMBIGUOUS, Match
from sono.curation.records.join_messages import EXAMPLES, example, shown_path
from sono.curation.records.table import RecordsTable, claim_of

# What may end otherwise next time, though the file is the same.
TRY_AGAIN = frozenset(
    {"worker_died", "unreadable", "changed_while_read", "needs_plugin", "print_unread"}
)
PLACE = ("path", "root", "source_id", "file_size", "modified_ns")  # what changes where a file moves

Files = dict[bytes, list[Row]]  # rows by path


def by_path(rows: Iterable[Row]) -> Files:
    """The rows of each file, by its path."""
    files: Files = {}
    for row in rows:
        files.setdefault(row["path"], []).append(row)
    return files


@dataclass(frozen=True)
class EarlierRuns:
    """Rows of files outside a folder, `moved` ones by the path that they have in it, `copied` ones
    by such a path.

    A file has moved where the folder given to the earlier run is gone and more than half of its
    files are here by their bytes; it is not among `rows` any more. A copy is still there, too.
    """

    rows: list[Row]
    moved: Files
    copied: Files

    @classmethod
    def of(
        cls, sources: pd.DataFrame, root: bytes, digests: Mapping[bytes, str | None]
    ) -> "EarlierRuns":
        """What the vault's `sources` say, where `digests` has the files below `root` with their
        SHA-256.
        """
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
        """The rows of files that a row of `records` has met.

        That row is not free for another file.
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
        """A remark where frames outside the folder have facts of rows that `records`, which has
        `met` others, lacks.

        A table that has met no file of their folder and names none of their patients is another
        table.
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
        return [
            f"{len(frames)} frames of folders that were graded before keep what rows gave that are "
            f"not in this table "
            f"(as {shown}): right where they have a table of their own; if this table replaces "
            f"that one, run `sono qc` "
            "with it on each of these folders, too"
        ]

    def followed(self, rows: Sequence[Row]) -> list[Row]:
        """The `rows` of the folder.

        Those of a moved file with all that was known of it at its former path.
        """
        return [
            row
            for path, own in by_path(rows).items()
            for row in _followed(own, self.moved.get(path))
        ]

    def remarks(self, root: bytes, names: bool) -> list[str]:
        """What the user should know of moved files and copies; paths as by `shown_path`."""
        known = "files are byte-identical to files already known under another path"
        remarks = []
        if self.moved:
            remarks.append(
                f"{len(self.moved)} {known} ({_pair(self.moved, root, names)}), whose folder is "
                f"gone: a moved folder, "
                "so they replace the files there and keep what is known of them; "
                "if the former folder comes back, run `sono qc` on it again"
            )
        if self.copied:
            remarks.append(
                f"{len(self.copied)} {known} ({_pair(self.copied, root, names)}), which stays in "
                f"the study: a copied "
                "or moved folder? Accepted frames of both are exact duplicates, of which one is "
                "kept; remove one of "
                "the two, then run `sono qc` again on the folder that it was in, or on the other "
                "one if that is gone"
            )
        return remarks


def taken_back(
    earlier: Sequence[Row], matches: Iterable[Match], before: int, root: bytes, names: bool
) -> list[str]:
    """A remark where rows of the table that met files of `earlier` runs fit other files as well,
    and serve neither.

    `before` is how many frames of `earlier` were without their record for that reason when the run
    began.
    """
    count = sum(AMBIGUOUS in row["reasons"] for row in earlier)
    if not count:
        return []
    roots = {row["path"]: row["root"] for row in earlier}
    found = [match for match in matches if match.file.path in roots and AMBIGUOUS in match.codes]
    shown = "; ".join(example(match, root, names) for match in found[:EXAMPLES])
    fresh = f", {count - before} of them since this run" if count > before else ""
    return [
        f"{count} frames of folders that were graded before are without their record{fresh} (as "
        f"{shown}): its name or "
        "number is also one of files of this folder or of others; give the table folders "
        "(P1/IM_0001.png), study UIDs "
        "or birth dates, then run `sono qc` with it on each of the folders"
    ]


def _left(files: Files, here: set[str]) -> set[bytes]:
    """The paths that files have left.

    Of folders that are gone, if most of their files are `here` by their bytes.
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
            left |= found | (own.keys() - known)  # of those that could not be read nothing is known
    return left


def _is_gone(path: bytes) -> bool:
    """Whether there is surely nothing at `path`.

    Not where a store or a closed folder does not show it.
    """
    if is_url(path):
        return False
    try:
        Path(os.fsdecode(path)).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _followed(own: list[Row], before: list[Row] | None) -> list[Row]:
    """The rows of a file, or those that it had `before` it moved, where they are of the same
    settings.
    """
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
    """How many names at the end of two paths are the same."""
    pairs = enumerate(zip(reversed(one.split(b"/")), reversed(other.split(b"/")), strict=False))
    return next((count for count, (mine, theirs) in pairs if mine != theirs), 0)


def _pair(files: Files, root: bytes, names: bool) -> str:
    path, rows = next(iter(files.items()))
    return f"as {shown_path(path, root, names)}: {shown_path(rows[0]['path'], root, names)}"
