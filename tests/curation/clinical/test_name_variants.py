"""The gate recognizes every spelling of a name, id or date, and no other words."""

from datetime import date

import pytest

from sono.curation.clinical.name_variants import normalize
from sono.curation.clinical.vocabulary import VOCABULARY
from sono.curation.clinical.written_dates import dates_in
from sono.curation.privacy.private_strings import PrivateStrings, collect

OWN = frozenset(("femur", "frame", "image", "plane", "weeks"))


def private(*strings: str) -> PrivateStrings:
    return collect(strings, OWN)


@pytest.mark.parametrize(
    "text",
    [
        "DOE^JANE",
        "Doe, Jane",
        "Jane Doe",
        "doe_jane",
        "jane-doe",
        "JaneDoe",
        "DOEJANE",
        "Jane  DOE",
        "J. Doe",
        "Doe\u00a0Jane",
        "RE9FXkpBTkU=",
        "DOE%5EJANE",
        "Jane&nbsp;Doe",
        "D\\u006fe Jane",
        "ＤＯＥ Ｊａｎｅ",
    ],
)
def test_a_short_name_is_found_by_its_neighbors(text: str) -> None:
    assert private("DOE^JANE").found_in(f"seen: {text}.")


@pytest.mark.parametrize(
    "text",
    ["Lindqvist's fetus", "LINDQVIST’S", "Lind\u200bqvist", "Lind\u00adqvist", "O'Lindqvist"],
)
def test_possessives_and_letters_of_no_width_hide_no_name(text: str) -> None:
    assert private("Lindqvist^Anna").found_in(text) == (
        {"lindqvist"} if text != "O'Lindqvist" else set()
    )


@pytest.mark.parametrize(
    "text", ["Jane", "doe", "a doe and a jane", "John Doe", "x0d0e", "hoe jane", "adoe janex"]
)
def test_half_a_short_name_is_chance(text: str) -> None:
    assert private("DOE^JANE").found_in(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Müller",
        "MÜLLER",
        "Muller",
        "Mueller",
        "M&uuml;ller",
        "M%C3%BCller",
        "M%FCller",
        "Mu\u0308ller",
    ],
)
def test_accents_do_not_hide_a_name(text: str) -> None:
    assert private("Müller^Zoë").found_in(f"({text})")
    assert private("MÃ¼ller").found_in("Müller")  # UTF-8 read as Latin-1 by a scanner


@pytest.mark.parametrize(
    ("name", "text"),
    [("O'Brien^Siobhán", "OBrien"), ("Łukasiewicz", "Lukasiewicz"), ("Søren^Bo", "soeren"),
     ("Петрова^Анна", "ПЕТРОВА"), ("Wang^XiaoDong=王^小東", "患者王小東的"), ("김^희중", "김희중"),
     ("Nguyễn^Thị", "Nguyen Thi"),
     ("van der Aa^Mia", "Mia van der Aa"), ("van der Aa^Mia", "AA, MIA VAN DER")],
)  # fmt: skip
def test_names_of_other_tongues_are_found(name: str, text: str) -> None:
    assert private(name).found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "19840321",
        "1984-03-21",
        "21.03.1984",
        "21.3.1984",
        "03/21/1984",
        "3/21/84",
        "21-Mar-1984",
        "21 mars 1984",
        "March 21, 1984",
        "21. März 1984",
        "1984 Mar 21",
        "21 de marzo de 1984",
        "1984:03:21 09:41:07",
        "19840321T094107",
        "19840321094107",
        "21MAR1984",
        "84-03-21",
        "2023_19840321_1",
        "03211984",
        "scan_1984_03_21_2",
        "21_03_1984",
        "21. 3. 1984",
        "21 / 03 / 1984",
        "1984, March 21",
        "21st of March, 1984",
        "21 de marzo del 1984",
        "March the 21st, 1984",
        "21 Mar '84",
        "21/Mar./84",
        "1984年3月21日",
        "1984년 3월 21일",
        "1984\u201303\u201321",
        "21 maart 1984",
        "21 mrt. 1984",
        "21 mrz 1984",
        "le 21 mars 1984",
        "21º março 1984",
        "1984-03-21Z",
    ],
)
def test_a_birth_date_is_found_in_every_order(text: str) -> None:
    assert private("19840321").found_in(f"born {text}") >= {"1984-03-21"}
    assert private(text).days >= {date(1984, 3, 21)}


