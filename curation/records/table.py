"""Typed records of a records table, and their lookup by path, study or patient."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

from sono.curation.clinical.placeholders import id_form
from sono.curation.readers.archives import without_suffix as without_archive_suffix
from sono.curation.records.messages import group_messages

SUFFIXES = frozenset((
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "dcm", "dicom", "ima", "npy", "avi",
    "mp4", "m4v", "mov", "mkv", "webm", "wmv", "flv", "mpg", "mpeg",
    "mha", "nrrd", "nii", "jp2", "j2k",
))  # fmt: skip
ABSOLUTE = re.compile(r"/|\\\\|[A-Za-z]:")
TAIL = 4  # parts of a key that are compared with shorter paths


# Fields of a record that describe one image.
IMAGE_FIELDS = (
    "plane", "region", "laterality", "structures", "row_spacing_mm", "col_spacing_mm",
)  # fmt: skip
# Fields of a record that describe an exam or an image, except the age.
EXAM_FIELDS = (
    *IMAGE_FIELDS, "presentation", "findings", "bmi_band", "parity",
    "bpd_mm", "hc_mm", "ac_mm", "fl_mm", "crl_mm", "nt_mm",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A row; `key` identifies an image, a study or a patient (`kind`); missing values are None.

    `plane` is a plane id or "other"; lengths are in mm. `ga_source` is the dating that gives the
    age, and `ga_conflicts` are the datings that disagree with it, all on the row's own
    `exam_date`. `stated` has the datings in days that need no date (recorded, crl, hc). `site` is
    the hospital that gave the ids; `center` is the center of the frames, from another column where
    --center-from names one. `study_number` is an exam number where `study` is a UID. `private` has
    the raw names, ids and dates of the row, and `persons` the names again. Dates, names and births
    stay in memory.
    """

    key: str
    kind: str = "image"
    patient: str | None = None
    study: str | None = None
    accession: str | None = None
    study_number: str | None = None
    series: str | None = None
    instance: str | None = None
    issuer: str | None = None
    sex: str | None = None
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
    bmi_band: str | None = None
    parity: str | None = None
    bpd_mm: float | None = None
    hc_mm: float | None = None
    ac_mm: float | None = None
    fl_mm: float | None = None
    crl_mm: float | None = None
    nt_mm: float | None = None
    row_spacing_mm: float | None = None
    col_spacing_mm: float | None = None
    site: str | None = field(default=None, compare=False, repr=False)
    name: str | None = field(default=None, compare=False, repr=False)
    birth: date | None = field(default=None, compare=False, repr=False)
    exam_date: date | None = field(default=None, compare=False, repr=False)
    lmp: date | None = field(default=None, compare=False, repr=False)
    due: date | None = field(default=None, compare=False, repr=False)
    exam_date_unread: bool = field(default=False, compare=False, repr=False)
    stated: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)
    private: tuple[str, ...] = field(default=(), compare=False, repr=False)
    persons: tuple[str, ...] = field(default=(), compare=False, repr=False)


def without_day(record: Record) -> Record:
    """A record without the values of one day: plane, findings, biometry and the recorded age."""
    return without(record, (*EXAM_FIELDS, "ga_days", "ga_source", "ga_conflicts", "stated"))


def without(record: Record, names: Iterable[str]) -> Record:
    """A record whose fields `names` are unknown."""
    nothing = Record("")
    return replace(record, **{name: getattr(nothing, name) for name in names})


