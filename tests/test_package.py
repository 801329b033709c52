"""The distribution: a wheel with only the package, and an sdist with tests and docs.

The command starts where the wheel is installed.
"""

import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("curation", "templates", "annotation", "training", "evaluation")
LEFT_OUT = ("/.", "__pycache__", ".egg-info/PKG", "/build/")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built from a copy of the tracked files."""
    if find_spec("build") is None:
        pytest.skip("build is not installed")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if files.returncode:
        pytest.skip("not a git repository")
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    kinds = ("*.py", "*.toml", "*.j2", "*.css", "*.html", "*.js", "*.svg", "*.md")
    source = {
        f"sono/{path.relative_to(ROOT)}"
        for package in PACKAGES
        for kind in kinds
        for path in (ROOT / package).rglob(kind)
    }
    root = {"sono/__init__.py", "sono/__main__.py", "sono/cli.py", "sono/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == source | root


def test_the_sdist_holds_tests_docs_and_benchmarks(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("tests", "docs", "benchmarks", *PACKAGES)
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".j2", ".ipynb")
    }
    more = {"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "constraints.txt", "mkdocs.yml"}
    assert (wanted | more) - names == set()


def test_the_metadata_describe_a_public_typed_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any("Private" in one for one in project["classifiers"])
    assert "Typing :: Typed" in project["classifiers"] and project["keywords"]


def test_the_installed_wheel_has_a_command_that_starts(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    # dependencies from this environment; as a plain path, so that its own sono is not among them
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    code = "import sono, sys; print(sono.__file__); from sono.cli import app; app(['--help'])"
    done = subprocess.run(
        [python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(site / "sono" / "__init__.py")
    assert "masks" in done.stdout and "quarantine" in done.stdout
