"""Invented patients, their examinations, and their rows in a hospital's spreadsheet."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from sono.curation.core.planes import PLANES

SURNAMES = (
    "Lindqvist", "Haverkamp", "Ostrowska", "Tessmann", "Bjornstad", "Cavalcanti", "Dumoulin",
    "Erdogmus", "Fitzalan", "Grabowicz", "Hollenbach", "Ivashova", "Jankauskas", "Kirchhofer",
    "Lammertink", "Mbekiwa", "Nakasone", "Oyelaran", "Petrovska", "Quintanar", "Rasmusdal",
    "Szymborska", "Tregenza", "Ulvskog", "Vandermolen", "Wetherall", "Xanthakis", "Yildirimli",
    "Zavattini", "Akinfemi",
)  # fmt: skip
FORENAMES = (
    "Annelore", "Birgitta", "Celestina", "Dorothea", "Eleonora", "Friederike", "Guinevere",
    "Henrietta", "Isolde", "Josefina", "Katarzyna", "Ludmilla", "Marguerite", "Nadezhda", "Ottilie",
    "Philippa", "Quirina", "Rosalinde", "Sieglinde", "Theodora",
)  # fmt: skip
INSTITUTIONS = {"A": "St. Walburga Frauenklinik", "B": "Hospital Santa Quiteria"}
PHYSICIANS = {"A": "Dr. Morgenthaler", "B": "Dra. Echeverria"}
MACHINES = {"A": ("Aurelia V8", "Aurelia V10"), "B": ("Kestrel 40", "Kestrel 60")}
FINDINGS = (
    "",
    "",
    "",
    "normal appearance",
    "Choroid plexus cyst",
    "pyelectasis; polyhydramnios",
    "oligohydramnios",
    "EIF?",
)
COLUMNS = (
    "File", "MRN", "Name", "DOB", "Exam date", "LMP", "GA", "View", "Hospital", "Machine",
    "BPD (mm)", "HC (mm)", "AC (mm)", "FL (mm)", "CRL (mm)", "NT (mm)", "Findings",
)  # fmt: skip


@dataclass(frozen=True)
class Exam:
    """One visit: its day, the gestational age in days, and the accession number."""

    day: date
    ga_days: int
    accession: str


@dataclass(frozen=True)
class PhantomPatient:
    """An invented patient of one center; `exams` are an early and a later visit."""

    number: int  # over both centers
    center: str
    surname: str
    forename: str
    mrn: str
    birth: date
    machine: str
    exams: tuple[Exam, Exam]

    @property
    def id(self) -> str:
        """The name of the patient in the truth file; it reveals nothing about the patient."""
        return f"{self.center}{self.number:03d}"

    @property
    def dicom_name(self) -> str:
        return f"{self.surname.upper()}^{self.forename.upper()}"


def make_patient(number: int, center: str, seed: int) -> PhantomPatient:
    """Patient `number` of the study.

    The same seed gives the same patient; the first 600 patients have different names.
    """
    rng = np.random.default_rng([seed, 1, number])
    birth = date(1979, 1, 1) + timedelta(days=int(rng.integers(0, 25 * 365)))
    early, late = int(rng.integers(11 * 7, 14 * 7)), int(rng.integers(18 * 7, 38 * 7))
    first = date(2023, 1, 9) + timedelta(days=int(rng.integers(0, 500)))
    exams = tuple(
        Exam(
            first + timedelta(days=age - early),
            age,
            f"{'ACN' if center == 'A' else 'SQ'}{rng.integers(10**6, 10**7)}",
        )
        for age in (early, late)
    )
    digits = 400_000 + (7919 * number + 31_337) % 500_000 + seed % 97
    mrn = f"4{digits:06d}" if center == "A" else f"MB{digits:06d}"
    surname = SURNAMES[(number * 7 + seed) % len(SURNAMES)]
    forename = FORENAMES[(number // len(SURNAMES) + number * 3) % len(FORENAMES)]
    machine = MACHINES[center][int(rng.integers(2))]
    return PhantomPatient(
        number, center, surname, forename, mrn, birth, machine, (exams[0], exams[1])
    )


def record_row(
    patient: PhantomPatient, exam: Exam, plane: str, file: str, biometry_mm: dict[str, float]
) -> dict[str, str]:
    """A row of the records table, in the mixed spellings of a hospital's spreadsheet."""
    rng = np.random.default_rng([patient.number, 2, len(file), *file.encode()[-12:]])
    ga = mixed_ga(exam.ga_days, int(rng.integers(6)))
    last_period = exam.day - timedelta(days=exam.ga_days)
    row = {
        "File": file,
        "MRN": patient.mrn,
        "Name": f"{patient.surname}, {patient.forename}",
        "DOB": mixed_date(patient.birth, patient.number % 4),
        "Exam date": mixed_date(exam.day, int(rng.integers(4))),
        "LMP": "" if ga else mixed_date(last_period, int(rng.integers(4))),
        "GA": ga,
        "View": mixed_label(plane, rng),
        "Hospital": patient.center,
        "Machine": patient.machine,
        "Findings": FINDINGS[int(rng.integers(len(FINDINGS)))],
    }
    return row | {f"{name.upper()} (mm)": f"{value:.1f}" for name, value in biometry_mm.items()}


def mixed_ga(ga_days: int, form: int) -> str:
    """A gestational age in one of five spellings; form 5 gives only the last period."""
    weeks, days = divmod(ga_days, 7)
    spellings = (
        f"{weeks}w{days}d",
        f"{weeks}+{days}",
        f"{weeks} {days}/7",
        f"{ga_days / 7:.2f}",
        f"{ga_days} days",
        "",
    )
    return spellings[form]


def mixed_date(day: date, form: int) -> str:
    """A date in one of four unambiguous spellings."""
    spellings = (
        day.isoformat(),
        f"{day.day:02d}.{day.month:02d}.{day.year}",
        f"{day:%Y%m%d}",
        f"{day.isoformat()} 09:41",
    )
    return spellings[form]


def mixed_label(plane: str, rng: np.random.Generator) -> str:
    """The plane under one of its names, in some case and spacing."""
    known = next(item for item in PLANES if item.id == plane)
    label = str(rng.choice([known.id, known.name, *known.aliases]))
    return (label, label.upper(), label.lower(), label.replace("-", " "))[int(rng.integers(4))]
