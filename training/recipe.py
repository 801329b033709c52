"""Recipes: settings under a name. A recipe gives way to `sono.toml`, and that to the options of the command."""

from pathlib import Path
from typing import Any

from sono.curation.config import merged, read_file, section_values, validated
from sono.curation.errors import SonoError, did_you_mean
from sono.curation.workspace import Workspace
from sono.training.config import NAMED, SCRATCH, TrainingConfig

FOLDER = Path(__file__).parent / "recipes"
SECTIONS = ("training", "tuning")  # always; and where the run begins with another
TOWERS = ("model", "start", "text", "region_pool")  # of a recipe: a run that begins with another takes its towers


def recipe_names() -> list[str]:
    """Those that come with sono."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def training_config(workspace: Workspace, recipe: str | None, options: dict[str, Any]) -> TrainingConfig:
    """The settings of a new run: recipe (None: `sono`), then `[training]` of `sono.toml`, then set options."""
    given = {name: value for name, value in options.items() if value is not None}
    own = section_values(workspace.config_path, "training")
    path = _find(recipe or "sono")
    sections = read_file(path, SECTIONS)
    values = sections.get("training", {})
    validated(values, "training", TrainingConfig, path)  # one after another: a mistake is told where it stands
    validated(merged(values, own), "training", TrainingConfig, workspace.config_path)
    if merged(values, own, given).get("init") is not None:
        values = merged(_without(values, *TOWERS), sections.get("tuning", {}))
        validated(values, "tuning", TrainingConfig, path)
    elif merged(own, given).get("start", SCRATCH) not in NAMED:  # an encoder brings the vision tower
        values = _without(values, "model", "start", "region_pool")
    where = f"{recipe} with sono.toml and options" if recipe else "options"
    return validated(merged(values, own, given), where, TrainingConfig)


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _find(recipe: str) -> Path:
    """The file of a recipe: one of ours by name, or a file of the user's by path."""
    path = Path(recipe)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SonoError(f"{path}: no such recipe file")
        return path
    if recipe not in recipe_names():
        raise SonoError(f"unknown recipe '{recipe}'{did_you_mean(recipe, recipe_names())}; or give a file, NAME.toml")
    return FOLDER / f"{recipe}.toml"
