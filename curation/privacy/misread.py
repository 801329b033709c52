"""Whether text that was read from pixels says something private, also with a letter or two
misread.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from sono.curation.clinical.name_variants import MIN_WORD, normalize, tokens_of
from sono.curation.clinical.vocabulary import OWN_WORDS, SCANNER_WORDS
from sono.curation.privacy.private_strings import collect

ALIKE = 0.8  # of two words, one of them misread by a letter or two


def says_private(texts: Iterable[str], raw: Iterable[str]) -> bool:
    """Whether print says a private string of its own file or record, also with a letter or two
    misread.
    """
    private = collect(raw, OWN_WORDS | SCANNER_WORDS)
    text = " ".join(texts)
    return bool(private.found_in(text)) or any(
        len(atom) > MIN_WORD and bool(get_close_matches(atom, private.words, n=1, cutoff=ALIKE))
        for atom in tokens_of(normalize(text))
    )
