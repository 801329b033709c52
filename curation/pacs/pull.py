"""`sono pull`: fetch studies from a PACS into a raw folder; complete files only, resumable."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from sono.curation.core.atomic import (
    FULL_DISK,
    MAX_JSON_BYTES,
    lock_file,
    read_regular,
    remove_leftovers,
)
from sono.curation.core.console import progress, stderr_console
from sono.curation.core.errors import SonoError, counted
from sono.curation.core.study_folder import enclosing_workspace
from sono.curation.pacs.access import printable
from sono.curation.pacs.client import (
    Item,
    NotServedError,
    Pacs,
    RetryPolicy,
    TransientError,
    connect,
    retries_exhausted,
    search_all,
    value,
    values_of,
    with_retries,
)
from sono.curation.pacs.wado import Instance, retrieve, short_hash

MANIFEST_NAME = ".pull.jsonl"
REPORTS = "SR"  # structured reports hold the measurements of the study, and come with any modality
STUDY_DATE, MODALITY, MODALITIES, PATIENT_ID = "00080020", "00080060", "00080061", "00100020"
STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
# wider than the standard, as archives are; safe in an address
UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
FAILURES_IN_A_ROW = 5  # then it is the server and not the file


@dataclass(frozen=True)
class PullOptions:
    """The options of `sono pull`: days are StudyDates, both included; `limit` counts studies."""

    url: str
    out: Path
    first_day: date | None = None
    last_day: date | None = None
    modality: str = "US"
    patient_file: Path | None = None
    limit: int | None = None
    insecure_http: bool = False
    page_size: int = 100
    patience: RetryPolicy = field(default_factory=RetryPolicy)

    def refuse_nothing(self, summary: "PullSummary") -> None:
        """Raise SonoError with the query if no study matched."""
        if summary.studies:
            return
        days = (
            f" from {self.first_day or 'the first day'} to {self.last_day or 'today'}"
            if self.has_days
            else ""
        )
        listed = f" of the patients in {self.patient_file}" if self.patient_file else ""
        raise SonoError(
            f"{self.url}: no study of modality {self.modality}{days}{listed}, so nothing was "
            f"fetched; "
            "check --from, --to, --modality and --patient-file"
        )

    @property
    def has_days(self) -> bool:
        return self.first_day is not None or self.last_day is not None


@dataclass(frozen=True)
class PullSummary:
    """The result of one `sono pull`; `left_out` counts instances of other modalities."""

    studies: int
    fetched: int
    here_already: int
    failed: int
    megabytes: float
    left_out: dict[str, int] = field(default_factory=dict)

    def refuse_failures(self) -> None:
        """Raise SonoError if some files could not be fetched."""
        if self.failed:
            raise SonoError(
                f"{counted(self.failed, 'file')}"
                f" could not be fetched ({MANIFEST_NAME} has the reasons); run "
                "the "
                f"same command again"
            )


@dataclass
class Manifest:
    """The log of a raw folder.

    `whole` has the size in bytes of each complete file, `failed` the files that could not be
    fetched.
    """

    stream: IO[str]
    whole: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def note(self, entry: dict[str, Any]) -> None:
        """Append a line."""
        self.stream.write(
            json.dumps({**entry, "time": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n"
        )
        self.stream.flush()
        self._learn(entry)

    def _learn(self, entry: dict[str, Any]) -> None:
        file = str(entry["file"])
        if "bytes" in entry:
            self.whole[file] = int(entry["bytes"])
            self.failed.discard(file)
        else:
            self.failed.add(file)

    def read(self, text: str) -> None:
        """Read earlier lines; a line that a crash cut off is ignored."""
        # a complete line is ASCII: json.dumps escapes the rest
        for line in filter(str.isascii, text.splitlines()):
            try:
                self._learn(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue


def pull_studies(options: PullOptions) -> PullSummary:
    """Fetch the studies that match, one complete file at a time.

    Raises SonoError if the server or the folder is not usable.
    """
    queries = _queries(options)
    tally: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    refuse_folder(options.out)
    with (
        connect(options.url, options.insecure_http, options.patience) as pacs,
        _full_disk(options.out),
    ):
        studies = _find_studies(pacs, options, queries)
        with _open_folder(options.out) as manifest, progress("studies", len(studies)) as advance:
            for study in _failed_last(studies, manifest):
                remove_leftovers(options.out / short_hash(study))
                for instance in _find_instances(pacs, options, study, left_out):
                    _fetch_file(pacs, options.out / instance.file, instance, manifest, tally)
                    advance(
                        0,
                        note=f"{counted(tally['fetched'], 'file')}, {tally['bytes'] / 1e6:.0f} MB",
                    )
                advance()
    megabytes = round(tally["bytes"] / 1e6, 3)
    return PullSummary(
        len(studies),
        tally["fetched"],
        tally["here"],
        tally["failed"],
        megabytes,
        dict(sorted(left_out.items())),
    )


def _queries(options: PullOptions) -> list[dict[str, str]]:
    """The filters of each search: a single one, or one per patient."""
    first, last = (day and day.strftime("%Y%m%d") for day in (options.first_day, options.last_day))
    if first and last and first > last:
        raise SonoError(f"--from {options.first_day} is after --to {options.last_day}")
    if not (first or last or options.patient_file or options.limit):
        raise SonoError(
            "this would fetch every study of the PACS; give --from and --to, --patient-file or "
            "--limit"
        )
    common = {"ModalitiesInStudy": options.modality}
    if first or last:
        common["StudyDate"] = f"{first or ''}-{last or ''}"
    if options.patient_file is None:
        return [common]
    return [{**common, "PatientID": patient} for patient in read_patients(options.patient_file)]


def read_patients(path: Path) -> list[str]:
    """Patient ids, one per line, without duplicates.

    Raises SonoError if there are none, or if one has a wildcard.
    """
    try:
        lines = read_regular(path, MAX_JSON_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SonoError(
            f"{path}: not UTF-8 text; give a text file with one patient id per line"
        ) from error
    for number, line in enumerate(lines, start=1):
        if set("*?\\") & set(line):
            raise SonoError(
                f"{path}:{number}: a patient id has *, ? or a backslash, which would match other "
                f"patients"
            )
    patients = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not patients:
        raise SonoError(
            f"{path}: contains no patient id; give a text file with one patient id per line"
        )
    return patients


def refuse_folder(out: Path) -> None:
    """Raise SonoError if `out` is in a workspace or its vault, or contains foreign files.

    Links are resolved first.
    """
    real = Path(os.path.realpath(out))
    study = enclosing_workspace(real)
    if study is not None:
        raise SonoError(
            f"{out}: is inside the workspace {study}, which may be shared; raw files must not be "
            "shared"
        )
    for folder in (real, *real.parents):
        if folder.suffix == ".vault" and (folder / "key").is_file():
            raise SonoError(
                f"{out}: is inside the vault {folder}, which is for a study's private files; "
                "choose "
                f"another place"
            )
    if (
        os.path.lexists(out)
        and not (out / MANIFEST_NAME).exists()
        and (not out.is_dir() or any(out.iterdir()))
    ):
        raise SonoError(f"{out}: exists and is not a folder of sono pull; choose a new name")


@contextmanager
def _open_folder(out: Path) -> Iterator[Manifest]:
    """Create or open the raw folder, for one `sono pull` at a time; only its owner may read it."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    out.chmod(0o700)
    with os.fdopen(
        os.open(out / MANIFEST_NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600),
        "r+",
        encoding="utf-8",
        errors="replace",
    ) as stream:
        lock_file(stream, f"{out}: another sono pull is writing here; wait for it to end")
        manifest = Manifest(stream)
        stream.seek(0)
        earlier = stream.read()
        manifest.read(earlier)
        if earlier and not earlier.endswith("\n"):
            stream.write("\n")
        yield manifest


