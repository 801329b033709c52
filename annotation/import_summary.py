"""The outcome of a mask import: reasons for refusals, counts and examples."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.tables import rows_of

MAX_EXAMPLES = 5
MAX_NAMES = 5  # in one message
MAX_DETAIL = 1000  # characters

REFUSALS = {
    "unmatched": "no frame has this name",
    "ambiguous": (
        "the name fits several files, so none is used; give the folders that distinguish them"
    ),
    "other_folder": (
        "the file is in another folder; if that folder does not matter, give --ignore-folder"
    ),
    "two_pictures": "several pictures of the import match one frame; keep the right one",
    "other_name": "the LabelMe file is named after another frame than the one in it",
    "other_picture": (
        "the picture in the LabelMe file is not the frame that it names; correct imagePath, or "
        "give --force if the frame is right"
    ),
    "changed": "the stored frame has changed",
    "not_accepted": "the frame was not accepted by `sono qc`",
    "many_frames": "the file has several frames; export with `sono masks export` and draw on those",
    "wrong_size": "the mask has another size than the frame",
    "empty": "the mask has no pixel inside the sector",
    "tiny": "a speck, not a structure: check it, and give --force if it is right",
    "inverted": (
        "nearly everything, all four borders or a large hole: inverted? check it, and give "
        "--force if it is right"
    ),
    "pieces": (
        "many pieces: an image, or rows read as columns? check it, and give --force if it is right"
    ),
    "open_line": (
        "a thin line that does not close; close it, or give --force if the line is the structure"
    ),
    "cut_away": (
        "most of it is outside the sector: a mask of another frame? check it, and give --force "
        "if it is right"
    ),
    "unknown_label": "the label is not a structure",
    "frame": "a frame of the study is not a mask",
    "tones": "an image is not a mask",
    "classes": "several classes in one picture",
    "no_structure": "the structure that it shows is unknown",
    "broken": "the entry cannot be used",
}


class Outcome(NamedTuple):
    """What happened to one mask or entry; it may hold names, so it is for the terminal only."""

    place: str
    name: str = ""
    label: str = ""
    structure: str | None = None
    image_id: str | None = None
    evidence: str | None = None
    reason: str | None = None  # a key of REFUSALS, or "skipped"
    detail: str = ""

    @property
    def text(self) -> str:
        """The outcome in one line."""
        if self.reason is None:
            return f"{self.place}: {self.structure} on frame {self.image_id} by {self.evidence}"
        meaning = REFUSALS.get(self.reason, "the label is left out")
        detail = self.detail if len(self.detail) <= MAX_DETAIL else f"{self.detail[:MAX_DETAIL]}..."
        return f"{self.place}: {meaning}{f' ({detail})' if detail else ''}"


@dataclass(frozen=True)
class ImportSummary:
    """Counts of the imported masks, and of the refused and skipped ones by reason.

    After a `dry_run`, these are the masks that would be imported. `known` of them existed before.
    `examples` has one mask for each kind of evidence and reason; `masks` has all of them after a
    dry run. `other_planes` has the masks of structures that the plane of their frame does not have.
    """

    dry_run: bool
    imported: int
    known: int
    structures: dict[str, int]
    states: dict[str, int]
    sources: dict[str, int]
    evidence: dict[str, int]
    refused: dict[str, int]
    skipped: dict[str, int]
    examples: tuple[str, ...]
    remarks: tuple[str, ...]
    unknown_labels: tuple[str, ...] = ()  # each once, with its count and what to do
    other_planes: tuple[dict[str, object], ...] = ()
    masks: tuple[dict[str, object], ...] = ()
    frames: int = 0  # accepted ones of the study
    frames_without_mask: int = 0  # of these, after the import

    def table(self) -> dict[str, object]:
        """The counts and messages for the terminal, without the lists of single masks."""
        count = "would be imported" if self.dry_run else "imported"
        bare = f"{self.frames_without_mask} of the {self.frames} accepted frames"
        own = {"dry_run", "imported", "known", "other_planes", "masks"}
        own |= {"frames", "frames_without_mask"}
        return {
            count: self.imported,
            "already_in_table": self.known or None,
            "without_a_mask": bare if self.frames_without_mask else None,
            **{name: value for name, value in vars(self).items() if name not in own},
        }

    def refuse_nothing(self) -> None:
        """Raise SonoError if no mask was imported, with the names that were searched for."""
        if not self.imported:
            reasons = ", ".join(
                f"{name} {count}" for name, count in {**self.refused, **self.skipped}.items()
            )
            shown = "; ".join((*self.examples, *self.unknown_labels)) or "it contains no mask"
            was = "would be" if self.dry_run else "was"
            raise SonoError(f"nothing {was} imported ({reasons or 'no mask'}): {shown}")

    def refuse_findings(self) -> None:
        """IssuesError (exit 3) when a mask was refused."""
        if self.refused:
            reasons = ", ".join(f"{name} {count}" for name, count in self.refused.items())
            raise IssuesError(
                f"--strict would import nothing, because masks are refused ({reasons}); see above"
            )


def summarize(
    new: pd.DataFrame,
    before: pd.DataFrame,
    outcomes: Sequence[Outcome],
    remarks: Sequence[str],
    other_planes: pd.DataFrame,
    dry_run: bool,
) -> ImportSummary:
    kept = [outcome for outcome in outcomes if outcome.reason is None]
    refused = [outcome for outcome in outcomes if outcome.reason not in (None, "skipped")]
    return ImportSummary(
        dry_run=dry_run,
        imported=len(new),
        known=int(new["mask_id"].isin(before["mask_id"]).sum()),
        structures=_counts(new["structure"]),
        states=_counts(new["state"]),
        sources=_counts(new["source"]),
        evidence=_counts(outcome.evidence for outcome in kept),
        refused=_counts(outcome.reason for outcome in refused),
        skipped=_counts(outcome.label for outcome in outcomes if outcome.reason == "skipped"),
        examples=_examples(refused, kept if dry_run else []),
        remarks=tuple(remarks),
        unknown_labels=_unknown_labels(refused),
        other_planes=tuple(rows_of(other_planes)),
        masks=tuple(outcome._asdict() for outcome in outcomes) if dry_run else (),
    )


def _examples(refused: Sequence[Outcome], kept: Sequence[Outcome]) -> tuple[str, ...]:
    """One line for each kind of evidence and each reason, then more refusals up to MAX_EXAMPLES.

    Names of other kinds come first: `a_12.png` and `a_13.png` differ in numbers alone. Unknown
    labels have a list of their own.
    """
    firsts = {outcome.evidence: outcome for outcome in reversed(kept)}
    refused = [outcome for outcome in refused if outcome.reason != "unknown_label"]
    reasons = {outcome.reason: outcome for outcome in reversed(refused)}
    kinds = {_kind(outcome): outcome for outcome in reversed(refused)}
    shown = {_kind(outcome) for outcome in reasons.values()}
    others = [outcome for kind, outcome in reversed(kinds.items()) if kind not in shown]
    first = [*reasons.values(), *others]
    more = [*others, *(outcome for outcome in refused if outcome not in first)]
    listed = [*firsts.values(), *reasons.values(), *more[: max(0, MAX_EXAMPLES - len(reasons))]]
    return tuple(outcome.text for outcome in listed)


def _kind(outcome: Outcome) -> tuple[str | None, str]:
    """The reason of a refusal, and what the name is without its numbers."""
    return outcome.reason, re.sub(r"\d+", "0", outcome.name)


def _unknown_labels(refused: Sequence[Outcome]) -> tuple[str, ...]:
    """One line for each label that is not a structure, the most frequent first."""
    unknown = [outcome for outcome in refused if outcome.reason == "unknown_label"]
    counts, details = (
        Counter(one.label for one in unknown),
        {one.label: one.detail for one in unknown},
    )
    lines = []
    listed = False  # the known structures, once
    for label, count in counts.most_common():
        problem, known, rest = details[label].partition("; known: ")
        if known and listed:
            rest = f".{rest[rest.index(' Name it') :]}"
        lines.append(f"'{label}' of {count} masks: {problem}{'' if listed else known}{rest}")
        listed = listed or bool(known)
    return tuple(lines)


def _counts(values: Any) -> dict[str, int]:
    return {str(name): count for name, count in sorted(Counter(map(str, values)).items())}
