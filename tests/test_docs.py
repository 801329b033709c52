"""The documentation: generated pages are current, links work, and no page loads from the web."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OF_THE_BROWSER = (".google.com", ".googleapis.com", ".gvt1.com")  # its updates, not the pages
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """The links, loaded files and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given.get("href", ""))
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed (extra 'docs')")
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_pages_written_from_the_code_are_current() -> None:
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = module_from_spec(spec)
    spec.loader.exec_module(generate)
    old = [path.name for path, text in generate.pages().items() if path.read_text() != text]
    assert old == [], "run `make docs` and commit the pages"


def test_every_page_is_in_the_navigation() -> None:
    shown = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if f": {page}\n" not in shown} == set()


def test_every_link_leads_to_a_page_and_an_anchor(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 15
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment) or link.startswith("/"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                dead.append(f"{path.relative_to(site.resolve())}: {link}")
    assert dead == []


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    outside = {
        f"{path.name}: {loaded}"
        for path in site.rglob("*.html")
        for loaded in Page(path).loaded
        if urlsplit(loaded).scheme in ("http", "https") or loaded.startswith("//")
    }
    styles = [path for path in site.rglob("*.css") if "url(http" in path.read_text()]
    assert (outside, styles) == (set(), [])


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_every_page_from_disk_without_a_request(site: Path, tmp_path: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    frames = "".join(f'<iframe src="{page.as_uri()}"></iframe>' for page in pages)
    control = "http://127.0.0.1:9/seen.png"  # shows that the log holds what a page asks for
    frames += f'<img src="{control}">'
    (tmp_path / "all.html").write_text(frames, encoding="utf-8")
    log = tmp_path / "net.json"
    subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom"),
            (tmp_path / "all.html").as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    asked = {str(event.get("params", {}).get("url", "")) for event in events}
    hosts = {urlsplit(url).hostname or "" for url in asked if url.startswith(("http", "ws"))}
    assert {host for host in hosts if not host.endswith(OF_THE_BROWSER)} == {"127.0.0.1"}


def test_zensical_builds_the_same_site(tmp_path: Path) -> None:
    if find_spec("zensical") is None:
        pytest.skip("zensical is not installed")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    config = config.replace("site_dir: build/site", "site_dir: site")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "-f", "mkdocs.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "commands.html").is_file()