@contextmanager
def _full_disk(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise SonoError(
            f"{out}: the disk is full; make room, then the same command continues where it stopped"
        ) from error


def _find_studies(pacs: Pacs, options: PullOptions, queries: list[dict[str, str]]) -> list[str]:
    """The UIDs of matching studies, without duplicates."""
    studies: dict[str, None] = {}
    for study in chain.from_iterable(
        _matching(pacs, query, options.page_size) for query in queries
    ):
        studies[study] = None
        if len(studies) == options.limit:
            break
    return list(studies)


def _failed_last(studies: list[str], manifest: Manifest) -> list[str]:
    """Studies with earlier failures come last, so that a broken one cannot block the others."""
    failed = {file.partition("/")[0] for file in manifest.failed}
    return sorted(studies, key=lambda study: short_hash(study) in failed)


def _matching(pacs: Pacs, query: dict[str, str], page_size: int) -> Iterator[str]:
    passed_over = 0
    for item in search_all(pacs, pacs.client.search_for_studies, query, STUDY_UID, page_size):
        if matches(item, query):
            yield _uid(item, STUDY_UID, pacs)
        else:
            passed_over += 1
    if passed_over:
        stderr_console.print(
            f"{counted(passed_over, 'study', 'studies')} that the server gave left out: no match"
        )


def matches(item: Item, query: dict[str, str]) -> bool:
    """Whether a study matches the query, as far as the response shows.

    Some servers ignore a filter.
    """
    day, patient, held = (
        value(item, STUDY_DATE),
        value(item, PATIENT_ID),
        values_of(item, MODALITIES),
    )
    first, _, last = query.get("StudyDate", "-").partition("-")
    in_days = not day or (first or day) <= day.replace(".", "") <= (last or day)
    is_patient = not patient or patient == query.get("PatientID", patient)
    return in_days and is_patient and (not held or query["ModalitiesInStudy"] in held)


def _uid(item: Item, tag: str, pacs: Pacs) -> str:
    uid = value(item, tag)
    if not UID.fullmatch(uid):
        raise SonoError(
            f"{pacs.url}: a match has no valid UID ({tag}); is this a DICOMweb service?"
        )
    return uid


def _find_instances(
    pacs: Pacs, options: PullOptions, study: str, left_out: Counter[str]
) -> list[Instance]:
    """The files of a study: those of the modality, and structured reports.

    The others are counted in `left_out`.
    """
    search = partial(pacs.client.search_for_instances, study)
    items = list(search_all(pacs, search, {}, INSTANCE_UID, options.page_size))
    wanted = [item for item in items if value(item, MODALITY) in ("", options.modality, REPORTS)]
    left_out.update(printable(value(item, MODALITY)) for item in items if item not in wanted)
    return [
        Instance(study, _uid(item, SERIES_UID, pacs), _uid(item, INSTANCE_UID, pacs))
        for item in wanted
    ]


def _fetch_file(
    pacs: Pacs, target: Path, instance: Instance, manifest: Manifest, tally: Counter[str]
) -> None:
    """Fetch one file unless it is already complete.

    A file that cannot be fetched is recorded and skipped.
    """
    if target.is_file() and target.stat().st_size == manifest.whole.get(instance.file):
        tally["here"] += 1
        return
    entry = {
        "file": instance.file,
        "study": instance.study,
        "series": instance.series,
        "instance": instance.uid,
    }
    try:
        facts = with_retries(partial(retrieve, pacs, instance, target), pacs.patience)
    except (NotServedError, TransientError) as error:
        manifest.note({**entry, "error": str(error)})
        stderr_console.print(f"{instance.file}: {error}", markup=False)
        tally["failed"] += 1
        tally["in_a_row"] += isinstance(error, TransientError)
        if tally["in_a_row"] >= FAILURES_IN_A_ROW and isinstance(error, TransientError):
            raise retries_exhausted(error) from error
        return
    manifest.note({**entry, **facts})
    tally["in_a_row"] = 0
    tally.update(fetched=1, bytes=int(facts["bytes"]))
