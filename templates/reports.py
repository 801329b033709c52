"""HTML reports: one self-contained file each, without external resources."""

import tomllib
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sono import __version__

FOLDER = Path(__file__).parent / "reports"


def render_report(template: str, **values: Any) -> str:
    """Render `templates/reports/<template>`.

    Every value is escaped, and a missing value is an error.
    """
    return _environment().get_template(template).render(sono_version=__version__, **values)


@cache
def words(*sections: str) -> dict[str, str]:
    """What the words of tables mean, by word: some sections of words.toml."""
    found = tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
    return {word: meaning for section in sections for word, meaning in found[section].items()}


@cache
def guidelines() -> dict[str, dict[str, tuple[str, str]]]:
    """The items of reporting guidelines: subject and key of the answer, by number.

    The key is that of a question, or "paper", or "none: " and why an item does not apply.
    """
    found = tomllib.loads((FOLDER / "guidelines.toml").read_text(encoding="utf-8"))
    return {
        name: {number: (subject, key) for number, (subject, key) in items.items()}
        for name, items in found.items()
    }


def items_answered_by(key: str) -> str:
    """The items that a question answers, such as "CLAIM 2024 7; TRIPOD+AI 5a, 6a"."""
    found = {
        name: [number for number, (_, own) in items.items() if own == key]
        for name, items in guidelines().items()
    }
    return "; ".join(f"{name} {', '.join(own)}" for name, own in found.items() if own)


def row_words() -> dict[str, str]:
    """What the rows of result tables mean, by the name of the row."""
    return words("masks", "baselines", "measures", "phrasings")


def data_uri(picture: bytes) -> str:
    """A PNG or SVG as the address of an `img`."""
    kind = "svg+xml" if picture.startswith(b"<?xml") else "png"
    return f"data:image/{kind};base64,{b64encode(picture).decode('ascii')}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["source_words"] = words("sources")
    script = (FOLDER / "sort.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    # the only script that a browser may run, so one that is smuggled into a value does nothing
    environment.globals |= {"script": script, "script_hash": f"sha256-{digest}"}
    environment.filters |= {"number": _number, "percent": _percent, "decimal": _decimal}
    return environment


def _number(value: float) -> str:
    """1234567 as 1,234,567; other numbers with three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def _percent(share: float) -> str:
    """0.1234 as 12.3 %; a share above zero never reads as zero."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _decimal(value: float) -> str:
    """A measure: three decimals below 1, fewer above, none where it is whole."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3f}"
