import subprocess
import sys

import pytest

from sono.annotation.clip_tokens import clip_token_counter
from sono.annotation.lint import FINDINGS, LintRules, lint
from sono.curation.core.planes import PLANES, Plane, PlaneTable

TABLE = PlaneTable()
RULES = LintRules(
    lambda text: len(text.split()) + 2, TABLE, frozenset({"St. Anna", "Voluson E10", "A", "heart"})
)


def found(text: str, plane: str | None = None, structures: tuple[str, ...] = ()) -> list[str]:
    return lint(text, RULES, TABLE.by_id[plane] if plane else None, structures)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.id)
def test_a_caption_of_every_plane_with_all_its_structures_is_clean(plane) -> None:
    text = (
        f"A 22-week fetal ultrasound image of the {plane.name} plane showing "
        f"{', '.join(plane.structures)}."
    )
    assert lint(text, RULES, plane, plane.structures) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("  ", "empty"),
        ("a {{ plane }} view", "residue"),
        ("a view at None", "residue"),
        ("a nan-week view", "residue"),
        ("two  blanks", "blanks"),
        ("ends with one ", "blanks"),
        ("before a stop .", "blanks"),
        ("a bell\x07", "control_character"),
        ("turned \u202e around", "control_character"),
        ("at 1 weeks", "ga_range"),
        ("a 46-week fetus", "ga_range"),
        ("of 3 weeks and 1 day", "ga_range"),
        ("at 46+1 weeks", "ga_range"),
        ("seen 2019-04-03", "identifier"),
        ("seen 3.4.2019", "identifier"),
        ("number 1234567", "identifier"),
        ("of 3fa9c1d07b2e", "identifier"),
        ("from IM_0001.dcm", "identifier"),
        ("from /data/study/x", "identifier"),
        ("made in st. anna", "banned"),
        ("by a VOLUSON E10 machine", "banned"),
        ("word " * 76 + "word", "too_long"),
    ],
)
def test_each_fault_earns_its_code(text: str, code: str) -> None:
    assert code in found(text)
    assert code in FINDINGS


@pytest.mark.parametrize(
    "wrong",
    [
        "1 weeks",
        "22-weeks",
        "22 week",
        "22 weeks and 1 days",
        "22 weeks and 0 days",
        "22 weeks and 7 days",
        "22.4 weeks",
    ],
)
def test_wrong_ages_are_found(wrong: str) -> None:
    assert "ga_grammar" in found(f"a fetus at {wrong} of gestation")


@pytest.mark.parametrize(
    "wrong", ["a 8-week fetus", "A 11-week fetus", "an 22-week fetus", "an 12-week fetus"]
)
def test_wrong_articles_are_found(wrong: str) -> None:
    assert found(wrong) == ["ga_grammar"]


@pytest.mark.parametrize(
    "right",
    [
        "at 24+1 weeks",
        "at 19 + 3 weeks",
        "22 weeks and 3 days",
        "22 weeks and 1 day",
        "22 weeks",
        "a 22-week fetus",
        "an 11-week fetus",
        "an 8-week one",
    ],
)
def test_right_ages_are_clean(right: str) -> None:
    assert found(right) == []


def test_a_banned_word_that_is_short_or_anatomical_bans_nothing() -> None:
    assert found("A view of the heart") == []


def test_a_structure_of_another_plane_is_found_in_the_text_and_in_the_list() -> None:
    assert found("the femur plane, showing the cerebellum", "femur") == ["wrong_structure"]
    assert found("the femur plane", "femur", ("cerebellum",)) == ["wrong_structure"]


def test_another_plane_is_found() -> None:
    assert found("the transcerebellar plane", "transthalamic") == ["wrong_plane"]
    assert found("the four-chamber plane", "four_chamber_h") == ["wrong_plane"]


def test_a_frame_of_no_plane_may_list_structures_but_not_name_a_plane() -> None:
    assert found("an image of the head showing the femur", None, ("femur",)) == []
    assert found("an image of the femur plane") == ["wrong_plane"]
    assert found("an image of mrs miller", None, ("mrs miller",)) == ["wrong_structure"]


def test_a_finding_may_name_any_structure() -> None:
    text, head = "the transthalamic plane; finding: short femur", TABLE.by_id["transthalamic"]
    assert lint(text, RULES, head) == ["wrong_structure"]
    assert lint(text, RULES, head, (), ("short femur",)) == []


def test_part_of_a_longer_structure_is_not_a_structure() -> None:
    assert found("the ductal arch plane showing the descending aorta", "ductal_arch") == []


def test_clip_tokens_include_start_and_end() -> None:
    count = clip_token_counter()
    assert count("") == 2
    assert count("a fetal ultrasound") == 5


def test_a_plane_that_lists_no_structures_may_show_any_known_one() -> None:
    own = Plane("profile_2", "second profile", "face", ())
    rules = LintRules(lambda text: 1, PlaneTable((*PLANES, own)))
    assert lint("The chin in the second profile plane.", rules, own, ("chin",)) == []
    assert lint("The paw in it.", rules, own, ("paw",)) == ["wrong_structure"]
    assert lint("An eye of the orbits plane.", rules, own) == ["wrong_plane"]


@pytest.mark.parametrize(
    "text",
    [
        "A fetal ultrasound image of the three-vessel-trachea plane at 22 weeks and 3 days.",
        "it's a 3.5mm NT (x2); see  U.S.-guided, 12+3",
        "fœtal “head” — 22 semaines",
        "a &amp;nbsp; b",
        "aaaa lalala <end_of_text> you'll 2+2=4 (x)'S",
        "",
    ],
)
def test_tokens_are_those_of_the_tokenizer(text: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    assert clip_token_counter()(text) == len(SimpleTokenizer().encode(text)) + 2


def test_tokens_of_plain_words_are_counted_without_pytorch() -> None:
    code = (
        "import sys; from sono.annotation.clip_tokens import clip_token_counter; "
        "print(clip_token_counter()('The femur at 22 weeks.'), 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.split() == ["10", "False"]


def test_texts_that_differ_in_the_age_alone_are_checked_once_but_for_what_an_age_can_break() -> (
    None
):
    rules = LintRules(lambda text: len(text.split()), TABLE, frozenset({"31 weeks"}), max_tokens=9)

    def of(text: str, findings: tuple[str, ...] = ()) -> list[str]:
        return lint(text, rules, TABLE.by_id["gallbladder"], (), findings)

    for age in ("20 weeks", "21 weeks", "8 weeks", "45 weeks"):
        assert of(f"gallbladder at {age}.") == []
    assert len(rules.checked) == 1
    assert of("gallbladder at 46 weeks.") == ["ga_range"]
    assert of("gallbladder at 31 weeks.") == ["banned"]
    assert of("gallbladder at 20 weeks and 9 days.") == ["ga_grammar"]
    assert of("gallbladder at 20 weeks, femur at 20 weeks.") == ["wrong_structure"]
    assert of("gallbladder, femur at 20 weeks.", ("femur at 20 weeks",)) == []
    assert of("gallbladder a b c d e f at 20 weeks") == ["too_long"]
