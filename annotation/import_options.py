"""The options of a mask import: parsing, and checks against each other and the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sono.annotation.exchange.label_images import IMAGES, is_segmentation
from sono.annotation.exchange.mask_files import TABLES
from sono.curation.core.column_values import MASK_STATES
from sono.curation.core.errors import SonoError, did_you_mean


@dataclass(frozen=True)
class ImportOptions:
    """The options of `sono masks import`.

    `structure` names all masks of pictures, or of a file with one label; `colors` and `values` name
    the classes of pictures, `labels` those of JSON files and tables; `skipped` labels are left out.
    `columns` names the columns of a box table, `ignored_folders` are folders that no frame has in
    its path. `strict`: import all masks or none; `force`: import masks that look wrong, too;
    `dry_run`: only report. `replace`: whether new masks replace accepted ones, see `outdated`.
    """

    structure: str | None = None
    colors: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    ignored_folders: Sequence[str] = ()
    state: str = "accepted"
    strict: bool = False
    force: bool = False
    dry_run: bool = False
    replace: bool | None = None


def parse_pairs(option: str, given: Sequence[str], example: str) -> dict[str, str]:
    """Values by name from options such as `--color "red=fetal head"`.

    Raises SonoError for an incomplete pair, or a name with two values.
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, sign, value = (part.strip() for part in text.rpartition("="))
        if not (name and sign and value):
            raise SonoError(f"{option} '{text}': write NAME=VALUE, as in {option} \"{example}\"")
        if pairs.setdefault(name, value) != value:
            raise SonoError(f"{option} '{name}' is both '{pairs[name]}' and '{value}'; keep one")
    return pairs


def parse_values(given: Sequence[str]) -> dict[int, str]:
    """Structures by gray value or palette index from options such as `--value "1=fetal head"`."""
    pairs = parse_pairs("--value", given, "1=fetal head")
    odd = [name for name in pairs if not (name.isascii() and name.isdigit() and len(name) < 6)]
    if odd:
        raise SonoError(
            f"--value '{odd[0]}' is not a whole number; write VALUE=STRUCTURE, as in --value "
            '"1=fetal head"'
        )
    return {int(name): value for name, value in pairs.items()}


def check_options(options: ImportOptions) -> None:
    given = {"--structure": options.structure, "--color": options.colors, "--value": options.values}
    both = [name for name, value in given.items() if value]
    if len(both) > 1:
        raise SonoError(
            f"{' and '.join(both)} contradict each other: each names all masks; give only one"
        )
    if options.state not in MASK_STATES:
        raise SonoError(
            f"unknown mask state '{options.state}'{did_you_mean(options.state, MASK_STATES)}"
        )


def check_file_kind(path: Path, options: ImportOptions) -> None:
    """Raise SonoError for an option that does not apply to a file of this kind."""
    kind = path.suffix.lower()
    is_picture = path.is_dir() or kind == ".png" or (kind in IMAGES and not is_segmentation(path))
    if (options.colors or options.values) and not is_picture:
        raise SonoError(
            f"{path}: --color and --value are for pictures; map the labels of this file with "
            "--label"
        )
    if options.columns and kind not in TABLES:
        raise SonoError(f"{path}: --column is for tables of boxes ({', '.join(TABLES)})")
