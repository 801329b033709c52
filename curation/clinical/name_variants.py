"""The spellings in which people and machines write a name or an id, reduced to comparable forms."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise, permutations

from sono.curation.clinical.look_alikes import latin_forms

Phrase = tuple[str, ...]  # the atoms of a text (runs of letters and digits) in order

MIN_WORD = 5  # characters of a single atom; shorter ones ("1", "AB") occur in any text by chance
MIN_JOINED = 6  # characters of several atoms together
MIN_DIGITS = 7  # of atoms that are all digits
MIN_ID_DIGITS = 5  # of a string without blanks that counts as an id; machine names have fewer
MAX_ATOMS = 6  # a longer string is searched by its words
# A text of unknown kind with more parts is a sentence, in which adjacent words are not a name.
NAME_ATOMS = 4
PERSON_ATOMS = 12  # of a person's name with more parts, only adjacent parts are paired
MAX_GROUPS = 6  # of an id that is written in groups
WORD_INITIALS = frozenset("ai")  # initials that are also English words

# Letters that Unicode does not decompose into a plain letter, and the digraphs that replace
# accented letters on plain keyboards.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i"}
)
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_ATOM = re.compile(r"[^\W_]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_UID = re.compile(r"(?<![\w.])\d+(?:\.\d+){4,}(?![\w.]\d)")
# these begin with the sign itself, so that a text without one is searched fast
_POSSESSIVE = re.compile(r"['’`´](?<=[^\W\d_]{2}['’`´])s(?![^\W_])")
_TATWEEL = "\u0640"
APOSTROPHES = "'’`´‘‛ʼʻʹ′"
_APOSTROPHE = re.compile(rf"[{APOSTROPHES}](?<=\w[{APOSTROPHES}])(?=\w)")
HYPHENS = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_HYPHENED = re.compile(r"(?<![^\W\d_])[^\W\d_]++(?:-\n?[^\W\d_]++)+")
_LOWER, _UPPER = "a-zß-öø-ÿα-ωа-я", "A-ZÀ-ÖØ-ÞΑ-ΩА-Я"
_SEAM = re.compile(rf"(?<=[{_LOWER}])(?=[{_UPPER}])|(?<=[{_UPPER}])(?=[{_UPPER}][{_LOWER}])")
_CAMEL = re.compile(rf"[^\W_]*[{_LOWER}{_UPPER}][{_UPPER}][^\W_]*")
_NUMBER_SEAM = re.compile(r"(?<=[^\W\d_])\d+(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_DIGEST = re.compile(r"[0-9a-f]{8,}")  # holds short names of the letters a to f by chance
# An id in groups: 123 456 7890, 12.345.678-Z, AB 123-4567. Two groups joined by a point are a
# decimal number.
GROUPED = re.compile(
    r"(?<![^\W_])(?<!\d[.,])(?:[a-z]{1,5}[-./_ ]?)?\d+(?: ?[-/_#\\] ?\d+| \d+|(?:\.\d+){2})(?: "
    r"?[-./_#\\] ?\d+| \d+)*"
    r"(?:[-./_ ]?[a-z])?(?![^\W_])"
)
_THOUSANDS = re.compile(r"(?<![^\s(#:])\d{1,3}(?:,\d{3}){2,}(?![^\s).;:])(?!\.\d)")  # 4,711,223
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_NUMBERED = re.compile(r"[a-z]{1,5}0*(\d{5,12})")  # an id with its prefix: ACC0099887
_COUNTED = re.compile(r"(?<=[^\W\d_])\d{1,4}$")  # the number in frame0012
_IDEOGRAPHS = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}"
)  # scripts that write a name in 2 to 4 letters

# Words that accompany a name without being part of it.
TITLES = frozenset(
    _ATOM.findall(
        """
        dipl dott dottssa doz dr dra fr frau gyn herr hr ii iii ing jr lic md med miss mlle mme mr
        mrs ms mtra nurse pd phd prim prof rdms rn sir sr sra srta stud
        """
    )
)
# Particles of names; a particle alone does not identify a name.
PARTICLES = frozenset(
    _ATOM.findall(
        "al bin bint da das de del dei della den der di do dos du el ibn la las los san santa st "
        "ten ter van vom "
        "von zu zum zur"
    )
)
# Prefixes that are written with or apart from the rest of a name: McDonald, Mc Donald; O'Neil,
# ONeil, O Neil.
_PREFIXES = frozenset(["abu", "d", "fitz", "mac", "mc", "o"])
_RUN = re.compile(rf"\b(?:(?:{'|'.join(sorted(PARTICLES | _PREFIXES))}) )+[^\W\d_]+")
# Particles and common words of prose: two of them next to each other are not a name.
COMMON = PARTICLES | frozenset(
    _ATOM.findall(
        """
        a am an and are as at be but by do e for from go had has he i if in into is it me mr my no
        not of on or out sao she so te than that the their then there these this to too up us was we
        were with y you
        """
    )
)


def normalize(text: str) -> str:
    """`text` in lower case, without accents, vowel signs, apostrophes and possessive s.

    Full-width and composed letters and the digits of other scripts become plain ones. Letters
    without width and the Arabic tatweel are removed.
    """
    if text.isascii():
        bare = text.lower()
    else:
        marks = _marks()
        apart = unicodedata.normalize("NFKD", text).casefold()
        bare = "".join(letter for letter in apart if letter not in marks).translate(_PLAIN)
        bare = "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in bare)
        bare = unicodedata.normalize("NFC", bare)
    return _APOSTROPHE.sub("", _POSSESSIVE.sub("", bare))


@cache
def _marks() -> frozenset[str]:
    """The characters inside words that are removed, because they would split a word.

    These are accents, vowel signs of Indian and Thai scripts, and letters without width.
    """
    everything = map(chr, range(sys.maxunicode + 1))
    found = (
        letter for letter in everything if unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf")
    )
    return frozenset((*found, _TATWEEL))


def words_of(*texts: str) -> frozenset[str]:
    """The atoms of `texts` in plain spelling."""
    return frozenset(word for text in texts for word in tokens_of(normalize(text)))


def tokens_of(text: str) -> list[str]:
    """The runs of letters and digits of a normalized text, in order."""
    return _ATOM.findall(text)


def single_forms(text: str, atoms: Iterable[str]) -> set[str]:
    """The single words that the atoms of a normalized text may represent.

    These are the atoms; atoms without leading zeros or a prefix; hyphenated words and grouped ids
    written as one word; UIDs; and names in ideographs.
    """
    forms = set(atoms)
    if text:
        forms.update(_joined(text if text.isascii() else text.translate(HYPHENS)))
    forms |= {unpadded(atom) for atom in forms if "0" in atom}
    forms |= {found[1] for atom in forms if (found := _NUMBERED.fullmatch(atom))}
    if "." in text:
        forms |= set(_UID.findall(text))
    if not text.isascii():
        for run in _IDEOGRAPHS.findall(text):
            forms |= {
                run[at : at + size] for size in (2, 3, 4) for at in range(len(run) - size + 1)
            }
    return forms


def _joined(text: str) -> Iterator[str]:
    """Yield hyphenated words without hyphens, and every run of groups of a grouped id."""
    for word in _HYPHENED.findall(text) if "-" in text else ():
        yield "".join(tokens_of(word))
    yield from (number.replace(",", "") for number in _THOUSANDS.findall(text))
    for grouped in GROUPED.findall(text):
        atoms = tokens_of(grouped)
        for start in range(len(atoms)):
            for end in range(start + 2, min(start + MAX_GROUPS, len(atoms)) + 1):
                if _is_specific(tuple(atoms[start:end]), frozenset()):
                    yield "".join(atoms[start:end])


def letter_runs(atoms: Iterable[str], least: int) -> set[str]:
    """The runs of at least `least` letters in `atoms`."""
    return {run for run in _LETTERS.findall(" ".join(atoms)) if len(run) >= least}


def divided(text: str, atoms: Iterable[str]) -> set[str]:
    """The normalized parts of those words of `text` that digits or capitals divide.

    `atoms` are the atoms of `text`.
    """
    mixed = [
        atom
        for atom in atoms
        if not atom.isalpha() and not atom.isdigit() and not _DIGEST.fullmatch(atom)
    ]
    parts = set(_LETTERS.findall(" ".join(mixed)))
    words = " ".join({*text.split()})  # each once, since a seam is inside of a word
    if _SEAM.search(words):
        parts.update(tokens_of(normalize(split_words(" ".join(set(_CAMEL.findall(words)))))))
    return parts


def split_words(text: str) -> str:
    """`text` with blanks between letters and digits, and before capitals inside words.

    `DoeJane2` becomes `Doe Jane 2`. A number between letters is removed: `Doe2Jane` becomes
    `Doe Jane`.
    """
    return _NUMBER_SEAM.sub(" ", _SEAM.sub(" ", text))


def written_as_initial(phrase: Phrase, text: str) -> bool:
    """Whether the single letter of a two-word phrase is an initial in `text`, not the word a or I.

    It is one in `A. Lee`, `A Lee`, `Lee, A` and `lee_a`. Without a period, capitals or an
    underscore (`a lee`) it is a word.
    """
    bare = (
        text
        if text.isascii()
        else "".join(one for one in unicodedata.normalize("NFKD", text) if one not in _marks())
    )
    words = r"([\W_]+)".join(f"({re.escape(word)})" for word in phrase)
    for match in re.finditer(rf"(?<![^\W_]){words}(\.?)(?![^\W_])", bare, re.IGNORECASE):
        first, between, second, point = match.groups()
        capitals = first[0].isupper() and second[0].isupper()
        after = len(first) > 1  # the initial comes after the name
        if (
            between in ("_", "^")
            or (capitals and not (after and "." in between))
            or (point if after else "." in between)
        ):
            return True
    return False


def unpadded(atom: str) -> str:
    """An atom without the leading zeros of its numbers."""
    return _ZEROS.sub("", atom)


def spellings(text: str, own: frozenset[str]) -> Iterator[Phrase]:
    """Yield the phrases that identify a private string in any text.

    A word of `own` does not identify it by itself.
    """
    for form in _normal_forms(text):
        uids = _UID.findall(form)
        yield from ((uid,) for uid in uids)
        atoms = tokens_of(_UID.sub(" ", form) if uids else form)
        candidates: list[Phrase] = [(atom,) for atom in single_forms("", atoms)]
        if 1 < len(atoms) <= MAX_ATOMS:
            for parts in (tuple(atoms), tuple(map(unpadded, atoms))):
                candidates += [parts, ("".join(parts),)] if _is_specific(parts, own) else []
        candidates += _ideographs(form)
        yield from (phrase for phrase in candidates if _is_specific(phrase, own))
        if all(map(str.isalpha, atoms)):
            yield from _name_pairs(name_parts(atoms), own)


def name_spellings(name: str, own: frozenset[str]) -> Iterator[Phrase]:
    """Yield the phrases that identify a person's `name`, even if they are also common words.

    The groups of a DICOM PN are separated by `=`.
    """
    for group in name.split("="):
        yield from _cut_words(group, own)
        for form in _normal_forms(group):
            atoms = tokens_of(form)
            parts = name_parts(atoms)
            candidates: list[Phrase] = [(part,) for part in parts] + _ideographs(form)
            if 1 < len(atoms) <= MAX_ATOMS:
                candidates += [tuple(atoms), ("".join(atoms),)]
            yield from (phrase for phrase in candidates if _is_specific(phrase, own))
            yield from _with_prefixes(atoms, own)
            yield from _name_pairs(parts, own, PERSON_ATOMS)
            yield from _initials(parts, own)


def _cut_words(name: str, own: frozenset[str]) -> Iterator[Phrase]:
    """Yield the words of a name divided at an apostrophe or a capital, or after a prefix.

    `O'Neil` and `ONEIL` become `o neil`.
    """
    for word in re.split(rf"[^\w{APOSTROPHES}]+|_", name):
        pieces = tokens_of(normalize(re.sub(rf"[{APOSTROPHES}]", " ", _SEAM.sub(" ", word))))
        whole = "".join(pieces)
        cuts = {tuple(pieces)} if len(pieces) > 1 else set()
        cuts |= {
            (first, whole[len(first) :])
            for first in _PREFIXES | PARTICLES
            if whole.startswith(first)
        }
        yield from (
            cut
            for cut in cuts
            if len(whole) >= MIN_WORD and len(cut[-1]) > 2 and cut[-1] not in own | COMMON
        )


def _with_prefixes(atoms: list[str], own: frozenset[str]) -> Iterator[Phrase]:
    """Yield prefixes and particles joined with the part after them.

    Several of them, and a prefix that is not a particle, are also yielded as separate words.
    """
    for run in _RUN.findall(" ".join(atoms)):
        words = tuple(run.split())
        if words[-1] in own | COMMON or len("".join(words)) < MIN_WORD:
            continue
        yield ("".join(words),)
        if len(words) > 2 or words[0] in _PREFIXES:
            yield words


def name_parts(atoms: Iterable[str]) -> list[str]:
    """The atoms of a name without titles, numbers and initials.

    Titles are kept if fewer than two other words are left.
    """
    words = [atom for atom in dict.fromkeys(atoms) if atom.isalpha() and not is_initial(atom)]
    parts = [word for word in words if word not in TITLES]
    return parts if len(parts) > 1 else words


def is_initial(atom: str) -> bool:
    """Whether an atom is a single letter of a script with capitals.

    In other scripts a single character may be a complete name.
    """
    return len(atom) == 1 and atom.lower() != atom.upper()


def _normal_forms(text: str) -> set[str]:
    """The normalized text in each way in which its letters may be written.

    These are `normalize`, digraphs for umlauts, Latin letters for look-alikes, and UTF-8 that was
    decoded as Latin-1, corrected.
    """
    forms = {normalize(text)}
    if not text.isascii():
        forms.update(map(normalize, latin_forms(text)))
        forms.add(normalize(unicodedata.normalize("NFC", text).casefold().translate(_DIGRAPHS)))
        with suppress(UnicodeError):
            forms.add(normalize(text.encode("latin-1").decode("utf-8")))
    return forms


def _ideographs(form: str) -> list[Phrase]:
    """Names of 2 to 4 ideographs, also without the caret that a PN has between their parts."""
    joined = re.sub(r"[\s^]+", "", form)
    return [(run,) for text in {form, joined} for run in _IDEOGRAPHS.findall(text) if len(run) <= 4]


def _is_specific(phrase: Phrase, own: frozenset[str]) -> bool:
    """Whether a phrase is long enough to identify a private string.

    It must contain more than `own` words and small numbers.
    """
    size, digits = sum(map(len, phrase)), sum(len(atom) for atom in phrase if atom.isdigit())
    if _IDEOGRAPHS.fullmatch(phrase[0]):
        return phrase[0] not in own
    if len(phrase) == 1:
        return size >= MIN_WORD and own.isdisjoint((phrase[0], _COUNTED.sub("", phrase[0])))
    if digits == size:
        return digits >= MIN_DIGITS
    return size >= MIN_JOINED and (
        digits >= MIN_WORD or any(not atom.isdigit() and atom not in own for atom in phrase)
    )


def _significant(parts: list[str]) -> list[str]:
    """The parts of a name without particles; all parts if fewer than two would be left."""
    left = [part for part in parts if part not in PARTICLES]
    return left if len(left) > 1 else parts


def _name_pairs(parts: list[str], own: frozenset[str], most: int = NAME_ATOMS) -> Iterator[Phrase]:
    """Yield every two parts of a name in either order, however short, as adjacent words.

    They are also yielded joined to one word, and with an initial in place of the first.
    """
    parts = _significant(parts)
    if len(parts) > most and most < PERSON_ATOMS:
        return
    common = own | COMMON
    weak = all(part in common for part in parts)  # the name has no rarer word
    for first, second in _pairs(parts):
        if (first in common and second in common and not weak) or {first, second} <= own:
            continue
        if len(first + second) < MIN_JOINED and not own.isdisjoint((first, second)):
            continue
        yield (first, second)
        if len(first + second) >= MIN_JOINED or _IDEOGRAPHS.fullmatch(first + second):
            yield (first + second,)
        if 3 <= len(second) < MIN_WORD:
            yield (first[0], second)


def _pairs(parts: list[str]) -> Iterable[tuple[str, str]]:
    """Every two parts in either order; only adjacent ones if there are very many."""
    if len(parts) <= PERSON_ATOMS:
        return permutations(parts, 2)
    return [pair for one, other in pairwise(parts) for pair in ((one, other), (other, one))]


def _initials(parts: list[str], own: frozenset[str]) -> Iterator[Phrase]:
    """Yield the short parts of a name with the initial of another part before and after."""
    common = own | COMMON | TITLES
    for first, second in _pairs(_significant(parts)):
        if 2 <= len(second) < MIN_WORD and second not in common and is_initial(first[0]):
            yield from ((first[0], second), (second, first[0]))
