"""Captions that a reviewer corrected or marked as wrong, and whether they still apply."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sono.annotation.caption_facts import Facts
from sono.annotation.caption_writer import Caption, CaptionWriter
from sono.curation.core.tables import rows_of

Row = Mapping[str, Any]
Place = tuple[str, str | None]  # image id, and mask id of a region caption
REVIEWED = ("state", "reviewer", "reviewed_at", "facts")  # columns that a reviewer's decision fills


@dataclass
class ReviewedCaptions:
    """What reviewers decided on the captions of an earlier build."""

    rows: dict[Place, Row]
    _changed: dict[Place, list[str]] = field(default_factory=dict)
    _met: set[Place] = field(default_factory=set)

    @classmethod
    def of(cls, captions: pd.DataFrame) -> "ReviewedCaptions":
        """The decisions in a captions table."""
        rows = rows_of(captions[captions["state"].notna()])
        return cls({place_of(row): row for row in rows})

    def caption(self, place: Place, facts: Facts, writer: CaptionWriter) -> Caption | None:
        """The caption that a reviewer decided on; None if there is none.

        It is outdated, and None, if a fact that it states has changed since.
        """
        row = self.rows.get(place)
        if row is None:
            return None
        self._met.add(place)
        known, now = json.loads(row["facts"] or "{}"), writer.values(facts)
        changed = [name for name, value in known.items() if now.get(name) != value]
        if changed:
            self._changed[place] = changed
            return None
        judged = writer.judge(str(row["text"]), facts)
        findings = () if row["state"] == "wrong" else judged.findings
        review = {name: row[name] for name in REVIEWED}
        return Caption(
            judged.text, judged.tier, judged.tokens, judged.fields, findings,
            judged.places if findings else (), shortened=False, review=review,
        )  # fmt: skip

    def outdated(self) -> tuple[str, ...]:
        """A line for each decision that no caption got, and why."""
        return tuple(
            f"{_name(place)}: the caption that {row['reviewer']} "
            f"{'corrected' if row['state'] == 'corrected' else 'marked as wrong'} is replaced, "
            + (
                f"because {', '.join(self._changed[place])} changed; review it again"
                if place in self._changed
                else "because its frame or mask is not used any more"
            )
            for place, row in self.rows.items()
            if place in self._changed or place not in self._met
        )


def corrected_row(
    row: Row, text: str, facts: Facts, writer: CaptionWriter
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A row of the captions table with another text, and what the caption lint finds in it."""
    judged = writer.judge(text, facts)
    made = {"tier": judged.tier, "tokens": judged.tokens, "fields": list(judged.fields)}
    return {**row, "text": text, **made}, judged.findings


def stated_facts(rows: Collection[Row], facts: Facts, writer: CaptionWriter) -> str:
    """JSON of the values of the fields that captions state."""
    values = writer.values(facts)
    names = sorted({name for row in rows for name in (row["fields"] or ())})
    return json.dumps({name: values.get(name) for name in names})


def place_of(row: Row) -> Place:
    """The frame and the mask of a caption."""
    return str(row["image_id"]), None if pd.isna(row["mask_id"]) else str(row["mask_id"])


def _name(place: Place) -> str:
    image_id, mask_id = place
    return f"frame {image_id}" + (f" mask {mask_id}" if mask_id else "")
