import os
from pathlib import Path

import pytest

from sono.curation.core.errors import SonoError
from sono.templates.caption_values import TEMPLATE_VALUES
from sono.templates.loader import BUILT_IN, MAX_TEXT_CHARS, load_templates

NOTHING = dict.fromkeys(TEMPLATE_VALUES) | {"structure": "femur"}
EVERYTHING = NOTHING | {
    "plane": "four-chamber",
    "region": "heart",
    "weeks": 22,
    "days": 3,
    "ga": "22 weeks and 3 days",
    "structures": "left ventricle, left atrium and right atrium",
    "structure": "left ventricle",
}


def own_set(
    folder: Path, text: str, region: str = "{{ structure }}", prompts: str | None = None
) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "global.j2").write_text(text, encoding="utf-8")
    (folder / "region.j2").write_text(region, encoding="utf-8")
    if prompts is not None:
        (folder / "prompts.j2").write_text(prompts, encoding="utf-8")
    return str(folder)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SonoError) as caught:
        load_templates(own_set(folder / "mine", text)).render_global(NOTHING)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "sonoclip",
            "A 22-week fetal ultrasound image of four-chamber plane"
            " showing left ventricle, left atrium and right atrium.",
        ),
        (
            "standard",
            "A fetal ultrasound image of the four-chamber plane at 22 weeks and 3 days of "
            "gestation,"
            " showing the left ventricle, left atrium and right atrium.",
        ),
        ("short", "fetal ultrasound, four-chamber plane"),
    ],
)
def test_a_full_record_gives_the_full_caption(name: str, text: str) -> None:
    assert load_templates(name).render_global(EVERYTHING) == text


@pytest.mark.parametrize("weeks", [8, 11, 18])
def test_the_sonoclip_set_says_an_where_english_does(weeks: int) -> None:
    text = load_templates("sonoclip").render_global(NOTHING | {"weeks": weeks, "plane": "femur"})
    assert text == f"An {weeks}-week fetal ultrasound image of femur plane."


def test_nothing_known_gives_the_plainest_caption() -> None:
    assert load_templates("standard").render_global(NOTHING) == "A fetal ultrasound image."


def test_a_known_region_stands_in_for_an_unknown_plane() -> None:
    assert (
        load_templates("standard").render_global(NOTHING | {"region": "head"})
        == "A fetal ultrasound image of the head."
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_set_has_five_different_prompts_that_name_the_plane(name: str) -> None:
    prompts = load_templates(name).render_prompts("lower leg")
    assert len(set(prompts)) == 5
    assert all("lower leg" in prompt for prompt in prompts)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_region_caption_names_plane_and_structure(name: str) -> None:
    text = load_templates(name).render_region(EVERYTHING)
    assert "left ventricle" in text and "four-chamber" in text


def test_the_id_changes_with_the_text(tmp_path: Path) -> None:
    first = load_templates(own_set(tmp_path / "mine", "{{ plane }}")).id
    assert first == load_templates(own_set(tmp_path / "mine", "{{ plane }}")).id
    assert first != load_templates(own_set(tmp_path / "mine", "{{ plane }}.")).id


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    own = own_set(tmp_path / "mine", "\ufeff{{ plane }}", prompts="\ufeffa {{ plane }}")
    templates = load_templates(own)
    assert templates.render_global(EVERYTHING) == "four-chamber"
    assert templates.render_prompts("femur") == ["a femur"]
    assert templates.id == load_templates(own_set(tmp_path / "mine", "{{ plane }}")).id


def test_a_set_without_prompts_gets_the_standard_ones(tmp_path: Path) -> None:
    own = load_templates(own_set(tmp_path / "mine", "{{ plane }}"))
    assert own.render_prompts("femur") == load_templates("standard").render_prompts("femur")


def test_a_prompt_without_the_plane_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = own_set(tmp_path / "mine", "x", prompts="a {{ plane }}\n\nan ultrasound\n")
    with pytest.raises(SonoError, match=r"prompts\.j2:3: a prompt uses 'plane'"):
        load_templates(folder)


def test_an_unknown_set_suggests_the_nearest() -> None:
    with pytest.raises(SonoError, match="unknown template set 'standart'; did you mean 'standard'"):
        load_templates("standart")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "global.j2").write_text("x")
    with pytest.raises(SonoError, match=r"region\.j2: missing"):
        load_templates(str(tmp_path))


def test_a_syntax_error_has_file_and_line(tmp_path: Path) -> None:
    assert "global.j2:2: " in refusal(tmp_path, "one\n{% if plane %}two")


