"""The findings that records may hold and captions may name, as `findings.toml` lists them."""

from pathlib import Path
from typing import NamedTuple

from sono.curation.core.config import read_toml

DIAGNOSIS = "diagnosis"


class Finding(NamedTuple):
    """A finding: its attribute, its HPO term, and the places where it is looked for."""

    name: str
    attribute: str
    hpo: str = ""
    places: tuple[str, ...] = ()  # structures, plane ids or regions; none: it has no single place


def _read(file: Path) -> dict[str, Finding]:
    content = read_toml(file)
    words = content.pop("attributes")
    found = [Finding(word, attribute) for attribute in words for word in words[attribute]]
    found += [
        Finding(name, DIAGNOSIS, one.get("hpo", ""), tuple(one.get("places", ())))
        for name, one in content.items()
    ]
    return {one.name: one for one in found}


FINDINGS = _read(Path(__file__).with_name("findings.toml"))
