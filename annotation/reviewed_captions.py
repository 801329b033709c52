"""Captions that a reviewer corrected or marked as wrong, and whether they still apply."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
    """What reviewers decided on the captions of an earlier build, by place and template set.

    `sets` are the names of the sets in use; the first one keeps decisions on captions of others.
    """

    rows: dict[tuple[Place, str], Row]
    sets: Sequence[str] = ()
    _used: set[tuple[Place, str]] = field(default_factory=set)
    _changed: dict[tuple[Place, str], list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, captions: pd.DataFrame, sets: Sequence[str] = ()) -> "ReviewedCaptions":
        """The decisions in a captions table."""
        rows = rows_of(captions[captions["state"].notna()])
        return cls({(place_of(row), set_of(row)): row for row in rows}, sets)

    def caption(self, place: Place, facts: Facts, writer: CaptionWriter) -> Caption | None:
        """The caption of the writer's set that a reviewer decided on; None if there is none.

        It is outdated, and None, if a fact that it states has changed since.
        """
        if not self.rows:
            return None
        key = self._key(place, writer.templates.name)
        row = self.rows.get(key)
        if row is None:
            return None
        self._used.add(key)
        known, now = json.loads(row["facts"] or "{}"), writer.values(facts)
        changed = [name for name, value in known.items() if now.get(name) != value]
        if changed:
            self._changed[key] = changed
            return None
        judged = writer.judge(str(row["text"]), facts)
        findings = () if row["state"] == "wrong" else judged.findings
        review = {name: row[name] for name in REVIEWED}
        return Caption(
            judged.text, judged.tier, judged.tokens, judged.fields, findings,
            judged.places if findings else (), shortened=False, review=review,
        )  # fmt: skip

    def _key(self, place: Place, name: str) -> tuple[Place, str]:
        """The decision on a set's caption; that of a set which is not in use, if it is the main."""
        if (place, name) in self.rows or (self.sets and name != self.sets[0]):
            return place, name
        others = (key for key in self._by_place.get(place, ()) if key[1] not in self.sets)
        return next(others, (place, name))

    @cached_property
    def _by_place(self) -> dict[Place, list[tuple[Place, str]]]:
        found: dict[Place, list[tuple[Place, str]]] = {}
        # a corrected text first
        for key in sorted(self.rows, key=lambda key: str(self.rows[key]["state"])):
            found.setdefault(key[0], []).append(key)
        return found

    def outdated(self) -> tuple[str, ...]:
        """A line for each decision that does not apply any more, and why."""
        kept = {place for place, _ in self._used - self._changed.keys()}
        return tuple(
            f"{_name(key[0])}: the caption that {row['reviewer']} "
            f"{'corrected' if row['state'] == 'corrected' else 'marked as wrong'} is replaced, "
            + (
                f"because {', '.join(self._changed[key])} changed; review it again"
                if key in self._changed
                else "because its frame or mask is not used any more"
            )
            for key, row in self.rows.items()
            if key in self._changed or (key not in self._used and key[0] not in kept)
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


def set_of(row: Row) -> str:
    """The name of the template set that wrote a caption."""
    return str(row["template"]).rpartition("-")[0]


def _name(place: Place) -> str:
    image_id, mask_id = place
    return f"frame {image_id}" + (f" mask {mask_id}" if mask_id else "")
