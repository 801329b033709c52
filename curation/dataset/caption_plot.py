"""What captions consist of: their most frequent words, and their lengths, as a picture."""

import re
from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from sono.curation.dataset.plots import (
    GA_COLOR,
    GRID,
    draw_bars,
    new_figure,
    png_of,
    style,
    title_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_WORDS = 25
_WORD = re.compile(r"[^\W\d_]{2,}(?:-[^\W\d_]+)*")
_LINKS = frozenset(
    ("an", "and", "at", "by", "for", "from", "in", "is", "of", "on", "or", "that", "the", "to",
     "with")
)  # fmt: skip


def frequent_words(texts: pd.Series) -> dict[str, int]:
    """In how many texts each word occurs, the most frequent first; without articles and the like.

    Words are in lower case, and a hyphenated one is one word. Numbers are no words.
    """
    found: Counter[str] = Counter()
    for text, count in texts.value_counts().items():
        for word in set(_WORD.findall(str(text).lower())) - _LINKS:
            found[word] += int(count)
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def figure_captions(captions: pd.DataFrame) -> bytes:
    """A PNG of the most frequent words of captions, and of their numbers of tokens."""
    words = frequent_words(captions["text"])
    shown = list(words.items())[:MAX_WORDS]
    with style():
        figure = new_figure(11.0, max(3.4, 0.2 * len(shown) + 1.0))
        left, right = figure.subplots(1, 2)
        rest = (
            f"the {len(shown)} most frequent of {len(words):,}" if len(words) > len(shown) else ""
        )
        title_axes(left, "Words of captions", f"captions with the word; {rest}".rstrip("; "))
        draw_bars(left, shown, [GA_COLOR] * len(shown))
        _draw_lengths(right, captions["tokens"].dropna())
        return png_of(figure)


def _draw_lengths(axes: "Axes", tokens: pd.Series) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = tokens.astype(int).value_counts().sort_index()
    axes.bar(counts.index.tolist(), counts.tolist(), width=0.86, color=GA_COLOR, zorder=2)
    axes.set(xlabel="tokens, with start and end", ylabel="captions")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=GRID, zorder=0)
    axes.tick_params(length=0)
    note = f"{len(tokens):,} captions, median {tokens.median():g}, at most {tokens.max()} tokens"
    title_axes(axes, "Length of captions", note)
