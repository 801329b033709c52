"""Letters of Cyrillic and Greek that look like Latin ones hide no name.

Words of their own scripts are left alone.
"""

from functools import cache

import pytest

from sono.curation.clinical.vocabulary import PROSE, VOCABULARY
from sono.curation.privacy.private_strings import PrivateStrings, collect


@cache
def known(*names: str) -> PrivateStrings:
    return collect(names, VOCABULARY, names, PROSE)


@pytest.mark.parametrize(
    "text",
    [
        "Lindqvіst",
        "Lіndqvіst's",
        "LIΝDQVIST",
        "Lindqvιst",
        "lindqνist",
        "Ｌｉｎｄｑｖｉｓｔ",
        "Ｌindqvіst",
        "patLindqvіst",
        "Lindqvi&#1109;t",
        "Frau Lindqvі\u0301st",
        "Línԁqvist",
        "Lindqvist",
    ],
)
def test_a_letter_of_another_script_hides_no_name(text: str) -> None:
    assert "lindqvist" in known("Lindqvist^Anna").found_in(f"seen: {text}.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Cooper^Eva", "Соореr"),
        ("Pope^Coco", "Роре Сосо"),
        ("Pascoe^Eva", "РАЅСОЕ"),
        ("Tatum^Amy", "ТАТUМ"),
        ("Иванова^Анна", "Ивaнова"),
        ("Иванова^Анна", "ИВAНОВА"),
        ("Παπαδοπούλου^Μαρία", "Παπαδoπούλου"),
        ("Li^Na", "Lі Nа"),
        ("Doe^Jane", "Dое, Jаnе"),
    ],
)
def test_a_name_is_found_whichever_script_a_letter_is_of(name: str, text: str) -> None:
    assert known(name).found_in(text)


@pytest.mark.parametrize("text", ["ИВАНОВА", "Иванова", "иванова"])
def test_a_name_of_its_own_script_is_found_as_itself_alone(text: str) -> None:
    assert known("Иванова^Анна").found_in(text) == {"иванова"}
    assert known("Lindqvist^Anna", "Cooper^Eva", "Петрова^Ольга").found_in(text) == set()


@pytest.mark.parametrize(
    "text", ["рост плода 55 мм", "Στο εξάμηνο", "5 µm", "β-hCG", "Δ 3", "осмотр в срок", "α-fetal"]
)
def test_words_of_other_scripts_are_nobody(text: str) -> None:
    assert (
        known("Lindqvist^Anna", "Rost^Hans", "Иванова^Анна", "Ho^Bo", "Li^Na").found_in(text)
        == set()
    )
