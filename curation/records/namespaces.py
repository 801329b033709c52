"""The hospital that assigned a patient's number, where several people have one number."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from sono.curation.readers.source import header_of
from sono.curation.records.centers import center_form
from sono.curation.records.evidence import FileFacts
from sono.curation.records.identity import institution_differs
from sono.curation.records.shared_ids import MANY, namesakes, person_facts

OF_FILE = ("namespace", "raw_patient", "site", "header_facts")


def namespaces(sources: pd.DataFrame) -> pd.Series:
    """The namespace of the ids of each row [rows of `sources`].

    It is the row's --center, else its hospital if people of several hospitals have the number, else
    "". The hospital is that of the records table, else the InstitutionName of the header; if it is
    a spelling of a --center of other rows, that spelling is used.
    """
    spaces = sources["namespace"].fillna("")
    given = {center_form(name): name for name in sorted(sources["namespace"].dropna().unique())}
    named = sources.loc[sources["namespace"].isna() & sources["raw_patient"].notna(), [*OF_FILE]]
    for _, group in named.groupby(named["raw_patient"].str.strip(), sort=False):
        files = {index: _facts(site, facts) for index, site, facts in _cells(group)}
        hospitals = (
            _hospitals({_place(one): one for one in files.values()})
            if _is_shared([*files.values()])
            else {}
        )
        for index, one in files.items():
            hospital = hospitals.get(_place(one), "")
            spaces.at[index] = given.get(center_form(hospital), hospital)
    return spaces


def _cells(group: pd.DataFrame) -> list[tuple[int, object, object]]:
    return list(zip(group.index, group["site"], group["header_facts"], strict=True))


def _facts(site: object, facts: object) -> FileFacts:
    return FileFacts(b"", header=header_of(facts), center=site if isinstance(site, str) else None)


def _place(facts: FileFacts) -> str:
    return facts.center or facts.header.get("InstitutionName") or ""


def _is_shared(files: Sequence[FileFacts]) -> bool:
    """Whether two of the `files` with one patient number are of people in two hospitals."""
    different = {person_facts(one): one for one in files}
    return any(
        namesakes(one, other) for one, other in combinations([*different.values()][:MANY], 2)
    )


def _hospitals(places: Mapping[str, object]) -> dict[str, str]:
    """Map each place to the shortest of its spellings (North for North General Hospital)."""
    spellings = sorted(filter(None, places), key=lambda place: (len(place), place))
    return {
        place: next(one for one in spellings if one == place or not institution_differs(one, place))
        for place in spellings
    }
