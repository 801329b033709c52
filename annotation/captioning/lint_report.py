"""`sono captions lint`: check the captions of a study, whoever wrote them, against its tables."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from sono.annotation.caption_facts import Facts, facts_of, find_plane
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.captioning.record_checks import CONTRADICTIONS, REMARKS, RecordChecks
from sono.annotation.captions import caption_writer
from sono.annotation.findings import spoken
from sono.annotation.lint import FINDINGS, lint
from sono.curation.core.console import progress, warn
from sono.curation.core.errors import IssuesError, counted
from sono.curation.core.tables import CAPTIONS, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import text_search
from sono.curation.records.read import RecordsConfig

if TYPE_CHECKING:
    from rich.console import Group

# Codes of a row of the table.
ROW_ERRORS = MappingProxyType(
    {
        "private": "something private from the vault: a name, an id or a date of a patient",
        "orphan": "the frame or the mask of the caption is not used any more",
        "stale_tokens": "the stored number of tokens is not that of the text",
    }
)
ROW_REMARKS = MappingProxyType({"duplicate": "the frame or mask has the same text twice"})
ERRORS = {**FINDINGS, **CONTRADICTIONS, **ROW_ERRORS}
MEANINGS = {**ERRORS, **REMARKS, **ROW_REMARKS}

_TEMPLATE = "correct the template, then sono captions build"
_TEXT = "correct the text on the page of sono masks review, or build the captions again"
_LABEL = "sono captions build; if it stays, correct the label in the records or the mask"
FIXES = MappingProxyType(
    {
        **dict.fromkeys(ERRORS, _TEXT),
        **dict.fromkeys(
            ("empty", "residue", "blanks", "control_character", "ga_grammar"), _TEMPLATE
        ),
        **dict.fromkeys(("article", "doubled_word", "punctuation"), _TEMPLATE),
        "ga_range": "correct the age in the records, then sono qc and sono captions build",
        "too_long": "use a shorter template set, or raise max_tokens under [captions]",
        "private": "sono captions build: it writes no private text; if it does, the gate stops it",
        "orphan": "sono captions build",
        "stale_tokens": "sono captions build",
        "wrong_plane": _LABEL,
        "wrong_structure": _LABEL,
        "unmasked_structure": "draw or import the mask, or correct the record",
        "unnamed_mask": "sono captions build, or raise max_tokens under [captions]",
        "unusual_age": "check plane and age in the records; a planes file may change weeks",
        "duplicate": "leave one template set out under [captions] sets",
    }
)
TOKENS_A_BAR = 8  # of the histogram


@dataclass(frozen=True)
class LintedCaption:
    """A caption with the codes of what is wrong with it."""

    image_id: str
    mask_id: str | None
    level: str
    template: str
    plane: str | None
    text: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Diversity:
    """The captions of a plane: how many are distinct, and the share of the most frequent."""

    plane: str
    captions: int
    distinct: int
    most_frequent: float


@dataclass(frozen=True)
class LintReport:
    """What is wrong in the captions: `counts` by code, and every row that has one.

    `tokens` are captions by number of tokens, in steps of eight.
    """

    captions: int
    errors: int  # captions with an error
    remarks: int  # captions with remarks alone
    counts: dict[str, int]
    meanings: dict[str, str]
    fixes: dict[str, str]
    diversity: tuple[Diversity, ...]
    tokens: dict[str, int]
    searched: bool  # for private texts; this needs the vault
    rows: tuple[LintedCaption, ...]

    def refuse_findings(self) -> None:
        """IssuesError (exit 3) where a caption has an error; remarks do not count."""
        if self.errors:
            raise IssuesError(f"{counted(self.errors, 'caption has', 'captions have')} an error")

    def __rich__(self) -> "Group":
        """The report for a terminal."""
        from sono.annotation.captioning.lint_view import view

        return view(self)


@dataclass
class CaptionLinter:
    """Checks texts against the facts of their frames; equal texts and facts are checked once."""

    writer: CaptionWriter
    checks: RecordChecks
    is_private: Callable[[str], bool] | None  # None: there is no vault to search with
    _cache: dict[tuple[str, Facts, tuple[str, ...]], tuple[str, ...]] = field(default_factory=dict)

    def codes(self, text: str, facts: Facts, masked: tuple[str, ...]) -> tuple[str, ...]:
        """The codes of a text; `masked` are the structures of the frame that have a mask."""
        key = (text, facts, masked)
        if key not in self._cache:
            self._cache[key] = tuple(self._codes(text, facts, masked))
        return self._cache[key]

    def _codes(self, text: str, facts: Facts, masked: tuple[str, ...]) -> Iterator[str]:
        rules = self.writer.rules
        known = {*facts.structures, *masked}
        listed = (
            [name for name in known if name in text] if not facts.structure else [facts.structure]
        )
        findings = [spoken(finding) for finding in facts.findings]
        yield from lint(text, rules, find_plane(facts.plane, rules.planes), listed, findings)
        if text.strip():
            yield from self.checks.contradictions(text, facts)
            yield from self.checks.remarks(text, facts, masked)
        if self.is_private and self.is_private(text):
            yield "private"


def lint_captions(workspace: Workspace) -> LintReport:
    """Check all captions of a study that are not marked as wrong; nothing is written.

    Without a vault, private texts cannot be searched for: a warning reports this.
    """
    if not workspace.has_vault():
        warn(workspace.without_vault())
    captions, images = workspace.captions(), workspace.accepted_images()
    linter = caption_linter(workspace, images)
    masks = workspace.masks()
    rows = tuple(_rows(captions, images, masks[masks["state"] != "rejected"], linter))
    found = tuple(row for row in rows if row.codes)
    counts = Counter(code for row in found for code in row.codes)
    wrong = sum(any(code in ERRORS for code in row.codes) for row in found)
    listed = {code: counts[code] for code in MEANINGS if counts[code]}
    return LintReport(
        len(rows),
        wrong,
        len(found) - wrong,
        listed,
        {code: MEANINGS[code] for code in listed},
        {code: FIXES[code] for code in listed},
        _diversity(rows, workspace),
        _histogram(captions["tokens"]),
        linter.is_private is not None,
        found,
    )


def caption_linter(workspace: Workspace, images: pd.DataFrame) -> CaptionLinter:
    """The linter of a study with these `images`."""
    writer = caption_writer(workspace, images)
    known = workspace.settings("records", RecordsConfig).known_findings
    recorded = {one for cell in images["findings"].dropna() for one in cell}
    checks = RecordChecks(writer.rules.planes, frozenset({*known, *recorded}))
    search = text_search(workspace)
    place = Path(workspace.path(CAPTIONS).name)
    find = partial(search.found_at, place, "column 'text'") if search else None
    return CaptionLinter(writer, checks, (lambda text: bool(find(text))) if find else None)


def _rows(
    captions: pd.DataFrame, images: pd.DataFrame, masks: pd.DataFrame, linter: CaptionLinter
) -> Iterator[LintedCaption]:
    facts = dict(facts_of(images.drop_duplicates("image_id")))
    shown: dict[str, list[str]] = {}
    structures: dict[str, tuple[str, str]] = {}
    for mask in rows_of(masks[["image_id", "mask_id", "structure"]]):
        shown.setdefault(mask["image_id"], []).append(mask["structure"])
        structures[mask["mask_id"]] = (mask["image_id"], mask["structure"])
    repeated = captions.duplicated(["image_id", "level", "mask_id", "text"], keep="first").tolist()
    table = rows_of(captions)
    with progress("captions", len(captions)) as advance:
        for row, again in zip(table, repeated, strict=True):
            advance()
            yield _linted(row, facts, shown, structures, linter, again)


def _linted(
    row: dict[str, Any],
    facts: dict[str, Facts],
    shown: dict[str, list[str]],
    structures: dict[str, tuple[str, str]],
    linter: CaptionLinter,
    again: bool,
) -> LintedCaption:
    image_id, mask_id, text = row["image_id"], row["mask_id"], str(row["text"])
    own = facts.get(image_id)
    masked = structures.get(mask_id, ("", ""))
    if own is None or (mask_id is not None and masked[0] != image_id):
        codes = ["orphan"]
    else:
        stated = own._replace(structure=masked[1] or None)
        codes = list(linter.codes(text, stated, tuple(sorted(set(shown.get(image_id, ()))))))
        codes += ["stale_tokens"] * (row["tokens"] != linter.writer.rules.count_tokens(text))
        codes += ["duplicate"] * again
    plane = own.plane if own else None
    return LintedCaption(
        image_id, mask_id, row["level"], row["template"], plane, text, tuple(codes)
    )


def _diversity(rows: tuple[LintedCaption, ...], workspace: Workspace) -> tuple[Diversity, ...]:
    """The captions of frames by plane, in the order of the plane table."""
    planes = workspace.planes()
    texts: dict[str, Counter[str]] = {}
    for row in rows:
        if row.level == "global":
            texts.setdefault(planes.title(row.plane), Counter())[row.text] += 1
    order = [plane.name for plane in planes.planes]
    names = sorted(
        texts, key=lambda name: (order.index(name) if name in order else len(order), name)
    )
    return tuple(
        Diversity(
            name, texts[name].total(), len(texts[name]),
            round(max(texts[name].values()) / texts[name].total(), 4),
        )
        for name in names
    )  # fmt: skip


def _histogram(tokens: pd.Series) -> dict[str, int]:
    """Captions by number of tokens, in steps of TOKENS_A_BAR."""
    steps = Counter(int(count) // TOKENS_A_BAR for count in tokens.dropna())
    span = range(min(steps, default=0), max(steps, default=-1) + 1)
    return {f"{step * TOKENS_A_BAR}-{(step + 1) * TOKENS_A_BAR - 1}": steps[step] for step in span}