def test_a_misspelt_value_is_found_before_rendering(tmp_path: Path) -> None:
    assert "global.j2:3: unknown value 'plain'; did you mean 'plane'?" in refusal(
        tmp_path, "\n\n{{ plain }}"
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{% for x in plane %}a{% endfor %}", "'for'"),
        ("{{ 'a' * 1000000000 }}", "'mul'"),
        ("{{ 9 ** 9 ** 9 ** 9 }}", "'pow'"),
        ("{{ plane ~ plane }}", "'concat'"),
        ("{{ plane.upper() }}", "'call'"),
        ("{{ plane.__class__ }}", "'getattr'"),
        ("{{ plane['x'] }}", "'getitem'"),
        ("{{ [1, 2] }}", "'list'"),
        ("{% set plane = 'x' %}", "'assign'"),
        ("{% include 'x' %}", "'include'"),
        ("{% macro f() %}{% endmacro %}", "'macro'"),
        ("{{ plane if region else 1 }}", "'condexpr'"),
        ("{% if plane is defined %}x{% endif %}", "'test'"),
        ("{{ range(9) }}", "'call'"),
        ("{{ self }}", "'self'"),
        ("{{ plane|center(9) }}", "center"),
        ("{{ plane|default(region) }}", "constants only"),
        ("{% filter upper %}x{% endfilter %}", "'filterblock'"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    message = refusal(tmp_path, text)
    assert "global.j2:1: " in message
    assert named in message


@pytest.mark.parametrize(
    "text", ["(" * 3000, "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "{{ " + "9" * 5000 + " }}"]
)
def test_deep_nesting_and_huge_numbers_do_not_crash_the_parser(tmp_path: Path, text: str) -> None:
    assert "global.j2" in refusal(tmp_path, text)


def test_long_sources_and_long_texts_are_refused(tmp_path: Path) -> None:
    assert "at most 8000" in refusal(tmp_path, "x" * 8001)
    assert f"the limit is {MAX_TEXT_CHARS}" in refusal(tmp_path, "x" * (MAX_TEXT_CHARS + 1))


def test_repeated_joins_cannot_grow_a_text(tmp_path: Path) -> None:
    text = "{{ plane" + "|join('xxxxxxxxxxxxxxxx')" * 100 + " }}"
    assert (
        load_templates(own_set(tmp_path / "mine", text)).render_global(EVERYTHING) == "four-chamber"
    )


def test_rounding_to_a_billion_digits_is_an_error_not_an_hour(tmp_path: Path) -> None:
    assert "round takes 0 to 6 digits" in refusal(tmp_path, "{{ 1.5|round(1000000000) }}")


def test_a_null_in_a_comparison_names_the_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a\n{% if weeks < 12 %}early{% endif %}")
    assert "global.j2:2: " in message and "null" in message


def test_the_allowed_language_works(tmp_path: Path) -> None:
    test = "{# c #}{% if weeks >= 12 and not region == 'face' or days %}"
    text = test + "{{ plane|upper }}  {{ region|default('x', true) }}\n{% endif %}"
    assert (
        load_templates(own_set(tmp_path / "mine", text)).render_global(EVERYTHING)
        == "FOUR-CHAMBER heart"
    )


def test_only_plain_values_are_passed() -> None:
    with pytest.raises(SonoError, match="'structures' is a list"):
        # the point
        load_templates("standard").render_global(NOTHING | {"structures": ["a"]})  # type: ignore[dict-item]


def test_a_pipe_among_the_templates_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "global.j2")
    with pytest.raises(SonoError, match=r"global\.j2: a pipe, socket or device"):
        load_templates(str(tmp_path))


@pytest.mark.parametrize("file", ["global.j2", "region.j2", "prompts.j2"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, file: str) -> None:
    folder, secret = tmp_path / "mine", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("{{ plane }}")
    for name in ("global.j2", "region.j2"):
        (folder / name).write_text("a view")
    (folder / file).unlink(missing_ok=True)
    (folder / file).symlink_to("../secret")
    with pytest.raises(SonoError, match=rf"{file}: leads out of .*mine"):
        load_templates(str(folder))
    (folder / file).unlink()
    (folder / "own").write_text("{{ plane }}")
    (folder / file).symlink_to("own")  # inside it a link is as good as a file
    assert load_templates(str(folder)).name == "mine"


def test_a_folder_whose_name_is_not_utf8_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xffine"))
    bad.mkdir()
    for name in ("global.j2", "region.j2"):
        (bad / name).write_text("a view")
    with pytest.raises(SonoError, match=r"m\\xffine: the name is not UTF-8"):
        load_templates(str(bad))
    bad.rename(tmp_path / "mine")
    with (tmp_path / "mine" / "global.j2").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(SonoError, match=r"global\.j2: 1,099,511,627,776 bytes; at most"):
        load_templates(str(tmp_path / "mine"))


def test_every_kind_of_prompt_differs_from_what_training_draws() -> None:
    templates = load_templates("standard")
    planes, regions = (
        templates.render_prompts("femur"),
        templates.render_region_prompts("fetal head"),
    )
    unseen = (
        templates.render_unseen_prompts("femur"),
        templates.render_unseen_region_prompts("fetal head"),
    )
    assert [len(set(texts)) for texts in unseen] == [10, 10]
    assert not set(planes) & set(unseen[0]) and not set(regions) & set(unseen[1])
    assert all("femur" in text for text in unseen[0]) and all(
        "fetal head" in text for text in [*regions, *unseen[1]]
    )


def test_a_set_may_bring_its_own_region_prompts(tmp_path: Path) -> None:
    for name in ("global.j2", "region.j2"):
        (tmp_path / name).write_text("fetal ultrasound")
    (tmp_path / "region_prompts.j2").write_text("structure {{ structure }}\n")
    assert load_templates(str(tmp_path)).render_region_prompts("femur") == ["structure femur"]
    (tmp_path / "region_prompts.j2").write_text("structure {{ plane }}\n")
    with pytest.raises(SonoError, match=r"region_prompts.j2:1: a prompt uses 'structure'"):
        load_templates(str(tmp_path))
