"""Recognize placeholders for an unknown id, name or date; they never match a record to a file."""

import unicodedata
from datetime import date, timedelta
from functools import lru_cache

from sono.curation.clinical.name_variants import normalize, tokens_of, words_of

# Words for "as above", true and false: placeholders for an id and for a name.
_NEVER_NAMES = words_of(
    """
    dito ditto idem ibid ibidem desgleichen asabove seeabove sameasabove sieheoben wieoben
    true false wahr falsch vrai verdadero verdadeiro waar onwaar
    """
)
# Placeholders for an id only: words for the same, yes, no and a sex, because some of them are names
# of people (Sim, Mann).
_NEVER_IDS = _NEVER_NAMES | words_of(
    """
    same thesame identical gleich gleiche derselbe dieselbe dasselbe identisch meme lameme identique
    mismo lamisma misma igual identico identica stesso stessa lastessa uguale mesmo mesma hetzelfde
    dezelfde zelfde gelijk yes no ja nein oui non si sim nao nee female male patient man girl boy
    weiblich maennlich mannlich frau mann femme homme feminin feminine masculin masculine mujer
    hombre femenino femenina masculino masculina donna uomo femmina maschio femminile maschile
    mulher homem feminino feminina vrouw vrouwelijk mannelijk
    """
)
_DITTO_MARKS = frozenset("\"'〃″“”„‟")

# An id or name that consists only of these words is a placeholder.
_PLACEHOLDERS = _NEVER_NAMES | words_of(
    """
    none no not null nil nan nat na nn void empty blank missing unknown unknow unk undefined
    unspecified unidentified unassigned unavailable available known given applicable recorded
    entered unnamed noname noid nobody anonymous anon anonymized anonymised anonymize deidentified
    removed deleted redacted masked hidden confidential withheld tbd todo pending control controls
    losttofollowup lostfollowup test testing tester dummy demo example sample default phantom temp
    invalid kein keine keiner ohne nicht unbekannt unbekannte bekannt anonym anonymisiert namenlos
    niemand leer fehlt fehlend entfernt angabe angaben probe keineangabe aucun aucune sans non
    inconnu inconnue anonyme anonymise anonymisee personne vide manquant essai disponible connu
    ninguno ninguna sin desconocido desconocida anonimo anonima anonimizado anonimizada vacio prueba
    nessuno nessuna senza sconosciuto sconosciuta ignoto ignota anonimizzato vuoto prova noto nenhum
    nenhuma sem nao desconhecido desconhecida anonimizada vazio teste geen niet zonder onbekend
    bekend anoniem geanonimiseerd leeg proef the of patient patiente patientin pat paciente paziente
    person subject case woman mother baby fetus study exam accession name nom nombre nome naam namen
    id ids mrn pid number nummer numero nr identifier
    """
)
_MIN_NINES = 4  # digits of a placeholder; 9, 99 and 999 are numbers of real patients
_MIN_REPEATS = 3  # letters of a placeholder; AA and BB may be codes

FIRST_EXAM = date(1976, 1, 1)  # no exam on file is older
# month and day of placeholder dates; the last is day 0 of a spreadsheet's calendar
_PLACEHOLDER_DAYS = ((1, 1), (12, 31), (12, 30))
MOTHER_AGES = (8, 70)  # years at the exam
_OLDEST_BIRTH = date(FIRST_EXAM.year - MOTHER_AGES[1], 1, 1)
_PLACEHOLDER_BIRTHS = frozenset({date(1911, 11, 11)})  # typed as 11111111 or 11.11.11
_YEAR_DAYS = 365.25


@lru_cache(65536)
def id_form(text: str) -> str:
    """The form in which ids are compared: case, outer blanks and letter widths do not count."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


@lru_cache(65536)
def is_placeholder(text: str) -> bool:
    """Whether an id or a name is a placeholder for an unknown patient, exam or person.

    Placeholders are signs without a letter or digit, only zeros, at least four nines, one letter
    repeated at least three times, x, and words for unknown, none, anonymous or test in the
    languages that sono reads.
    """
    atoms = tokens_of(normalize(id_form(text)))
    joined = "".join(atoms)
    if joined in _PLACEHOLDERS or all(atom in _PLACEHOLDERS for atom in atoms):
        return True
    if len(set(joined)) > 1:
        return False
    least = {"0": 1, "9": _MIN_NINES, "x": 1}.get(
        joined[0], _MIN_REPEATS if joined.isalpha() else len(joined) + 1
    )
    return len(joined) >= least


@lru_cache(65536)
def is_answer(text: str) -> bool:
    """Whether a cell of a column of ids contains a ditto mark or an answer instead of an id.

    An answer is one word for the same, yes, no, true, false or a sex.
    """
    form = id_form(text)
    return "".join(tokens_of(normalize(form))) in _NEVER_IDS or (
        bool(form) and _DITTO_MARKS.issuperset(form)
    )


def is_exam_day(day: date) -> bool:
    """Whether `day` is a possible exam date: after 1975 and not in the future.

    Tomorrow is possible, because of time zones.
    """
    return FIRST_EXAM <= day <= date.today() + timedelta(days=1)


def is_placeholder_day(day: date) -> bool:
    """Whether `day` is a placeholder for an unknown exam date.

    It is the first or last day (or December 30) of a year in which there can be no exam.
    """
    return not is_exam_day(day) and (day.month, day.day) in _PLACEHOLDER_DAYS


def is_mothers_birth(birth: date, exam: date | None) -> bool:
    """Whether a patient born on `birth` can have been examined on `exam`, at 8 to 70 years.

    If `exam` is None, the day of the exam is unknown and may be any.
    """
    if birth in _PLACEHOLDER_BIRTHS or not _OLDEST_BIRTH <= birth <= date.today():
        return False
    return exam is None or MOTHER_AGES[0] <= (exam - birth).days / _YEAR_DAYS <= MOTHER_AGES[1]


@lru_cache(65536)
def known_id(identity: str | None) -> str | None:
    """The form in which an id is compared; None for a missing id and for a placeholder."""
    if not identity or is_placeholder(identity) or is_answer(identity):
        return None
    return id_form(identity)
