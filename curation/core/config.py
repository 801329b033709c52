"""Settings: one frozen model for each section of `sono.toml`."""

import re
import reprlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sono.curation.core.atomic import MAX_TEXT_BYTES, read_regular
from sono.curation.core.errors import SonoError, did_you_mean

SECTIONS = (
    "study",
    "qc",
    "records",
    "splits",
    "masks",
    "segmenter",
    "captions",
    "card",
    "training",
    "evaluation",
)
MAX_DOTS = 50  # of one key: a TOML reader takes time that grows with their square
_PART = r"""(?:(?<![\w"'-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rf"{_PART}(?:[ \t]*+\.[ \t]*+(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')){{{MAX_DOTS}}}", re.ASCII
)
# torch takes 64 bits, of which `process_seed` gives the lower ones to step and process
MAX_SEED = 10**9


class Config(BaseModel):
    """Base of every settings model, frozen.

    An unknown key, `true` or `false` for a number, or a number that is not finite is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else bool
            kinds = {kind, *get_args(kind)}
            if isinstance(value, bool) and {int, float} & kinds and bool not in kinds:
                raise ValueError(f"{name} is {str(value).lower()}: expected a number")
        return values


Settings = TypeVar("Settings", bound=Config)


class StudyConfig(Config):
    """The name of the study, the planes it adds, and what it keeps of dates and words."""

    name: str = "study"
    planes_file: str = ""
    planes: dict[str, str] = Field(default_factory=dict)  # plane id by the hospital's own label
    key_check: str = ""  # of the pseudonym key that made this study's ids; written by `sono init`
    # shifted: exam dates moved by a keyed number of days per patient
    keep_dates: Literal["none", "shifted"] = "none"
    public_words: tuple[str, ...] = ()  # not private, although they occur in names or headers


def read_section(path: Path, section: str, model: type[Settings]) -> Settings:
    """Read `[section]` of the TOML file `path` into `model`.

    If the file or the section is absent, the result has the defaults.
    """
    return validated(section_values(path, section), section, model, path)


def section_values(path: Path, section: str) -> dict[str, Any]:
    """The values of `[section]` in the TOML file `path`, not yet checked."""
    values: dict[str, Any] = read_file(path, SECTIONS).get(section, {})
    return values


def validated(
    values: dict[str, Any], section: str, model: type[Settings], place: Path | None = None
) -> Settings:
    """`values` as a settings model.

    Raises SonoError with `place` and `section` for the first value that `model` does not accept.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = _first_problem(error, section, model)
        raise SonoError(problem if place is None else f"{place}: {problem}") from error


def format_problem(error: ValidationError, *place: str) -> str:
    """The first problem in one line: the key below `place`, its value, and what is expected."""
    problem = error.errors()[0]
    key = ".".join(map(str, (*place, *problem["loc"])))
    if problem["type"] == "value_error":  # of our own rules
        wanted = str(problem["ctx"]["error"])
        if isinstance(problem["input"], dict):  # keys that exclude each other, which the text names
            return f"'{key}': {wanted}" if key else wanted
    else:
        wanted = (
            "expected a section with keys"
            if problem["type"] == "model_type"
            else problem["msg"].lower()
        )
    name = f"'{key}' is " if key else ""
    return f"{name}{reprlib.repr(problem.get('input'))}: {wanted}"


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """The values of several layers; later layers override earlier ones, and tables are merged."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = merged(result[name], value) if both else value
    return result


def check_sections(path: Path, model_of: Callable[[str], type[Config]]) -> None:
    """Raise SonoError for the first section, key or value in the TOML file that its model rejects.

    `model_of` is called only for the sections that the file contains.
    """
    for section in read_file(path, SECTIONS):
        read_section(path, section, model_of(section))


def override(settings: Settings, **changes: Any) -> Settings:
    """A validated copy of `settings` with those `changes` (options) that are not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    return validated({**settings.model_dump(), **given}, "options", type(settings))


def read_file(path: Path, sections: Sequence[str]) -> dict[str, Any]:
    """The sections of a TOML file by name; none if the file is absent.

    Raises SonoError for a section that is not in `sections`.
    """
    try:
        values = read_toml(path)
    except FileNotFoundError:
        return {}
    for name in values:
        if name not in sections:
            raise SonoError(f"{path}: unknown section [{name}]{did_you_mean(name, sections)}")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises SonoError if it is not valid, too large or not a regular file, OSError if it is absent.
    """
    content = read_regular(path, MAX_TEXT_BYTES)
    try:
        text = content.decode("utf-8-sig")
        if _LONG_KEY.search(text):
            raise ValueError(f"a key of more than {MAX_DOTS} parts")
        return tomllib.loads(text)
    # of syntax, of UTF-8, of a number with thousands of digits
    except (ValueError, RecursionError) as error:
        raise SonoError(f"{path}: not valid TOML: {error}") from error


def _first_problem(error: ValidationError, section: str, model: type[Config]) -> str:
    problem = error.errors()[0]
    if problem["type"] == "extra_forbidden":
        key = ".".join(map(str, (section, *problem["loc"])))
        return (
            f"unknown key "
            f"'{key}'{did_you_mean(str(problem['loc'][-1]), _keys_at(model, problem['loc'][:-1]))}"
        )
    return format_problem(error, section)


def _keys_at(model: type[Config], place: Sequence[str | int]) -> Iterable[str]:
    """The keys of the model at `place` below `model`."""
    for name in place:
        inner = model.model_fields[str(name)].annotation
        if not (isinstance(inner, type) and issubclass(inner, Config)):
            break
        model = inner
    return model.model_fields