@pytest.mark.parametrize(
    "text",
    [
        "1.21.84.3",
        "21 iiii 1984",
        "3.21.19845",
        "19840322",
        "0.19840321",
        "x19840321",
        "31.02.1984",
        "3/21/845",
        "84",
    ],
)
def test_other_numbers_are_no_dates(text: str) -> None:
    assert date(1984, 3, 21) not in dates_in(normalize(text))


@pytest.mark.parametrize(
    ("known", "text"),
    [("ACC-0099887", "ACC99887"), ("ACC-0099887", "acc 99887"), ("ACC0099887", "ACC-0099887"),
     ("0004711815", "4711815"), ("4711815", "0004711815"), ("4711815", "ID4711815"),
     ("ID4711815", "4711815"), ("471-18-15", "4711815"), ("4711815", "471-18-15"),
     ("1234567890", "123 456 7890"), ("1234567890", "123.456.7890"),
     ("1234567890", "id 12-34-56-78-90."), ("0001234567", "123\u00a04567"),
     ("12345678Z", "12.345.678-Z"), ("AB1234567", "AB 123-4567"), ("1234567", "20 123 4567 8"),
     ("1234567890", "123 - 456 - 7890"),
     ("+34 600 123 456", "+34600123456"), ("1.2.826.0.1.99", "uid 1.2.826.0.1.99")],
)  # fmt: skip
def test_an_id_is_found_without_zeros_dashes_or_prefix(known: str, text: str) -> None:
    assert private(known).found_in(text)


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ("frame_0012", "frame 12"),
        ("image7", "image7"),
        ("12", "12"),
        ("1.2.826.0.1.99", "1.2.826.0.1.991"),
        ("Fetal femur plane", "femur plane"),
        ("2023-06", "2023-06"),
        ("1234567", "12.34567"),
        ("1234567", "0.123 0.4567"),
        ("1234567", "123, 4567"),
        ("1234567", "123  4567"),
        ("1234567", "1123 4567"),
        ("1234567", "123 45678"),
        ("12345", "12 345"),
    ],
)
def test_our_own_words_and_small_numbers_are_no_secrets(known: str, text: str) -> None:
    assert private(known).found_in(text) == set()


def test_in_a_page_only_long_numbers_are_ids() -> None:
    known = private("123456", "1234567")
    assert known.found_in("0.123456", page=True) == set()
    assert known.found_in("123456") == {"123456"}
    assert known.found_in("1234567", page=True) == {"1234567"}


@pytest.mark.parametrize(
    ("identity", "texts"),
    [
        ("88-77-66", ["88-77-66", "88 77 66", "88/77/66", "887766"]),
        ("A-1234", ["A-1234", "a1234", "A 1234", "A_1234"]),
        ("12/3456", ["12/3456", "12-3456", "123456"]),
        ("4711-22", ["4711-22", "471122"]),
        ("AB12345", ["AB-12345", "ab 12345"]),
        ("887766", ["88-77-66"]),
        ("4711223", ["٤٧١١٢٢٣"]),
    ],
)
def test_an_id_of_a_patient_is_found_with_other_signs_between_its_groups(
    identity: str, texts: list[str]
) -> None:
    known = collect([identity], OWN, patients=[identity])
    for text in texts:
        assert known.found_in(f"asked about {text}, twice"), text
        assert known.found_in(text), text


@pytest.mark.parametrize(
    "text",
    [
        "88 and 77 and 66",
        "88.77",
        "0.887766",
        "A 12345",
        "1-234",
        "12, 3456",
        "88-77-67",
        "loss -.887766e-05",
    ],
)
def test_other_numbers_are_no_id_of_a_patient(text: str) -> None:
    ids = ["88-77-66", "A-1234", "12/3456", "887766"]
    assert collect(ids, OWN, patients=ids).found_in(text) == set()


def test_a_fraction_is_no_id_and_no_date() -> None:
    known = collect(["4711223", "19840321"], OWN, patients=["4711223"])
    assert known.found_in("loss 0.4711223, .19840321 and 0.4711223e-05") == set()
    assert (
        known.found_in("4711223") and known.found_in("1984-03-21") and known.found_in("0.4711223.1")
    )


def test_an_id_of_a_patient_counts_though_it_is_written_like_a_counted_word() -> None:
    known = collect(["A-1234", "88-77-66"], VOCABULARY, patients=["A-1234", "88-77-66"])
    assert known.found_in("asked about A-1234") == known.found_in("a1234") == {"a1234"}
    assert known.ids >= {"a1234", "887766"}


def test_a_stroke_inside_an_arabic_name_does_not_hide_it() -> None:
    assert private("قباني^نزار").found_in("السيد قبـــاني نـــزار هنا")
