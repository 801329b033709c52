"""The rows of a records table as typed records, and which of them belongs to a file."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from sono.curation.records.remarks import grouped

SUFFIXES = frozenset((
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "dcm", "dicom", "ima", "npy", "avi", "mp4",
))  # fmt: skip
ABSOLUTE = re.compile(r"/|\\\\|[A-Za-z]:")
TAIL = 4  # parts of a key that are compared with shorter paths


@dataclass(frozen=True)
class Record:
    """A row: `key` names an image, a study or a patient (`kind`); what the row does not say is None or empty.

    `plane` is a plane id or "other"; lengths are in mm; `ga_source` says where the age is from and `ga_conflicts` which
    other datings disagree with it; `line` is where the row stands; `private` holds its raw names, ids and dates,
    `persons` the names again.
    """

    key: str
    kind: str = "image"
    patient: str | None = None
    study: str | None = None
    accession: str | None = None
    center: str | None = None
    machine: str | None = None
    plane: str | None = None
    region: str | None = None
    ga_days: int | None = None
    ga_source: str | None = None
    ga_conflicts: tuple[str, ...] = ()
    laterality: str | None = None
    presentation: str | None = None
    findings: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    bpd_mm: float | None = None
    hc_mm: float | None = None
    ac_mm: float | None = None
    fl_mm: float | None = None
    crl_mm: float | None = None
    nt_mm: float | None = None
    row_spacing_mm: float | None = None
    col_spacing_mm: float | None = None
    line: int = field(default=0, compare=False, repr=False)
    private: tuple[str, ...] = field(default=(), compare=False, repr=False)
    persons: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class RecordsTable:
    """The records, a message for every bad row or value, and the layout's name ("fetal_planes_db", "hc18", "table")."""

    records: tuple[Record, ...]
    rejected: tuple[str, ...]
    layout: str
    match_folders: bool = False

    def remarks(self) -> list[str]:
        """What is told in `rejected`, each problem once with the first lines that have it."""
        return grouped(self.rejected)

    def match(self, path: bytes, patient: str | None, study: str | None) -> Record | None:
        """The record of a file: by its path or name (the longest agreement wins), else by its study, else its patient.

        `study` may be a study id or an accession number. Two records that fit equally well give None.
        """
        parts = path_parts(_decoded(path))
        by_id = self._by_study.get(_normal(study or "")) or self._by_patient.get(_normal(patient or ""))
        return self._by_path(parts) or by_id or (self._by_folder(parts) if self.match_folders else None)

    def _by_path(self, parts: list[str]) -> Record | None:
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            found = self._names.get(tail) or self._names.get(_stem(tail)) or self._stems.get(_stem(tail))
            if found:
                return found
        whole = "/".join(parts)
        return self._tails.get(whole) or self._tails.get(_stem(whole)) or self._moved(parts)

    def _moved(self, parts: list[str]) -> Record | None:
        """A record whose absolute key agrees in its name and last folder: the files have been moved since."""
        tails = ("/".join(parts[start:]) for start in range(max(1, len(parts) - TAIL), len(parts) - 1))
        return next((found for tail in tails if (found := self._absolute.get(tail))), None)

    def _by_folder(self, parts: list[str]) -> Record | None:
        ids = [self._by_study.get(part) or self._by_patient.get(part) for part in reversed(parts[:-1])]
        return next((record for record in ids if record), None)

    @cached_property
    def _images(self) -> list[tuple[str, Record]]:
        return [("/".join(path_parts(record.key)), record) for record in self.records if record.kind == "image"]

    @cached_property
    def _names(self) -> dict[str, Record]:
        return dict(self._images)

    @cached_property
    def _stems(self) -> dict[str, Record]:
        return _unique((_stem(name), record) for name, record in self._images if _stem(name) != name)

    @cached_property
    def _tails(self) -> dict[str, Record]:
        """Records whose key has more folders than the path of the file, by the last parts of the key."""
        pairs = ((tail, record) for name, record in self._images if "/" in name for tail in _tails(name))
        return _unique((form, record) for tail, record in pairs for form in {tail, _stem(tail)})

    @cached_property
    def _absolute(self) -> dict[str, Record]:
        absolute = [(name, record) for name, record in self._images if ABSOLUTE.match(record.key)]
        return _unique((tail, record) for name, record in absolute for tail in _tails(name) if "/" in tail)

    @cached_property
    def _by_study(self) -> dict[str, Record]:
        rows = [record for record in self.records if record.kind == "study"]
        return _unique((_normal(name), record) for record in rows for name in {record.study, record.accession} if name)

    @cached_property
    def _by_patient(self) -> dict[str, Record]:
        rows = [record for record in self.records if record.kind != "image"]
        return _unique((_normal(record.patient), record) for record in rows if record.patient)


def _unique(pairs: Iterable[tuple[str, Record]]) -> dict[str, Record]:
    """The records by name, without the names that several share."""
    found: dict[str, Record | None] = {}
    for name, record in pairs:
        found[name] = record if found.get(name, record) is record else None
    return {name: record for name, record in found.items() if record is not None}


def _decoded(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path.decode("cp1252", errors="replace")


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip()).casefold()


def path_parts(path: str) -> list[str]:
    """Folders and name, comparable across systems."""
    return [part for part in _normal(path).replace("\\", "/").split("/") if part not in ("", ".")]


def _stem(name: str) -> str:
    head, _, suffix = name.rpartition(".")
    return head if head and suffix in SUFFIXES else name


def _tails(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(max(1, len(parts) - TAIL), len(parts))]
