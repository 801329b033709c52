"""What stands in the place of an id, a name or a date that nobody knows.

It is no fact, and joins nothing.
"""

import unicodedata
from datetime import date, timedelta
from functools import lru_cache

from sono.curation.clinical.name_variants import normalize, tokens_of, words_of

# What stands in a column of ids and is none: the one above again, yes or no, true or false, a sex.
# Some of these are names of people (Sim, Mann), so they are no placeholders of a name.
_AGAIN = words_of(
    """
    dito ditto idem ibid ibidem desgleichen asabove seeabove sameasabove sieheoben wieoben
    true false wahr falsch vrai verdadero verdadeiro waar onwaar
    """
)
_ANSWERS = _AGAIN | words_of(
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

# Where all words of an id or name are among these, nobody is named.
_WORDS = _AGAIN | words_of(
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
_MANY_NINES = 4  # that stand for nobody; 9, 99 and 999 number real patients
_REPEATS = 3  # of one letter; AA and BB may be codes

FIRST_EXAM = date(1976, 1, 1)  # there were no DICOM files of fetuses before
_NO_DAYS = ((1, 1), (12, 31), (12, 30))  # the last is day 0 of a spreadsheet's calendar
MOTHER_AGES = (8, 70)  # years at the exam
_OLDEST_BIRTH = date(FIRST_EXAM.year - MOTHER_AGES[1], 1, 1)
_NO_BIRTHS = frozenset({date(1911, 11, 11)})  # all keys the same
_YEAR_DAYS = 365.25


@lru_cache(65536)
def id_form(text: str) -> str:
    """An id as it is compared: case, blanks, full-width and composed letters do not count."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


@lru_cache(65536)
def names_nobody(text: str) -> bool:
    """Whether an id or a name stands for an unknown patient, exam or person.

    So do signs without a letter or digit, zeros, at least four nines, one letter repeated (or x),
    and words for unknown, none, anonymous or test in the languages that sono reads.
    """
    atoms = tokens_of(normalize(id_form(text)))
    joined = "".join(atoms)
    if joined in _WORDS or all(atom in _WORDS for atom in atoms):
        return True
    if len(set(joined)) > 1:
        return False
    least = {"0": 1, "9": _MANY_NINES, "x": 1}.get(
        joined[0], _REPEATS if joined.isalpha() else len(joined) + 1
    )
    return len(joined) >= least


@lru_cache(65536)
def is_answer(text: str) -> bool:
    """Whether a cell that should hold an id holds a ditto mark, or one word for same, yes, no,
    true, false or a sex.
    """
    form = id_form(text)
    return "".join(tokens_of(normalize(form))) in _ANSWERS or (
        bool(form) and _DITTO_MARKS.issuperset(form)
    )


def is_exam_day(day: date) -> bool:
    """Whether a fetus can have been examined on `day`.

    After 1975 and not in the future, but for the time zone.
    """
    return FIRST_EXAM <= day <= date.today() + timedelta(days=1)


def is_no_day(day: date) -> bool:
    """Whether `day` is written where an exam's is not known.

    The first or last day of a year that can be of none.
    """
    return not is_exam_day(day) and (day.month, day.day) in _NO_DAYS


def is_mothers_birth(birth: date, exam: date | None) -> bool:
    """Whether a patient born on `birth` can have been examined on `exam`, at 8 to 70 years.

    With `exam` None: on any day.
    """
    if birth in _NO_BIRTHS or not _OLDEST_BIRTH <= birth <= date.today():
        return False
    return exam is None or MOTHER_AGES[0] <= (exam - birth).days / _YEAR_DAYS <= MOTHER_AGES[1]


@lru_cache(65536)
def known(identity: str | None) -> str | None:
    """An id as it is compared; None where it names nobody."""
    return (
        None if not identity or names_nobody(identity) or is_answer(identity) else id_form(identity)
    )
