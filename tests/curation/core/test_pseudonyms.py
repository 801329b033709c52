from datetime import date
from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.core.pseudonyms import create_key, pseudonym, read_key, shifted_date

KEY = b"k" * 32


def test_the_same_key_gives_the_same_pseudonym_and_another_key_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        create_key(tmp_path / name)
    one, two = read_key(tmp_path / "one"), read_key(tmp_path / "two")
    assert pseudonym(one, "patient", "A", "17") == pseudonym(one, "patient", "A", "17")
    assert pseudonym(one, "patient", "A", "17") != pseudonym(two, "patient", "A", "17")


def test_the_border_between_parts_counts() -> None:
    assert pseudonym(b"k" * 32, "a", "bc") != pseudonym(b"k" * 32, "ab", "c")


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "no hex", "abcd"])
def test_a_damaged_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(SonoError, match="key"):
        read_key(tmp_path / "key")


def test_bytes_that_are_no_text_have_a_pseudonym() -> None:
    assert len(pseudonym(b"k" * 32, "source", b"/raw/\xff\xfe.png")) == 16


def test_dates_of_a_patient_move_together_into_another_century() -> None:
    first, later = date(2023, 3, 1), date(2023, 5, 30)
    moved = shifted_date(KEY, first, "A", "471")
    assert shifted_date(KEY, later, "A", "471") - moved == later - first
    assert moved.year in (2123, 2124)
    shifts = {(shifted_date(KEY, first, "A", str(number)) - first).days for number in range(400)}
    assert len(shifts) > 200
    assert 36_526 <= min(shifts) <= max(shifts) <= 36_890
    assert shifted_date(KEY, first, "B", "471") != moved
