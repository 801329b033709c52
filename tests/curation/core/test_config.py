import time
from pathlib import Path

import pytest

from sono.curation.core.config import (
    SECTIONS,
    Config,
    check_sections,
    override,
    read_file,
    read_section,
    read_toml,
    validated,
)
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.dataset.splits import SplitConfig
from sono.curation.imaging.quality import QualityConfig


class Example(Config):
    sharpness: float = 0.5
    names: tuple[str, ...] = ()


def write(folder: Path, text: str) -> Path:
    path = folder / "sono.toml"
    path.write_text(text)
    return path


def test_a_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    assert read_section(tmp_path / "sono.toml", "qc", Example) == Example()


def test_values_come_from_their_section(tmp_path: Path) -> None:
    path = write(tmp_path, '[qc]\nsharpness = 0.25\nnames = ["a"]\n[splits]\nseed = 1\n')
    assert read_section(path, "qc", Example) == Example(sharpness=0.25, names=("a",))


def test_an_unknown_key_names_itself_and_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "[qc]\nsharpnes = 1\n")
    with pytest.raises(
        SonoError, match=r"sono\.toml: unknown key 'qc\.sharpnes'; did you mean 'sharpness'\?"
    ):
        read_section(path, "qc", Example)


def test_an_unknown_section_names_itself_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"unknown section \[traning\]; did you mean 'training'\?"):
        read_section(write(tmp_path, "[traning]\n"), "qc", Example)


def test_a_wrong_type_shows_key_and_value(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"'qc\.sharpness' is 'much'"):
        read_section(write(tmp_path, '[qc]\nsharpness = "much"\n'), "qc", Example)


def test_broken_toml_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="not valid TOML"):
        read_section(write(tmp_path, "[qc\n"), "qc", Example)


def test_override_keeps_what_is_none_and_checks_the_rest() -> None:
    assert override(Example(), sharpness=None, names=("b",)) == Example(names=("b",))
    with pytest.raises(SonoError, match=r"options\.sharpness"):
        override(Example(), sharpness="x")


def test_a_far_word_lists_what_is_known() -> None:
    assert did_you_mean("zzz", ["femur", "humerus"]) == "; known: femur, humerus"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[qc]\nsharpness = 1\n[splits]\nsharpnes = 1\n",
            r"unknown key 'splits\.sharpnes'; did you mean 'sharpness'",
        ),
        ("[qc]\n[trainin]\n", r"unknown section \[trainin\]; did you mean 'training'"),
        ("sharpness = 1\n", r"unknown section \[sharpness\]"),
        ("qc = 3\n", "'qc' is 3"),
    ],
)
def test_every_section_is_checked_at_once(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SonoError, match=told):
        check_sections(write(tmp_path, text), lambda _: Example)


def test_only_the_models_of_sections_that_stand_there_are_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def model_of(section: str) -> type[Config]:
        asked.append(section)
        return Example

    check_sections(write(tmp_path, "[qc]\n[splits]\nsharpness = 1\n"), model_of)
    assert asked == ["qc", "splits"]


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "sono.toml"
    path.write_bytes(b"\xef\xbb\xbf[splits]\nseed = 4\n")
    assert read_section(path, "splits", SplitConfig).seed == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[qc.cine]\nframe = 'all'", "unknown key 'qc.cine.frame'; did you mean 'frames'"),
        ("qc = 3", "'qc' is 3: expected a section with keys"),
        ("[qc]\nmin_side = '" + "x" * 10_000 + "'", "'qc.min_side' is 'xxxxxxxx"),
        ("a = " + "[" * 20_000, "not valid TOML"),
        (
            "[qc.cine]\nframes = 'every'",
            "'qc.cine.frames' is 'every': give all, first, distinct or every:N",
        ),
    ],
)
def test_a_wrong_setting_is_one_short_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "sono.toml"
    path.write_text(text)
    with pytest.raises(SonoError) as error:
        read_section(path, "qc", QualityConfig)
    assert told in str(error.value) and len(str(error.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (f"name = {'9' * 5000}", "limit"),
        ("a" + ".a" * 100_000 + " = 1", "a key of more than 50 parts"),
        ("[a" + ' . "b"' * 100_000 + "]", "a key of more than 50 parts"),
        ("x = {a" + ".'a'" * 5_000 + " = 1}", "a key of more than 50 parts"),
        ("a = " + "[" * 100_000, "recursion"),
        ("# " + "x" * (1 << 20), "bytes; at most"),
    ],
)
def test_a_file_that_takes_a_reader_too_long_is_refused_at_once(
    tmp_path: Path, text: str, fact: str
) -> None:
    (tmp_path / "sono.toml").write_text(text)
    started = time.monotonic()
    with pytest.raises(SonoError, match=fact):
        read_file(tmp_path / "sono.toml", SECTIONS)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000 + " = 1",
        "# " + ". " * 100_000,
        'x = "' + "a " * 100_000 + '"',
        "'" * 100_000,
        '"' * 99_999,
    ],
)
def test_a_long_word_or_comment_is_no_long_key_and_takes_no_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    started = time.monotonic()
    try:
        read_toml(tmp_path / "t.toml")
    except SonoError as error:
        assert "parts" not in str(error)
    assert time.monotonic() - started < 5


class Numbers(Config):
    count: int = 0
    share: float | None = None
    flag: bool = False
    example: Example = Example()


@pytest.mark.parametrize(
    "values",
    [
        {"count": True},
        {"share": False},
        {"flag": True, "count": False},
        {"example": {"sharpness": True}},
    ],
)
def test_true_is_no_number(values: dict[str, object]) -> None:
    with pytest.raises(SonoError, match=r"is (true|false): expected a number"):
        validated(values, "numbers", Numbers)
    assert validated({"flag": True, "count": 3}, "numbers", Numbers).flag
