"""Where a measure lies in the INTERGROWTH-21st fetal growth standards at its gestational age.

Equations of mean and standard deviation in mm by exact weeks: Papageorghiou et al., Lancet
2014;384:869-79. Its measures are outer to outer, as those of `biometry`.
"""

from collections.abc import Callable, Mapping
from math import erf, exp, log, sqrt
from types import MappingProxyType

DAYS = (98, 280)  # 14 to 40 weeks, for which the standards hold

Curve = Callable[[float], float]


def _hc(w: float) -> float:
    return -28.2849 + 1.69267 * w**2 - 0.397485 * w**2 * log(w)


def _hc_sd(w: float) -> float:
    return 1.98735 + w**3 * (0.0136772 - 0.00726264 * log(w) + 0.000976253 * log(w) ** 2)


def _bpd(w: float) -> float:
    return 5.60878 + 0.158369 * w**2 - 0.00256379 * w**3


def _bpd_sd(w: float) -> float:
    shape = 0.00150557 - 0.000771535 * log(w) + 0.0000999638 * log(w) ** 2
    return exp(0.101242 + w**3 * shape)


def _ac(w: float) -> float:
    return -81.3243 + 11.6772 * w - 0.000561865 * w**3


def _ac_sd(w: float) -> float:
    return -4.36302 + 0.121445 * w**2 + w**3 * (0.00282143 * log(w) - 0.0130256)


def _fl(w: float) -> float:
    return -39.9616 + 4.32298 * w - 0.0380156 * w**2


def _fl_sd(w: float) -> float:
    return exp(0.605843 - 42.0014 / w**2 + 0.00000917972 * w**3)


STANDARDS: Mapping[str, tuple[Curve, Curve]] = MappingProxyType(
    {"hc": (_hc, _hc_sd), "bpd": (_bpd, _bpd_sd), "ac": (_ac, _ac_sd), "fl": (_fl, _fl_sd)}
)


def z_score(measure: str, value_mm: float, ga_days: int | None) -> float | None:
    """Standard deviations from the mean; None without a standard or an age of 14 to 40 weeks."""
    if measure not in STANDARDS or ga_days is None or not DAYS[0] <= ga_days <= DAYS[1]:
        return None
    mean, deviation = STANDARDS[measure]
    return (value_mm - mean(ga_days / 7)) / deviation(ga_days / 7)


def centile(z: float) -> float:
    """The share in percent of the standard population below a z-score."""
    return 50 * (1 + erf(z / sqrt(2)))
