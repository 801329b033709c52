"""Settings: one frozen model per concern, each read from its section of `sono.toml`."""

import tomllib
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
    values = _read_toml(path)
    for name in values:
        if name not in SECTIONS:
            raise SonoError(f"{path}: unknown section [{name}]{did_you_mean(name, SECTIONS)}")
    try:
        return model.model_validate(values.get(section, {}))
    except ValidationError as error:
        raise SonoError(f"{path}: {_first_problem(error, section, model)}") from error


def override(settings: Settings, **changes: Any) -> Settings:
    """A copy of `settings` with the changes that are not None, validated (options given on the command line)."""
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return type(settings).model_validate({**settings.model_dump(), **given})
    except ValidationError as error:
        raise SonoError(_first_problem(error, "options", type(settings))) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SonoError(f"{path}: not valid TOML: {error}") from error


def _first_problem(error: ValidationError, section: str, model: type[Config]) -> str:
    problem = error.errors()[0]
    key = ".".join(map(str, (section, *problem["loc"])))
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{did_you_mean(str(problem['loc'][-1]), model.model_fields)}"
    return f"'{key}' is {problem.get('input')!r}: {problem['msg'].lower()}"
