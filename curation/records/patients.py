"""Group patient ids: ids of one patient share a pseudonym, ids that may be one share a split."""

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, combinations, pairwise, product, starmap

import pandas as pd

from sono.curation.clinical.name_variants import MIN_WORD
from sono.curation.clinical.placeholders import known_id
from sono.curation.readers.source import header_of
from sono.curation.records.evidence import FileFacts
from sono.curation.records.identity import bare_id, name_words, same_center, same_name, unpadded
from sono.curation.records.shared_ids import MANY, OF_PERSON, PERSON

Id = tuple[str, str]  # center, and id for comparison
NUMBERS = 4  # most ids of one person: after a move, a new system, a second hospital


def same_patients(
    sources: pd.DataFrame, hospitals: Collection[Id] = ()
) -> tuple[list[Id | None], list[Id | None]]:
    """For each row of `sources`, the main id of its patient and the id of its group of patients.

    Two ids are one patient if they differ only in case, blanks or full-width letters, or if a
    header gives one among its OtherPatientIDs, no other patient's header gives it, and no fact
    contradicts it. Patients may be one, and form a group (None: no group), if

    - their ids differ only in leading zeros, or in signs and blanks (of at least five characters);
    - headers of several patients give the other id;
    - one has no hospital, and `hospitals` contains the number for the other;
    - they have one number in two namespaces and share a name, a birth date or a hospital;
    - their headers have one full name and one birth date.

    A row without an id gets the group of the patient with its full name and birth date, or a group
    with other such rows.
    """
    from scipy.cluster.hierarchy import DisjointSet

    ids = [
        _id_of(space, raw)
        for space, raw in zip(sources["namespace"], sources["raw_patient"], strict=True)
    ]
    headers = _headers(sources, ids)
    one, possible = DisjointSet(filter(None, ids)), DisjointSet(filter(None, ids))
    for (space, other), givers in _givers(headers).items():
        if (space, other) not in headers and len(givers) < 2:
            continue
        members = [*givers, (space, other)] if (space, other) in headers else givers
        for first in members[1:]:
            possible.merge(members[0], first)
        if len(members) == 2 == len(givers) + 1 and not _differ(
            headers[members[0]], headers[members[1]]
        ):
            one.merge(*members)
    bare: dict[Id, Id] = {}
    for space, form in headers:
        possible.merge(bare.setdefault((space, _bare(form)), (space, form)), (space, form))
    for space, form in hospitals:
        if ("", form) in headers and (space, form) in headers:
            possible.merge(("", form), (space, form))
    persons = _persons(headers)
    by_number = _of_one_number(headers, _places(sources, ids, headers))
    for first, second in chain(by_number, *map(pairwise, persons.values())):
        possible.merge(first, second)
    unnumbered = [
        None if identity else _without_id(facts, persons)
        for identity, facts in zip(ids, sources["header_facts"], strict=True)
    ]
    main = {min(subset): subset for subset in one.subsets()}
    shared = {member: name for name, subset in main.items() for member in subset}
    groups: dict[Id, Id] = {}
    for subset in possible.subsets():
        if len({shared[member] for member in subset}) > 1 or not subset.isdisjoint(unnumbered):
            groups |= dict.fromkeys(subset, min(subset))
    return [identity and shared[identity] for identity in ids], [
        groups.get(identity) if identity else other and groups.get(other, other)
        for identity, other in zip(ids, unnumbered, strict=True)
    ]


def of_hospitals(sources: pd.DataFrame, spaces: pd.Series) -> set[Id]:
    """The ids whose namespace in `spaces` is a hospital of a row or header, not a --center."""
    decided = sources["namespace"].isna() & (spaces != "")
    pairs = zip(spaces[decided], sources.loc[decided, "raw_patient"], strict=True)
    return {identity for space, raw in pairs if (identity := _id_of(space, raw))}


def _bare(form: str) -> str:
    """An id without leading zeros and, if it is long enough, without signs and blanks.

    Short ids with signs may count patients of several sites: 1-12 and 11-2.
    """
    bare = bare_id(form)
    return bare if len(bare) >= MIN_WORD else unpadded(form)