def claim_of(record: Record) -> str:
    """A digest of the name, ids and exam date of a row, by which later runs recognize it."""
    day = record.exam_date.isoformat() if record.exam_date else ""
    ids = (record.patient, record.study, record.accession, record.instance, record.site)
    named = ("/".join(path_parts(record.key)), *(id_form(identity or "") for identity in ids), day)
    return hashlib.sha256("\0".join(named).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class JoinRules:
    """How rows match files: largest difference of dates in days, and datings, best first."""

    tolerance_days: int = 0
    ga_from: tuple[str, ...] = ("recorded", "due", "lmp")


@dataclass(frozen=True)
class Fit:
    """Rows whose key equals the last `level` parts of a path.

    `quality` is 3 for the complete file name, less for a name without its extension.
    """

    level: int
    quality: int
    place: tuple[str, str]  # of the rows in the index
    records: tuple[Record, ...]

    @property
    def rank(self) -> tuple[int, int]:
        """A key for sorting; larger is a better fit."""
        return self.level, self.quality


@dataclass(frozen=True)
class RecordsTable:
    """The records of a table, and a message for every invalid row or value (`rejected`).

    `layout` is "fetal_planes_db", "hc18" or "table".
    """

    records: tuple[Record, ...]
    rejected: tuple[str, ...]
    layout: str
    match_folders: bool = False
    rules: JoinRules = field(default_factory=JoinRules)
    unused: tuple[str, ...] = ()  # titles of columns that have cells and no meaning
    doubts: tuple[str, ...] = ()  # messages on what the table does not show
    # titles of unused columns by the field that their cells suggest
    suggested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def center_column(self) -> str:
        """The title of an unused column that looks like centers; "" for none."""
        return "".join(self.suggested.get("center", ()))

    def remarks(self) -> list[str]:
        """The messages of `rejected`, each problem once with its first lines."""
        return group_messages(self.rejected)

    def match(self, path: bytes, patient: str | None, study: str | None) -> Record | None:
        """The record of a single file, by `join`; None where no record is applied in full."""
        from sono.curation.records.evidence import FileFacts
        from sono.curation.records.joins import join

        return join([FileFacts(path, patient, study)], self)[0].record

    def fits(self, path: bytes) -> list[Fit]:
        """The rows of images whose key fits `path`, best first.

        More equal parts are better, then an equal file name extension.
        """
        parts = path_parts(_decoded(path))
        found = []
        for start in range(len(parts)):
            tail, level = "/".join(parts[start:]), len(parts) - start
            stem = without_suffix(tail)
            found += self._fit("whole", tail, level, 3)
            found += self._fit("whole", stem, level, 2) if stem != tail else []
            found += self._fit("stem", stem, level, 1)
            if level == len(parts):
                found += self._fit("tail", tail, level, 3) + self._fit("tail", stem, level, 1) * (
                    stem != tail
                )
            elif 1 < level <= TAIL:  # files with absolute keys may have been moved
                found += self._fit("moved", tail, level, 0)
        return found

    def _fit(self, form: str, name: str, level: int, quality: int) -> list[Fit]:
        records = self._images[form].get(name)
        return [Fit(level, quality, (form, name), tuple(records))] if records else []

    def of_study(self, study: str) -> list[Record]:
        """The rows about a study id or accession number."""
        return self._by_study.get(id_form(study), [])

    @cached_property
    def root(self) -> int:
        """The number of leading folders that all absolute paths of images share.

        These folders may have been moved together.
        """
        keys = [
            record.key
            for record in self.records
            if record.kind == "image" and ABSOLUTE.match(record.key)
        ]
        folders = [path_parts(key)[:-1] for key in keys]
        return shared_start(min(folders), max(folders)) if folders else 0

    @cached_property
    def patients(self) -> dict[str, list[Record]]:
        """All rows with a patient, by `id_form` of the patient's id."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if record.patient:
                found.setdefault(id_form(record.patient), []).append(record)
        return found

    def of_patient(self, patient: str) -> list[Record]:
        """The rows about a patient or a study of the patient."""
        return self._by_patient.get(id_form(patient), [])

    @cached_property
    def _images(self) -> dict[str, dict[str, list[Record]]]:
        """Rows about an image by the form of their key.

        Forms: complete, without extension, last parts, last parts of a moved file.
        """
        forms: dict[str, dict[str, list[Record]]] = {
            "whole": {},
            "stem": {},
            "tail": {},
            "moved": {},
        }
        for record in self.records:
            if record.kind != "image":
                continue
            name = "/".join(path_parts(record.key))
            tails = _tails(name)
            names = {
                "whole": [name],
                "stem": [without_suffix(name)] if without_suffix(name) != name else [],
            }
            names["tail"] = [
                form for tail in tails for form in dict.fromkeys((tail, without_suffix(tail)))
            ]
            names["moved"] = (
                [tail for tail in tails if "/" in tail] if ABSOLUTE.match(record.key) else []
            )
            for form, found in names.items():
                for one in found:
                    forms[form].setdefault(one, []).append(record)
        return forms

    @cached_property
    def _by_study(self) -> dict[str, list[Record]]:
        rows = [record for record in self.records if record.kind == "study"]
        return _listed(
            (id_form(name), record)
            for record in rows
            for name in {record.study, record.accession}
            if name
        )

    @cached_property
    def _by_patient(self) -> dict[str, list[Record]]:
        rows = [record for record in self.records if record.kind != "image"]
        return _listed((id_form(record.patient), record) for record in rows if record.patient)


def _listed(pairs: Iterable[tuple[str, Record]]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for name, record in pairs:
        found.setdefault(name, []).append(record)
    return found


def _decoded(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path.decode("cp1252", errors="replace")


def path_parts(path: str) -> list[str]:
    """Folders and name, comparable across systems.

    An archive counts as the folder that it becomes if it is unpacked.
    """
    plain = unicodedata.normalize("NFC", path.strip()).casefold()
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")]
    return [*map(without_archive_suffix, parts[:-1]), *parts[-1:]]


def shared_start(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of leading parts that two paths share.

    For the smallest and the largest of many paths, it is the number that all of them share.
    """
    pairs = enumerate(zip(one, other, strict=False))
    return next(
        (count for count, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other))
    )


def without_suffix(name: str) -> str:
    """A name without an image extension; any other extension may belong to the name."""
    head, _, suffix = name.removesuffix(".gz" if name.endswith(".nii.gz") else "").rpartition(".")
    return head if head and suffix in SUFFIXES else name


def _tails(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(max(1, len(parts) - TAIL), len(parts))]
