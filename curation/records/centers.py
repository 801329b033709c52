"""One spelling of each center, and the centers of a study that a name means or may mean."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from sono.curation.clinical.name_variants import normalize
from sono.curation.clinical.placeholders import id_form
from sono.curation.core.tables import Row
from sono.curation.records.identity import center_words, same_center


def center_form(name: str) -> str:
    """A center's name as it is compared.

    Case, blanks, accents and full-width letters do not count.
    """
    return " ".join(normalize(name).split()) or id_form(name)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """The `names` that an earlier one spells otherwise, each with that one."""
    first: dict[str, str] = {}
    return {
        name: kept for name in names if (kept := first.setdefault(center_form(name), name)) != name
    }


def known_spelling(name: str, rows: Sequence[Row]) -> str:
    """A center as `rows` of earlier runs spell it.

    `name` itself where they have none of its spellings.
    """
    return spellings([*_names(rows, "namespace"), *_names(rows, "center"), name]).get(name, name)


def unify_centers(before: Sequence[Row], rows: Sequence[Row]) -> dict[str, str]:
    """Write one spelling of each center into the rows `before` a run and its own; returns what was
    replaced by what.

    What --center gave comes first, since the ids of patients hang on it, then rows of earlier runs,
    then what is most frequent.
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
    """What a column holds, the most frequent first."""
    return [
        name
        for name, _ in Counter(
            row[column] for row in rows if isinstance(row[column], str)
        ).most_common()
    ]


def centers_called(name: str, known: Collection[str]) -> list[str]:
    """The `known` centers that `name` spells.

    Exactly, else in another spelling, else but for words like Hospital.
    """
    if name in known:
        return [name]
    alike = (
        [center for center in known if form(center) == form(name)]
        for form in (center_form, center_words)
    )
    return next(filter(None, alike), [])


def like_centers(names: Collection[str], known: Iterable[str]) -> list[str]:
    """The `known` centers that are, or may be, one of those called `names`."""
    return [center for center in known if any(same_center(center, name) for name in names)]


def center_remarks(replaced: dict[str, str], centers: Iterable[str]) -> list[str]:
    """What `sono qc` says of spellings that were `replaced`, and of the study's `centers` that
    may be one.
    """
    remarks = []
    if replaced:
        shown = ", ".join(f"'{name}' as '{kept}'" for name, kept in sorted(replaced.items()))
        remarks.append(f"spellings of one center are taken as one: {shown}")
    pairs = [pair for pair in combinations(sorted(centers), 2) if same_center(*pair)]
    if pairs:
        shown = ", ".join(f"'{one}' and '{other}'" for one, other in pairs)
        remarks.append(
            f"centers that may be one by their names: {shown}; `--hold-out` of one leaves out the "
            f"others, too, and "
            "patients with one number in both stay in one split; give them one name by --center or "
            "in the records table"
        )
    return remarks