def _id_of(space: str | None, raw: str | None) -> Id | None:
    form = known_id(raw) if isinstance(raw, str) else None
    return (space if isinstance(space, str) else "", form) if form else None


def _headers(sources: pd.DataFrame, ids: Iterable[Id | None]) -> dict[Id, list[FileFacts]]:
    """The different headers of each id."""
    found: dict[Id, dict[str, FileFacts]] = {}
    for identity, facts in zip(ids, sources["header_facts"], strict=True):
        if identity:
            kept = {
                name: value
                for name, value in header_of(facts).items()
                if name in ("OtherPatientIDs", *OF_PERSON)
            }
            found.setdefault(identity, {}).setdefault(
                json.dumps(kept, sort_keys=True), FileFacts(b"", identity[1], header=kept)
            )
    return {identity: list(headers.values()) for identity, headers in found.items()}


def _places(
    sources: pd.DataFrame, ids: Iterable[Id | None], headers: Mapping[Id, list[FileFacts]]
) -> dict[Id, set[str]]:
    """The hospitals of each id: its namespace, and those of headers and applied rows."""
    found = {
        identity: {
            identity[0],
            *(facts.header.get("InstitutionName", "") for facts in files[:MANY]),
        }
        - {""}
        for identity, files in headers.items()
    }
    for identity, site in zip(ids, sources["site"], strict=True):
        if identity and isinstance(site, str):
            found[identity].add(site)
    return found


def _of_one_number(
    headers: Mapping[Id, list[FileFacts]], places: Mapping[Id, set[str]]
) -> Iterable[tuple[Id, Id]]:
    """Pairs of patients with one number in two namespaces who share a person or a hospital."""
    numbers: dict[str, list[Id]] = {}
    for identity in headers:
        numbers.setdefault(identity[1], []).append(identity)
    for one, other in chain.from_iterable(combinations(named, 2) for named in numbers.values()):
        persons = product(headers[one][:MANY], headers[other][:MANY])
        hospitals = product(places[one], places[other])
        if any(starmap(_share_person, persons)) or any(starmap(same_center, hospitals)):
            yield one, other


def _persons(headers: Mapping[Id, list[FileFacts]]) -> dict[str, list[Id]]:
    """The patients by birth date and full name, sorted.

    A name and birth date of more than NUMBERS patients is what somebody wrote for all of them; it
    has no patients here.
    """
    named: dict[str, set[Id]] = {}
    for identity, files in headers.items():
        for facts in files[:MANY]:
            if person := _person(facts):
                named.setdefault(person, set()).add(identity)
    return {person: sorted(ids) if len(ids) <= NUMBERS else [] for person, ids in named.items()}


def _person(facts: FileFacts) -> str:
    """Birth date and name of two words or more, for comparison; "" if one of them is unknown."""
    words = name_words(facts.header.get("PatientName") or "")
    return f"{facts.birth} {' '.join(sorted(words))}" if facts.birth and len(words) > 1 else ""


def _without_id(facts: object, persons: Mapping[str, list[Id]]) -> Id | None:
    """The first patient who may be the person of a header without an id.

    It is an id of its own, which no header has, if the person is no known patient.
    """
    person = _person(FileFacts(b"", header=header_of(facts)))
    if not person:
        return None
    return next(iter(persons.get(person, [("", f"\0{person}")])), None)


def _share_person(one: FileFacts, other: FileFacts) -> bool:
    """Whether two headers have one birth date, or names that may be of one person."""
    return (one.birth is not None and one.birth == other.birth) or same_name(
        one.header.get("PatientName"), other.header.get("PatientName")
    )


def _givers(headers: Mapping[Id, list[FileFacts]]) -> dict[Id, list[Id]]:
    """The patients whose headers give another id (OtherPatientIDs), by that id."""
    found: dict[Id, list[Id]] = {}
    for (space, form), files in headers.items():
        others = {
            known_id(text)
            for facts in files
            for text in facts.header.get("OtherPatientIDs", "").split("\\")
        }
        for other in sorted(filter(None, others - {form})):
            found.setdefault((space, other), []).append((space, form))
    return found


def _differ(one: list[FileFacts], other: list[FileFacts]) -> bool:
    return any(check(first, second) for first in one for second in other for check in PERSON)
