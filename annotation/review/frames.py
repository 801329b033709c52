"""The frames of a review: what is known of them, whether they are used, and their captions."""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sono.annotation.caption_facts import Facts, facts_of, listed_structures
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.captions import caption_writer, of_main_set
from sono.annotation.lint import FINDINGS
from sono.annotation.review.decisions import Row
from sono.annotation.review.queue import rows_at
from sono.annotation.reviewed_captions import Place, corrected_row, place_of, stated_facts
from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import EXCLUSIONS, REASONS, WITHDRAWABLE
from sono.curation.core.tables import CAPTIONS, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import Search, text_search
from sono.templates.caption_values import BIOMETRY

COLUMNS = (
    "image_id", "status", "file", "height", "width", "plane", "reasons", "region", "ga_days",
    "laterality", "presentation", "structures", "findings", "center", "machine", *BIOMETRY,
)  # fmt: skip
NO_VAULT = "decisions on frames need the study's vault, which is not here"


@dataclass
class Frames:
    """The accepted frames of a study, with what this review decided on them so far."""

    workspace: Workspace
    images: pd.DataFrame  # one row per frame
    captions: pd.DataFrame
    withdrawn: dict[str, list[str]]  # remarks that earlier reviews found wrong
    refusal: str = ""  # why frames cannot be excluded
    versions: Counter[str] = field(default_factory=Counter)
    _verdicts: dict[str, Row] = field(default_factory=dict)
    _captions: dict[Place, Row] = field(default_factory=dict)  # changed in this review
    # masks of structures by frame, more or fewer than at its start
    _changes: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, workspace: Workspace) -> "Frames":
        """Read the accepted frames; raises SonoError if there are none."""
        images = workspace.images([*COLUMNS])
        workspace.refuse_none_accepted(images)
        images = images[images["status"].to_numpy() == "accepted"].drop_duplicates("image_id")
        captions = workspace.read(CAPTIONS)
        if not workspace.has_vault():
            return cls(workspace, images, captions, {}, NO_VAULT)
        withdrawn = {
            str(row["picture"]).rpartition("-")[0]: list(row["withdrawn"])
            for row in rows_of(workspace.released())
            if row["withdrawn"] is not None
        }
        return cls(workspace, images, captions, withdrawn)

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each frame, by its id."""
        return {image_id: place for place, image_id in enumerate(self.images["image_id"].tolist())}

    def plane(self, image_id: str) -> str | None:
        """The plane that a frame is labeled with."""
        plane = self._planes[self.places[image_id]]
        return None if pd.isna(plane) else plane

    def path(self, image_id: str) -> Path:
        """The stored frame."""
        return self.workspace.root / str(self.images["file"].iat[self.places[image_id]])

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the stored frame."""
        row = self.images.iloc[self.places[image_id]]
        return int(row["height"]), int(row["width"])

    def masked(self, image_id: str) -> set[str]:
        """The structures of the masks of a frame that are not rejected."""
        found = Counter(self._masks.get(image_id, {}))
        found.update(self._changes.get(image_id, {}))
        return set(+found)

    def mask_rows(self, image_id: str) -> list[dict[str, Any]]:
        """The rows of the masks of a frame, as they were at the start of the review."""
        places = self._mask_places.get(image_id)
        return rows_at(self._mask_arrow, places) if places else []

    def keep_mask(self, before: Row, after: Row) -> None:
        """Note a decision on a mask that the log has."""
        found = self._changes.setdefault(str(after["image_id"]), Counter())
        for row, change in ((before, -1), (after, 1)):
            if row["area"] and row["state"] != "rejected":
                found[str(row["structure"])] += change

    def excluded(self) -> list[str]:
        """The frames that this review excluded."""
        return [image_id for image_id, one in self._verdicts.items() if one["excluded"]]

    def verdict(self, image_id: str) -> Row:
        """The decision on a frame so far."""
        none = {"excluded": None, "reviewer": None, "reviewed_at": None}
        start = {"image_id": image_id, **none, "withdrawn": self.withdrawn.get(image_id, [])}
        return self._verdicts.get(image_id, start)

    def judged(self, image_id: str, excluded: str | None, withdrawn: Collection[str]) -> Row:
        """The decision on a frame: why it is excluded, if it is, and which remarks are wrong."""
        if self.refusal:
            raise SonoError(self.refusal)
        if excluded is not None and excluded not in EXCLUSIONS:
            raise SonoError(f"'{excluded}': no reason to exclude a frame; choose one of the list")
        unknown = set(withdrawn) - set(self.remarks(image_id)) | set(withdrawn) - set(WITHDRAWABLE)
        if unknown:
            raise SonoError(f"{', '.join(sorted(unknown))}: no remark on this frame to withdraw")
        return {**self.verdict(image_id), "excluded": excluded, "withdrawn": sorted(withdrawn)}

    def remarks(self, image_id: str) -> list[str]:
        """The codes of a frame, with those that were found wrong."""
        known: Any = self.images["reasons"].iat[self.places[image_id]]
        codes = () if known is None else known
        return list(dict.fromkeys([*codes, *self.withdrawn.get(image_id, ())]))

    def keep_verdict(self, image_id: str, verdict: Row) -> None:
        """Note a decision that the log has."""
        self._verdicts[image_id] = verdict
        self.versions[image_id] += 1

    def shown(self, image_id: str, captions: Collection[Row]) -> dict[str, Any]:
        """What the page shows of a frame."""
        verdict = self.verdict(image_id)
        return {
            "version": self.versions[image_id],
            "excluded": verdict["excluded"],
            "refusal": self.refusal,
            "remarks": [
                {
                    "code": code,
                    "meaning": REASONS[code].meaning,
                    "wrong": code in verdict["withdrawn"],
                    "fixed": code not in WITHDRAWABLE,
                }
                for code in self.remarks(image_id)
            ],
            "captions": [
                {"level": row["level"], "text": row["text"], "state": row["state"]}
                for row in captions
            ],
        }

    def caption(self, place: Place) -> Row | None:
        """The caption of a frame or mask, if there is one."""
        if place in self._captions:
            return self._captions[place]
        number = self._caption_rows.get(place)
        if number is None:
            return None
        return rows_at(self._caption_arrow, [number])[0]

    def keep_caption(self, row: Row) -> None:
        """Note a decision on a caption that the log has."""
        self._captions[place_of(row)] = row
        self.versions[str(row["image_id"])] += 1

    def corrected(self, row: Row, structure: str | None, text: str) -> dict[str, Any]:
        """The caption `row` of a frame, or of a mask of `structure`, with another text.

        Raises SonoError, which says why, if the text breaks a rule of captions or is private.
        """
        if self.search is not None:
            places = (("captions.parquet", "column 'text'"), ("reviews.jsonl", ""))
            if any(self.search.found_at(Path(name), where, text) for name, where in places):
                raise SonoError(
                    "the text has a private string of the study (a name, an id or a date); leave "
                    "it out, or add a word that is not secret to public_words under [study] in "
                    "sono.toml"
                )
        facts = self._facts(row, structure)
        made, findings = corrected_row(row, text, facts, self.writer)
        if findings:
            said = "; ".join(f"{code}, {FINDINGS[code]}" for code in findings)
            raise SonoError(f"not a caption: {said}")
        return {
            **made,
            "state": "corrected",
            "facts": stated_facts([row, made], facts, self.writer),
        }

    def marked(self, row: Row, structure: str | None) -> dict[str, Any]:
        """The caption `row` marked as wrong."""
        return {
            **row,
            "state": "wrong",
            "facts": stated_facts([row], self._facts(row, structure), self.writer),
        }

    def _facts(self, row: Row, structure: str | None) -> Facts:
        image_id, _ = place_of(row)
        images = self.images.iloc[[self.places[image_id]]]
        _, facts = next(facts_of(images))
        structures = listed_structures(
            facts.plane, facts.structures, self.masked(image_id), self.writer.rules.planes
        )
        return facts._replace(structures=structures, structure=structure)

    @cached_property
    def writer(self) -> CaptionWriter:
        """The rules of captions; made when it is asked for first."""
        return caption_writer(self.workspace, self.images)

    @cached_property
    def search(self) -> Search | None:
        """The search for private strings in a text."""
        return text_search(self.workspace)

    def warm(self) -> None:
        """Load what a correction needs, if there are captions to correct."""
        if len(self.captions):
            with suppress(SonoError):  # is raised again where it is needed
                _ = self.writer, self.search, self._masks, self._caption_rows

    @cached_property
    def _masks(self) -> dict[str, Counter[str]]:
        """The masks of each frame that were not rejected, counted by structure."""
        masks = self.workspace.read(MASKS, ["image_id", "structure", "state"])
        found: dict[str, Counter[str]] = {}
        columns = (masks[name].tolist() for name in masks.columns)
        for image_id, structure, state in zip(*columns, strict=True):
            if state != "rejected":
                found.setdefault(image_id, Counter())[structure] += 1
        return found

    @cached_property
    def _mask_arrow(self) -> pa.Table:
        return pa.Table.from_pandas(self.workspace.read(MASKS), preserve_index=False)

    @cached_property
    def _mask_places(self) -> dict[str, list[int]]:
        """The rows of the masks of each frame."""
        found: dict[str, list[int]] = {}
        for place, image_id in enumerate(self._mask_arrow["image_id"].to_pylist()):
            found.setdefault(image_id, []).append(place)
        return found

    @cached_property
    def _planes(self) -> list[str]:
        return self.images["plane"].tolist()

    @cached_property
    def _caption_arrow(self) -> pa.Table:
        return pa.Table.from_pandas(self.captions, preserve_index=False)

    @cached_property
    def _caption_rows(self) -> dict[Place, int]:
        """The row of each caption; of several template sets, that of the main one."""
        masks = self.captions["mask_id"].astype(object)
        columns = (self.captions["image_id"].tolist(), masks.where(masks.notna(), None))
        places = list(zip(*columns, strict=True))
        main = of_main_set(self.workspace, self.captions)
        order = main.to_numpy().argsort(kind="stable")  # the main set last
        return {places[row]: row for row in order.tolist()}
