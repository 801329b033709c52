"""The labels by which records name planes, as `plane_labels.toml` lists them by language."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sono.curation.core.config import read_toml
from sono.curation.core.errors import SonoError

FILE = Path(__file__).with_name("plane_labels.toml")
AMBIGUOUS = "ambiguous"  # the section of labels with several meanings

# A sign of doubt anywhere, or one of denial before or behind a label.
_DOUBT = re.compile(r"[?±¬]|^[\W_]*[!\-–—−]|[-–—−][\W_]*$")


class Label(NamedTuple):
    """A label, and the plane id or the known plane outside the 24 that it names."""

    text: str
    plane: str  # an id of planes.toml, or ""
    outside: str  # the name of a plane outside the 24, or ""
    language: str
    source: str
    reviewed: bool


class Labels(NamedTuple):
    """All labels by their form, and what each ambiguous one may mean."""

    by_form: Mapping[str, Label]
    ambiguous: Mapping[str, tuple[str, ...]]

    def of(self, plane_id: str) -> tuple[str, ...]:
        """The reviewed labels of a plane."""
        own = (label for label in self.by_form.values() if label.plane == plane_id)
        return tuple(label.text for label in own if label.reviewed)


def label_form(label: str) -> str:
    """Letters and digits without case and accents: `Trans-thalamic` becomes `transthalamic`.

    A label with a sign of doubt or denial (`femur?`, `hydrops -`, `+/-`) is another one.
    """
    plain = unicodedata.normalize("NFKD", label.casefold())
    form = "".join(letter for letter in plain if letter.isalnum())
    return f"{form}?" if form and _DOUBT.search(label) else form


def read_labels(file: Path = FILE) -> Labels:
    """The labels of a file; SonoError if one has two meanings. A reviewed one replaces others."""
    content = read_toml(file)
    unclear = content.pop(AMBIGUOUS, {})
    ambiguous = {label_form(text): tuple(meanings) for text, meanings in unclear.items()}
    by_form: dict[str, Label] = {}
    for section, values in content.items():
        for label in _labels(values):
            form = label_form(label.text)
            known = by_form.get(form, label)
            if known[1:3] != label[1:3] or form in ambiguous or not form:
                others = ambiguous.get(form, (known.plane or known.outside,))
                raise SonoError(
                    f"{file}: [{section}] the label '{label.text}' means "
                    f"'{label.plane or label.outside}', and also '{', '.join(others)}'; move it to "
                    f"[{AMBIGUOUS}]"
                )
            by_form[form] = max(known, label, key=lambda one: one.reviewed)
    return Labels(by_form, ambiguous)


def _labels(values: Mapping[str, Any]) -> Iterator[Label]:
    about = (values["language"], values["source"], values["reviewed"])
    for plane_id, texts in values.get("planes", {}).items():
        yield from (Label(text, plane_id, "", *about) for text in texts)
    for name, texts in values.get("outside", {}).items():
        yield from (Label(text, "", name, *about) for text in texts)


LABELS = read_labels()
