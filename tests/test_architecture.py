"""The dependency rules: imports of packages, contents of a release, no torch at the start."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "curation": set(),
    "templates": {"curation"},
    "annotation": {"curation", "templates"},
    "training": {"curation", "templates", "annotation"},
    "evaluation": {"curation", "templates", "annotation", "training"},
}

# Inside the two large packages: a part imports those of the layers below it, never its own layer.
LAYERS = {
    "curation": [
        {"core"},
        {"clinical", "phantom"},
        {"readers"},
        {"privacy", "pacs"},
        {"records"},
        {"imaging", "export_dicom"},
        {"dataset"},
        {"qc_messages"},
        {"qc", "dedup", "listing", "quarantine"},
        {"commands"},
    ],
    "training": [
        {"config", "runtime"},
        {"model"},
        {"objectives", "interop"},
        {"data"},
        {"start"},
        {"step"},
        {"inputs"},
        {"runs"},
        {"validation", "export_shards"},
        {"train"},
        {"commands"},
    ],
}
MOST_PARTS = {"curation": 16, "training": 14}


def imports_of(file: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports of sono, as parts of the name after `sono`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sono."):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("sono."))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_the_packages_below_it(package: str) -> None:
    allowed = PACKAGES[package] | {package}
    odd = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / package).rglob("*.py")
        for name, *_ in imports_of(file)
        if name not in allowed
    }
    assert odd == set()


@pytest.mark.parametrize("package", LAYERS)
def test_a_part_imports_only_the_layers_below_it(package: str) -> None:
    level = {part: number for number, layer in enumerate(LAYERS[package]) for part in layer}
    odd = {
        f"{file.relative_to(ROOT)} imports {package}.{part}"
        for file in (ROOT / package).rglob("*.py")
        for name, part, *_ in (found for found in imports_of(file) if len(found) > 1)
        if name == package and part != (own := part_of(file, package)) and level[part] >= level[own]
    }
    assert odd == set()


@pytest.mark.parametrize("package", LAYERS)
def test_the_parts_of_a_package_are_few_and_each_has_a_layer(package: str) -> None:
    parts = {part_of(file, package) for file in (ROOT / package).rglob("*.py")} - {"__init__"}
    assert parts == set().union(*LAYERS[package])
    assert len(parts) <= MOST_PARTS[package]


def part_of(file: Path, package: str) -> str:
    """The subpackage or module below `package` that a file belongs to."""
    return file.relative_to(ROOT / package).parts[0].removesuffix(".py")


def test_the_packages_that_ship_are_the_folders_that_exist() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {
        "sono" + "".join(f".{part}" for part in init.parent.relative_to(ROOT).parts)
        for top in ("", *PACKAGES)
        for init in (ROOT / top).glob("**/__init__.py" if top else "__init__.py")
    }
    assert listed == found


def test_the_root_holds_three_python_files() -> None:
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = "{'torch', 'pandas', 'numpy', 'cv2', 'pydicom', 'matplotlib', 'open_clip'}"
    code = f"import sys, sono.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_with_the_commands_alone() -> None:
    code = "import sys, sono.cli; print(*(name for name in sys.modules if name[:5] == 'sono.'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = [
        *PACKAGES,
        "curation.pacs",
        "annotation.release",
        "annotation.captioning",
        "annotation.rewriting",
    ]
    commands = {f"sono.{package}{part}" for package in packages for part in ("", ".commands")}
    core = {f"sono.curation.core{part}" for part in ("", ".cli_options", ".errors")}
    assert set(done.stdout.split()) - commands == core | {"sono.cli"}


@pytest.mark.parametrize("package", ["curation", "templates"])
def test_the_lower_packages_do_not_import_torch(package: str) -> None:
    files = [
        file
        for file in (ROOT / package).rglob("*.py")
        if "import torch" in file.read_text(encoding="utf-8")
    ]
    assert files == []


def test_no_file_grows_beyond_four_hundred_lines() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")] + [
        ROOT / "cli.py"
    ]
    assert {
        file.name: size for file in files if (size := len(file.read_text().splitlines())) > 400
    } == {}
