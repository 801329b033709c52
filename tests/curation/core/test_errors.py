"""Words of messages."""

import pytest

from sono.curation.core.errors import counted


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (0, ("frame",), "0 frames"),
        (1, ("frame",), "1 frame"),
        (2, ("frame",), "2 frames"),
        (1, ("study", "studies"), "1 study"),
        (3, ("study", "studies"), "3 studies"),
        (1, ("frame has", "frames have"), "1 frame has"),
    ],
)
def test_a_count_has_the_noun_in_its_number(
    count: int, words: tuple[str, ...], expected: str
) -> None:
    assert counted(count, *words) == expected
