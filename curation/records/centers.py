"""Unify the spellings of centers, and find the centers that a name means or may mean."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from sono.curation.clinical.name_variants import normalize
from sono.curation.clinical.placeholders import id_form
from sono.curation.core.tables import Row
from sono.curation.records.identity import center_words, same_center


def center_form(name: str) -> str:
    """A center's name for comparison, without case, blanks, accents and full-width letters."""
    return " ".join(normalize(name).split()) or id_form(name)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Map each of `names` that is a spelling of an earlier one to that earlier name."""
    first: dict[str, str] = {}
    return {
        name: kept for name in names if (kept := first.setdefault(center_form(name), name)) != name
    }


def known_spelling(name: str, rows: Sequence[Row]) -> str:
    """The spelling of a center in `rows` of earlier runs; `name` itself where they have none."""
    return spellings([*_names(rows, "namespace"), *_names(rows, "center"), name]).get(name, name)


def unify_centers(before: Sequence[Row], rows: Sequence[Row]) -> dict[str, str]:
    """Write one spelling of each center into the rows `before` a run and its own `rows`.

    A --center comes first, because the ids of patients depend on it, then rows of earlier runs,
    then the most frequent spelling. Returns each replaced spelling with its replacement.
    """
    replaced = spellings(
        name
        for column in ("namespace", "center")
        for part in (before, rows)
        for name in _names(part, column)
    )
    for row in (*before, *rows) if replaced else ():
        row.update(
            {column: replaced.get(row[column], row[column]) for column in ("namespace", "center")}
        )
    return replaced


def _names(rows: Sequence[Row], column: str) -> list[str]:
    """The values of a column, the most frequent first."""
    return [
        name
        for name, _ in Counter(
            row[column] for row in rows if isinstance(row[column], str)
        ).most_common()
    ]


def centers_called(name: str, known: Collection[str]) -> list[str]:
    """The `known` centers that `name` means.

    They match exactly, else in another spelling, else without words such as Hospital.
    """
    if name in known:
        return [name]
    alike = (
        [center for center in known if form(center) == form(name)]
        for form in (center_form, center_words)
    )
    return next(filter(None, alike), [])


def like_centers(names: Collection[str], known: Iterable[str]) -> list[str]:
    """The `known` centers that are, or may be, one of the centers `names`."""
    return [center for center in known if any(same_center(center, name) for name in names)]


def center_remarks(replaced: dict[str, str], centers: Iterable[str]) -> list[str]:
    """Remarks on spellings that were `replaced` and on `centers` that may be one center."""
    remarks = []
    if replaced:
        shown = ", ".join(f"'{name}' as '{kept}'" for name, kept in sorted(replaced.items()))
        remarks.append(f"spellings of one center were unified: {shown}")
    pairs = [pair for pair in combinations(sorted(centers), 2) if same_center(*pair)]
    if pairs:
        shown = ", ".join(f"'{one}' and '{other}'" for one, other in pairs)
        remarks.append(
            f"centers that may be one by their names: {shown}; `--hold-out` of one excludes the "
            "others, too, and patients with one number in both stay in one split; give them one "
            "name with --center or in the records table"
        )
    return remarks
