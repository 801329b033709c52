"""Count CLIP's byte-pair tokens of a caption, without PyTorch for plain English words."""

import gzip
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

MERGES = 49_152 - 256 - 2  # of the vocabulary, after its first line
# ASCII without what open_clip repairs (&amp;) or reads as one token (<end_of_text>)
_PLAIN = re.compile(r"[!-%'-;=?-~]+")
_PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^a-z0-9]+")

Pair = tuple[str, ...]


def clip_token_counter() -> Callable[[str], int]:
    """A counter of CLIP's byte-pair tokens, with start and end.

    A text with a word that is not plain ASCII is counted by open_clip, whose import takes seconds.
    """
    ranks = _ranks()

    @lru_cache(maxsize=1 << 16)
    def count_of(word: str) -> int:
        if not _PLAIN.fullmatch(word):
            return len(_full_tokenizer()(word))
        return sum(_tokens(piece, ranks) for piece in _PIECE.findall(word.lower()))

    @lru_cache(maxsize=1)  # the writer of captions and the lint ask for the same text
    def count(text: str) -> int:
        # no token goes across a blank; what is not ASCII is repaired as a whole before
        parts = text.split() if text.isascii() else [text]
        return sum(map(count_of, parts)) + 2

    return count


def _tokens(piece: str, ranks: Mapping[Pair, int]) -> int:
    """The number of tokens after all merges: each time the pair that was learned first.

    All places of the pair are merged at once, so a long run of letters is no quadratic search.
    """
    parts = [*piece[:-1], f"{piece[-1]}</w>"]
    while len(parts) > 1:
        first = min(pairwise(parts), key=lambda pair: ranks.get(pair, math.inf))
        if first not in ranks:
            break
        merged: list[str] = []
        left = iter(range(len(parts)))
        for at in left:
            pair = tuple(parts[at : at + 2])
            merged.append("".join(pair) if pair == first else parts[at])
            if pair == first:
                next(left)
        parts = merged
    return len(parts)


@cache
def _ranks() -> dict[Pair, int]:
    """The pairs of CLIP's vocabulary, in the order in which they were learned."""
    package = find_spec("open_clip")  # finds it without the import
    assert package and package.origin
    path = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    return {tuple(line.split()): rank for rank, line in enumerate(lines)}


@cache
def _full_tokenizer() -> Callable[[str], list[int]]:
    from open_clip.tokenizer import SimpleTokenizer

    encode: Callable[[str], list[int]] = SimpleTokenizer().encode
    return encode
