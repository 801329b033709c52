"""A remark on file names in an unknown encoding, which match no name in the records."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from sono.curation.clinical.values import shown_name
from sono.curation.core.errors import counted
from sono.curation.readers.archives import ENCODINGS, raw_name
from sono.curation.readers.object_store import is_url
from sono.curation.records.table import Record, path_parts

EXAMPLES = 3


def unclear_names_remark(
    paths: Iterable[bytes], root: bytes, records: Sequence[Record], names: bool
) -> str:
    """A remark on files below `root` whose names are of an unknown encoding; "" where none is.

    Names of `records` that are not those of files are the reason to look. An encoding is shown if
    only with it some names are in the records; no row is applied by it, because a person decides.
    """
    known = {parts[-1] for record in records if (parts := path_parts(record.key))}
    unclear = {
        path: name
        for path in paths
        if known and not is_url(path) and not path.isascii()
        if (name := raw_name(path)) is not None and not known & _forms(os.fsdecode(path))
    }
    if not unclear:
        return ""
    hits = Counter(
        encoding
        for name in unclear.values()
        for encoding in ENCODINGS
        if known.intersection(_readings(name, encoding))
    )
    best = next(iter(hits)) if len(hits) == 1 else ""
    found = f"; read as {best}, {hits[best]} of them are names in the records" if best else ""
    start = len(root.rstrip(b"/")) + 1
    shown = "; ".join(
        shown_name(os.fsdecode(path[start:]), names) for path in list(unclear)[:EXAMPLES]
    )
    files = counted(len(unclear), "file has a name", "files have names")
    return (
        f"{files} in an encoding that is not stated (for example {shown}"
        f"{'' if names else '; --names shows the paths'}), and no name in the records is the same"
        f"{found}; unpack a ZIP archive with its encoding (`unzip -O {best or 'GBK'} FILE`), or "
        "write the names in UTF-8, then run it again"
    )


def _readings(name: bytes, encoding: str) -> set[str]:
    try:
        return _forms(name.decode(encoding))
    except UnicodeDecodeError:
        return set()


def _forms(path: str) -> set[str]:
    """The name at the end of a path as a row may write it: with and without its extension."""
    parts = path_parts(path)
    return {parts[-1], parts[-1].rpartition(".")[0]} - {""} if parts else set()
