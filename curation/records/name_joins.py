"""Match files and rows by path and name, where both are unique or ids and dates decide."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from sono.curation.clinical.placeholders import known_id
from sono.curation.records.evidence import (
    CANDIDATES,
    CONFLICT,
    DATE,
    NO_RECORD,
    UNDECIDED,
    FileFacts,
    Match,
    ambiguous,
    compare,
    contradiction_of,
    lines_of,
)
from sono.curation.records.identity import same_id, unpadded
from sono.curation.records.table import Fit, Record, RecordsTable

Item = TypeVar("Item")


class Bucket(Generic[Item]):
    """Files or rows with one name, indexed by patient id so that other patients are skipped."""

    def __init__(self) -> None:
        self.all: list[Item] = []
        self.by_patient: dict[str, list[Item]] = {}  # "" for those without a patient

    def add(self, item: Item, patients: Iterable[str]) -> None:
        """Add an item under the ids of its patient, or under "" for none."""
        self.all.append(item)
        for patient in set(patients) or {""}:
            self.by_patient.setdefault(patient, []).append(item)

    def near(self, patients: Iterable[str]) -> list[Item]:
        """The items that may belong to one of `patients`; all items where `patients` is empty."""
        wanted = sorted(set(patients))
        found = (
            [item for patient in (*wanted, "") for item in self.by_patient.get(patient, ())]
            if wanted
            else self.all
        )
        return list({id(item): item for item in found}.values()) if len(wanted) > 1 else found


class Names:
    """Files and rows of images that fit by path or name, and the unique pairs among them.

    `namesakes` are further files that the rows may describe.
    """

    def __init__(
        self, files: Sequence[FileFacts], table: RecordsTable, namesakes: Sequence[FileFacts] = ()
    ) -> None:
        self.rules = table.rules
        self.fits: dict[bytes, list[Fit]] = {}
        self.files: dict[tuple[str, str], Bucket[FileFacts]] = {}  # by place in the index
        self.best: dict[int, Fit] = {}  # of each row by its identity in memory
        for facts in (*files, *namesakes):
            found = self.fits[facts.path] = table.fits(facts.path)
            for fit in found:
                bucket = self.files.get(fit.place)
                if bucket is None:
                    bucket = self.files[fit.place] = Bucket()
                    self._note(fit)
                bucket.add(facts, facts.patient_ids)
        self.rows: dict[tuple[str, str], Bucket[Record]] = {}
        self.sound: dict[int, list[FileFacts]] = {}  # by row: files that it does not contradict

    def _note(self, fit: Fit) -> None:
        for record in fit.records:
            known = self.best.get(id(record))
            if known is None or fit.rank > known.rank:
                self.best[id(record)] = fit

    def match(self, facts: FileFacts) -> Match:
        """The match of a file by path or name, without a record where it is not unique."""
        fits = self.fits[facts.path]
        if not fits:
            return Match(facts, codes=(NO_RECORD,), why="no row names this file")
        best = fits[0]
        rows = self._rows(best)
        if not rows.all:
            line = best.records[0].line
            return Match(
                facts,
                rows=best.records[:1],
                codes=(NO_RECORD,),
                why=f"line {line} fits another file better",
            )
        sound, left_out = self._sound_rows(facts, rows)
        if not sound:
            return self._contradicted(facts, rows)
        if len(sound) > 1:
            found = tuple(sound[:CANDIDATES])
            return ambiguous(facts, found, (), f"{lines_of(found)} fit equally well")
        return self._chosen(facts, sound[0], best, left_out)

    def _rows(self, fit: Fit) -> Bucket[Record]:
        """The rows of a place in the index that have no better fit elsewhere."""
        if fit.place not in self.rows:
            bucket = self.rows[fit.place] = Bucket()
            for record in fit.records:
                if self.best[id(record)].place == fit.place:
                    bucket.add(record, _patients_of(record))
        return self.rows[fit.place]

    def _sound_rows(self, facts: FileFacts, rows: Bucket[Record]) -> tuple[list[Record], bool]:
        """A few rows that do not contradict the file, and whether others were excluded."""
        near = rows.near(facts.patient_ids)
        sound = []
        for record in near:
            if not compare(facts, record, self.rules.tolerance_days).contradiction:
                sound.append(record)
                if len(sound) > CANDIDATES:
                    break
        return sound, len(sound) < len(rows.all)

    def _chosen(self, facts: FileFacts, record: Record, fit: Fit, left_out: bool) -> Match:
        """The match with the only row of a file, if the file is also the row's only file."""
        files = self.files[fit.place]
        if id(record) not in self.sound:
            self.sound[id(record)] = self._sound_files(record, files)
        sound = self.sound[id(record)]
        if sound[-1].content != sound[0].content:  # copies of one file come first
            others = tuple(one.path for one in sound[-CANDIDATES:] if one.path != facts.path)
            return ambiguous(
                facts, (record,), others, f"line {record.line} fits several files by name"
            )
        agrees = compare(facts, record, self.rules.tolerance_days).agrees or same_id(
            facts.center, record.site
        )
        if not agrees and (left_out or len(sound) < len(files.all)):
            why = (
                f"line {record.line} fits several files by name, and no id or date confirms that "
                "it describes this one"
            )
            return ambiguous(
                facts, (record,), tuple(one.path for one in files.all[:CANDIDATES]), why
            )
        evidence = "path" if fit.level > 1 else "name"
        unique = len(files.all) == 1 and not left_out
        return Match(facts, record, (record,), evidence if unique else f"{evidence} and header")

    def _sound_files(self, record: Record, files: Bucket[FileFacts]) -> list[FileFacts]:
        """The files that a row does not contradict; only a few that are not copies of the first."""
        sound: list[FileFacts] = []
        others: list[FileFacts] = []
        for other in files.near(_patients_of(record)):
            if not compare(other, record, self.rules.tolerance_days).contradiction:
                same = not sound or other.content == sound[0].content
                (sound if same else others).append(other)
                if len(others) == CANDIDATES:
                    break
        return sound + others

    def _contradicted(self, facts: FileFacts, rows: Bucket[Record]) -> Match:
        """The match of a file whose header contradicts all rows with its name.

        If only the date of a single row differs, its facts of the patient are still used.
        """
        record = rows.all[0]
        found = tuple(rows.all[:CANDIDATES])
        verdict = compare(facts, record, self.rules.tolerance_days)
        if len(rows.all) > 1:
            return Match(
                facts,
                None,
                found,
                "",
                (NO_RECORD, CONFLICT),
                f"the header contradicts {lines_of(found)}",
            )
        why = contradiction_of(facts, record, verdict.contradiction)
        if (
            verdict.contradiction == DATE
            and verdict.agrees
            and len(self.files[self.best[id(record)].place].all) == 1
        ):
            return Match(facts, None, found, "path, patient", (UNDECIDED,), why)
        return Match(facts, None, found, "", (NO_RECORD, CONFLICT), why)


def _patients_of(record: Record) -> list[str]:
    """The id of a row's patient for comparison, [] where it names no patient."""
    form = known_id(record.patient)
    return [unpadded(form)] if form else []
