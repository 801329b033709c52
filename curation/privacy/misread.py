"""Search text that was read from pixels for private strings, allowing for misread letters."""

from collections.abc import Iterable
from difflib import get_close_matches

from sono.curation.clinical.name_variants import MIN_WORD, normalize, tokens_of
from sono.curation.clinical.vocabulary import PRINTED_WORDS
from sono.curation.privacy.private_strings import collect

ALIKE = 0.8  # least similarity of a word and its reading with one or two misread letters


def says_private(texts: Iterable[str], raw: Iterable[str]) -> bool:
    """Whether `texts` read from a frame contain a private string of `raw`, its file or record.

    One or two letters of a word may be misread.
    """
    private = collect(raw, PRINTED_WORDS)
    text = " ".join(texts)
    return bool(private.found_in(text)) or any(
        len(atom) > MIN_WORD and bool(get_close_matches(atom, private.words, n=1, cutoff=ALIKE))
        for atom in tokens_of(normalize(text))
    )
