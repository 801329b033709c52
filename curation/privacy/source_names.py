"""The private strings of the sources: names of persons, ids of patients, names of files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sono.curation.clinical.id_forms import looks_like_id
from sono.curation.clinical.placeholders import known_id
from sono.curation.readers.archives import without_suffix
from sono.curation.readers.dicom_header import IDS_OF_EXAM
from sono.curation.readers.source import header_of

SEARCHED = ("path", "root", "private", "persons", "raw_patient", "raw_study", "file_patient",
            "header_facts", "center", "machine")  # fmt: skip

Folder = tuple[bytes, bytes]  # of a file, and the one that was given to `sono qc`


@dataclass
class SourceStrings:
    """What the gate searches for, and the public names, as written in the table of sources."""

    raw: set[str] = field(default_factory=set)
    persons: set[str] = field(default_factory=set)
    patients: set[str] = field(default_factory=set)
    centers: set[str] = field(default_factory=set)
    machines: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, batches: Iterable[pd.DataFrame]) -> "SourceStrings":
        """Collect from the columns SEARCHED of the table, which comes in batches."""
        found, folders = cls(), set[Folder]()
        for sources in batches:
            found.raw |= raw_strings(sources, folders)
            found.persons |= names_of_persons(sources)
            found.patients |= ids_of_patients(sources)
            found.centers.update(sources["center"].dropna().unique())
            found.machines.update(sources["machine"].dropna().unique())
        return found


def names_of_persons(sources: pd.DataFrame) -> set[str]:
    """The names of patients, operators and physicians.

    For a row without a list of persons, these are its private strings in the form of a DICOM PN.
    """
    names: set[str] = set()
    for listed, strings in zip(sources["persons"], sources["private"], strict=True):
        if listed is not None:
            names.update(listed)
        elif strings is not None:
            names.update(text for text in strings if "^" in text)
    return names


def ids_of_patients(sources: pd.DataFrame) -> set[str]:
    """The ids of patients and exams in headers and records, without placeholders."""
    facts = [header_of(text) for text in sources["header_facts"].dropna().unique()]
    exams = {
        one
        for fact in facts
        for name in IDS_OF_EXAM
        for one in fact.get(name, "").split("\\")
        if looks_like_id(one)
    }
    others = {one for fact in facts for one in fact.get("OtherPatientIDs", "").split("\\")}
    return {
        one
        for one in {
            *sources["raw_patient"].dropna().unique(),
            *sources["file_patient"].dropna().unique(),
            *others,
            *exams,
        }
        if known_id(one)
    }


def raw_strings(sources: pd.DataFrame, folders: set[Folder]) -> set[str]:
    """Every private string as written in the sources, including names of files and folders.

    The names of the `folders` that are known are left out, and new ones are added to the set.
    """
    raw: set[str] = set()
    for strings in sources["private"].dropna():
        raw.update(strings)
    for name in ("raw_patient", "raw_study"):
        raw.update(sources[name].dropna().unique())
    files: set[bytes] = set()  # names, which repeat in other folders
    for path, root in zip(sources["path"], sources["root"], strict=True):
        folder, _, name = path.rpartition(b"/")
        files.add(name)
        if (folder, root) not in folders:
            folders.add((folder, root))
            raw.update(names_of(path, root))
    raw.update(Path(decoded(name)).stem for name in files)
    return raw


def names_of(path: bytes, root: bytes) -> tuple[str, ...]:
    """The names of a file and of its folders (also archives), from `root` down."""
    top, inner = decoded(root), Path(decoded(path))
    below = inner.relative_to(top) if inner.is_relative_to(top) else inner
    folders = map(without_suffix, below.parent.parts)
    return (*folders, below.stem, without_suffix(Path(top).name))


def decoded(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")
