"""The walls of the house: who may import whom, what ships, and a command line that starts without torch."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "curation": set(),
    "templates": {"curation"},
    "annotation": {"curation", "templates"},
    "training": {"curation", "templates", "annotation"},
    "evaluation": {"curation", "templates", "annotation", "training"},
}


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("sono."))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    allowed = ROOMS[room] | {room}
    odd = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / room).rglob("*.py")
        for name in imported_rooms(file)
        if name not in allowed
    }
    assert odd == set()


def test_the_packages_that_ship_are_the_folders_that_exist() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {
        "sono" + "".join(f".{part}" for part in init.parent.relative_to(ROOT).parts)
        for top in ("", *ROOMS)
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


@pytest.mark.parametrize("room", ["curation", "templates"])
def test_the_lower_rooms_do_not_import_torch(room: str) -> None:
    files = [file for file in (ROOT / room).rglob("*.py") if "import torch" in file.read_text(encoding="utf-8")]
    assert files == []


def test_no_file_grows_beyond_four_hundred_lines() -> None:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")] + [ROOT / "cli.py"]
    assert {file.name: size for file in files if (size := len(file.read_text().splitlines())) > 400} == {}
