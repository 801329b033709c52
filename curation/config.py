"""Settings: one frozen model per concern, each read from its section of `sono.toml`."""

import reprlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sono.curation.errors import SonoError, did_you_mean

SECTIONS = ("study", "qc", "records", "splits", "masks", "captions", "training", "evaluation")


class Config(BaseModel):
    """Base of every settings model: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Settings = TypeVar("Settings", bound=Config)


class StudyConfig(Config):
    """What the study is called and which planes it adds."""

    name: str = "study"
    planes_file: str = ""
    key_check: str = ""  # of the pseudonym key that made this study's ids; written by `sono init`
    keep_dates: Literal["none", "shifted"] = "none"  # shifted: exam dates moved by a keyed number of days per patient
    public_words: tuple[str, ...] = ()  # no secrets, although they stand in names or headers of the sources


def read_section(path: Path, section: str, model: type[Settings]) -> Settings:
    """Read `[section]` of the TOML file `path` into `model`; an absent file or section gives the defaults."""
    try:
        return model.model_validate(_read_sections(path).get(section, {}))
    except ValidationError as error:
        raise SonoError(f"{path}: {_first_problem(error, section, model)}") from error


def check_sections(path: Path, model_of: Callable[[str], type[Config]]) -> None:
    """SonoError for the first section, key or value of the TOML file `path` that its model does not know.

    Only the models of sections that stand in the file are asked for.
    """
    for section in _read_sections(path):
        read_section(path, section, model_of(section))


def override(settings: Settings, **changes: Any) -> Settings:
    """A copy of `settings` with the changes that are not None, validated (options given on the command line)."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return type(settings).model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        raise SonoError(_first_problem(error, "options", type(settings))) from error


def _read_sections(path: Path) -> dict[str, Any]:
    """The sections of a file, by name; SonoError for an unknown one."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SonoError(f"{path}: not valid TOML: {error}") from error
    for name in values:
        if name not in SECTIONS:
            raise SonoError(f"{path}: unknown section [{name}]{did_you_mean(name, SECTIONS)}")
    return values


def _first_problem(error: ValidationError, section: str, model: type[Config]) -> str:
    problem = error.errors()[0]
    key = ".".join(map(str, (section, *problem["loc"])))
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{did_you_mean(str(problem['loc'][-1]), _keys_at(model, problem['loc'][:-1]))}"
    told = "a section with keys is wanted" if problem["type"] == "model_type" else problem["msg"].lower()
    return f"'{key}' is {reprlib.repr(problem.get('input'))}: {told}"


def _keys_at(model: type[Config], place: Sequence[str | int]) -> Iterable[str]:
    """The keys of the model that stands at `place` below `model`."""
    for name in place:
        inner = model.model_fields[str(name)].annotation
        if not (isinstance(inner, type) and issubclass(inner, Config)):
            break
        model = inner
    return model.model_fields
