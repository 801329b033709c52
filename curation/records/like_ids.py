"""Patient ids that a file and the table spell differently; they join nothing, and are reported."""

from collections.abc import Iterable
from dataclasses import dataclass

from sono.curation.clinical.placeholders import known_id
from sono.curation.clinical.values import shape
from sono.curation.core.errors import counted
from sono.curation.records.identity import bare_id

EXAMPLES = 2


@dataclass(frozen=True)
class LikeIds:
    """The number of ids of files that are like an id of the table, and masked examples."""

    count: int = 0
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, of_files: Iterable[str | None], of_rows: Iterable[str | None]) -> "LikeIds":
        """Compare ids that only files have with those of the table.

        Signs, blanks and leading zeros are ignored.
        """
        rows = {form: text for text in of_rows if text and (form := known_id(text))}
        files = {form: text for text in of_files if text and (form := known_id(text))}
        bare = {bare_id(form): text for form, text in sorted(rows.items())}
        pairs = [
            f"{shape(text)} in a file, {shape(bare[bare_id(form)])} in the table"
            for form, text in sorted(files.items())
            if form not in rows and bare_id(form) in bare
        ]
        return cls(len(pairs), tuple(dict.fromkeys(pairs))[:EXAMPLES])

    def remark(self) -> str:
        """A sentence on these ids and what to do; "" for none."""
        if not self.count:
            return ""
        return (
            f"{counted(self.count, 'patient id of files differs', 'patient ids of files differ')}"
            " from an id of the table only in signs, "
            f"blanks or leading zeros ({'; '.join(self.examples)}), so they join no row; write "
            "them in the table as in the files, for example with SUBSTITUTE or TEXT in the "
            "spreadsheet, if the patients are the same"
        )
