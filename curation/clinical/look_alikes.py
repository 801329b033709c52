"""Replace letters of Cyrillic and Greek that look like Latin ones.

The letters are a selection from the confusables of Unicode (UTS 39).
"""

import re
import unicodedata

_LATIN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХҮԚԜӀΑΒΕΖΗΙΚΜΝΟΡΤΥΧавекмнорстухүіјѕһԁԛԝӏαεηικνορτυχϳ",
    "ABESIJKMHOPCTYXYQWIABEZHIKMNOPTYXabekmhopctyxyijshdqwlaenikvoptuxj",
)
_OTHERS = "\u0370-\u03ff\u0400-\u052f"
_OTHER = re.compile(rf"[{_OTHERS}\u1f00-\u1fff]")
_MIXED = re.compile(rf"(?<![^\W\d_])(?=[^\W\d_]*[A-Za-z])(?=[^\W\d_]*[{_OTHERS}])[^\W\d_]+")
_WORD = re.compile(rf"[{_OTHERS}]+")


def latin_forms(text: str) -> set[str]:
    """`text` with Latin letters for look-alikes: unchanged, in capitals and in small letters."""
    if not _OTHER.search(text):
        return set()
    return {_bare(form).translate(_LATIN) for form in (text, text.upper(), text.lower())}


def latin_reading(text: str) -> str:
    """`text` with Latin letters in words that mix scripts or look Latin; "" if it has none.

    A word of another script with a letter that does not look Latin stays unchanged.
    """
    if text.isascii() or not _OTHER.search(text):
        return ""
    bare = _bare(text)
    read = _WORD.sub(_whole, _MIXED.sub(lambda word: word[0].translate(_LATIN), bare))
    return "" if read == bare else read


def _whole(word: re.Match[str]) -> str:
    read = word[0].translate(_LATIN)
    return word[0] if _OTHER.search(read) else read


def _bare(text: str) -> str:
    """`text` with plain letters for composed and full-width ones, without accents."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in apart if unicodedata.category(letter) != "Mn")
