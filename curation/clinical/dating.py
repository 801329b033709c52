"""Gestational age from dates and from biometry by published formulas, and their conflicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from math import sqrt

PREGNANCY_DAYS = 280  # Naegele: from the first day of the last period to the due date
CONFLICT_DAYS = 10
# Limits for re-dating by size of ACOG Committee Opinion 700 (2017): 10 days up to 21+6, 14 up to
# 27+6, 21 beyond.
SIZE_CONFLICT_DAYS = ((22 * 7, CONFLICT_DAYS), (28 * 7, 14), (46 * 7, 21))

# Datings that are held against the gestational age in use.
SOURCES = ("recorded", "due", "lmp", "crl", "hc")


@dataclass(frozen=True)
class Dating:
    """A formula from mm to days; None outside the ages (in days) that its publication covers."""

    days: Callable[[float], float]
    low_days: int
    high_days: int
    publication: str


def days_from_lmp(exam: date, lmp: date) -> int:
    """Days from the first day of the last menstrual period to the exam."""
    return (exam - lmp).days


def days_from_due(exam: date, due: date) -> int:
    """Gestational age in days on the exam day, if the due date is day 280."""
    return PREGNANCY_DAYS - (due - exam).days


def robinson_crl(crl_mm: float) -> float:
    """Days from the crown-rump length in mm: 8.052 sqrt(1.037 CRL) + 23.73.

    Robinson and Fleming, Br J Obstet Gynaecol 1975;82:702, with the factor 1.037 for the speed of
    sound of today's machines (Loughna et al., Ultrasound 2009;17:160). 7+0 to 14+1 weeks, 2 SD 4.7
    days.
    """
    return 8.052 * sqrt(1.037 * crl_mm) + 23.73


def hadlock_hc(hc_mm: float) -> float:
    """Days from the head circumference in mm.

    8.96 + 0.540 HC + 0.0003 HC^3 weeks, HC in cm (Hadlock 1984).
    """
    hc = hc_mm / 10
    return 7 * (8.96 + 0.540 * hc + 0.0003 * hc**3)


def hadlock_bpd(bpd_mm: float) -> float:
    """Days from the biparietal diameter in mm.

    9.54 + 1.482 BPD + 0.1676 BPD^2 weeks, BPD in cm (Hadlock 1984).
    """
    bpd = bpd_mm / 10
    return 7 * (9.54 + 1.482 * bpd + 0.1676 * bpd**2)


def hadlock_ac(ac_mm: float) -> float:
    """Days from the abdominal circumference in mm.

    8.14 + 0.753 AC + 0.0036 AC^2 weeks, AC in cm (Hadlock 1984).
    """
    ac = ac_mm / 10
    return 7 * (8.14 + 0.753 * ac + 0.0036 * ac**2)


def hadlock_fl(fl_mm: float) -> float:
    """Days from the femur length in mm.

    10.35 + 2.460 FL + 0.170 FL^2 weeks, FL in cm (Hadlock 1984).
    """
    fl = fl_mm / 10
    return 7 * (10.35 + 2.460 * fl + 0.170 * fl**2)


ROBINSON = "Robinson and Fleming 1975"
# 361 fetuses of 14 to 42 weeks
HADLOCK = "Hadlock, Deter, Harrist and Park, Radiology 1984;152:497"

DATINGS: dict[str, Dating] = {
    "crl": Dating(robinson_crl, 7 * 7, 14 * 7 + 1, ROBINSON),
    "hc": Dating(hadlock_hc, 14 * 7, 42 * 7, HADLOCK),
    "bpd": Dating(hadlock_bpd, 14 * 7, 42 * 7, HADLOCK),
    "ac": Dating(hadlock_ac, 14 * 7, 42 * 7, HADLOCK),
    "fl": Dating(hadlock_fl, 14 * 7, 42 * 7, HADLOCK),
}


def days_from_size(measure: str, size_mm: float) -> int | None:
    """Days from a measurement of DATINGS, rounded; None if the formula does not apply."""
    dating = DATINGS[measure]
    days = round(dating.days(size_mm))
    return days if dating.low_days <= days <= dating.high_days else None


def tolerance_days(source: str, ga_days: int) -> int:
    """The difference in days from `ga_days` that a dating may have without a conflict.

    It is 10 days for dates and CRL. Head sizes at one age vary more later, so HC has 10 days before
    22 weeks, 14 before 28, and 21 from then on.
    """
    if source not in DATINGS or source == "crl":
        return CONFLICT_DAYS
    return next(days for end, days in SIZE_CONFLICT_DAYS if ga_days < end)


def disagreeing(chosen: str, datings: Mapping[str, int]) -> tuple[str, ...]:
    """The datings (source to days) that differ too much from the `chosen` one."""
    ga_days = datings[chosen]
    return tuple(
        source
        for source in (*SOURCES, "report")
        if source in datings and abs(datings[source] - ga_days) > tolerance_days(source, ga_days)
    )
