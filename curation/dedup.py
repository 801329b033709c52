"""The `dedup` stage: find exact, near and flipped pairs of frames and what they cross."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.atomic import write_bytes
from sono.curation.core.drawing import contact_sheet
from sono.curation.core.errors import IssuesError, SonoError, counted
from sono.curation.core.frame_files import read_stored, stored_path
from sono.curation.core.geometry import letterbox
from sono.curation.core.tables import DUPLICATES, IMAGES, export_csv, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.hamming import NearPairs
from sono.curation.dataset.images_table import hashed_frames, link_near, picture_loader
from sono.curation.dataset.near_duplicates import (
    MIN_CORRELATION,
    candidate_pairs,
    correlations,
    hash_words,
)
from sono.curation.privacy.gate import check_privacy

if TYPE_CHECKING:
    from rich.console import Group

KINDS = ("exact", "near", "flipped")
CROSSED = {"patient": "patient_id", "plane": "plane", "center": "center", "split": "split"}
BOTH = ("source_id", "frame", "image_id", *CROSSED.values())  # of both frames of a pair
IMAGE_COLUMNS = (
    *BOTH, "status", "perceptual_hash", "duplicate_group", "duplicate_kind", "file",
    "crop_x0", "crop_y0", "crop_x1", "crop_y1", "source_height", "source_width",
)  # fmt: skip
SHEET_PAIRS, SHEET_COLUMNS, SHEET_SIDE = 24, 6, 200
EXAMPLES = 5


@dataclass(frozen=True)
class DedupSummary:
    """The result of one search for duplicates."""

    frames: int
    pairs: dict[str, int]
    # by kind: pairs of two known patients, planes, centers, splits
    crossings: dict[str, dict[str, int]]
    unconfirmed: int  # near by hash, but a frame is not stored here
    grouped: int  # frames that a confirmed near pair moved to another group
    crowded: int  # frames with so many partners that not all pairs are listed
    left_out: int  # skipped comparisons of very common hashes
    examples: tuple[str, ...]
    table: str

    def __rich__(self) -> "Group":
        """A table with one row per kind of pair, then the remarks."""
        from rich.console import Group
        from rich.table import Table

        table = Table(
            "pairs", "found", *(f"cross {name}" for name in CROSSED), box=None, pad_edge=False
        )
        for kind in KINDS:
            table.add_row(kind, *map(str, (self.pairs[kind], *self.crossings[kind].values())))
        return Group(table, *self.remarks(), f"all pairs: {self.table}")

    def remarks(self) -> list[str]:
        """Remarks that the counts do not show, and the first pairs that cross."""
        remarks = {
            f"{counted(self.unconfirmed, 'pair is', 'pairs are')}"
            " near by hash only: the frames are not stored here, "
            "so the pixels could not be compared": self.unconfirmed,
            f"{counted(self.grouped, 'frame')}"
            " moved to another duplicate group; run `sono split`": (self.grouped),
            f"{counted(self.crowded, 'frame has', 'frames have')}"
            " 20 or more partners; not all of these pairs are "
            "listed": self.crowded,
            f"comparisons of common hashes were skipped (up to {self.left_out})": self.left_out,
        }
        return [text for text, count in remarks.items() if count] + list(self.examples)

    def refuse_findings(self) -> None:
        """IssuesError (exit 3) where a pair crosses patients, centers or splits.

        Such a pair makes scores too high.
        """
        names = ("patient", "center", "split")
        patients, centers, splits = (
            sum(counts[name] for counts in self.crossings.values()) for name in names
        )
        if patients or centers or splits:
            raise IssuesError(
                f"pairs cross patients ({patients}), centers ({centers}) or splits ({splits}); "
                f"see {self.table}"
            )


def run_dedup(
    workspace: Workspace, csv: Path | None = None, sheet: Path | None = None, no_vault: bool = False
) -> DedupSummary:
    """Find the pairs of a study, group confirmed near ones, and write duplicates.parquet.

    `csv` is a file for the same table; `sheet` is a PNG that shows the most serious pairs. Raises
    PrivacyError if something private is found. Raises SonoError if `csv` or `sheet` is given but
    the vault is missing, so that nothing can be searched, unless `no_vault` is set.
    """
    header, png = ",".join(DUPLICATES.columns).encode(), b"\x89PNG"
    for target, start in ((csv, header), (sheet, png)):
        if target:
            workspace.require_vault(no_vault)
            workspace.check_output(target, start)
    with workspace.lock():
        images = workspace.images(IMAGE_COLUMNS)
        workspace.refuse_none_accepted(images)
        exact = _exact_pairs(images)
        crowd, mirrored = _candidates(images)
        places = hashed_frames(images)
        load = picture_loader(workspace, images, places)
        near = _confirmed(images, places, crowd, correlations(crowd, load))
        flipped = _confirmed(images, places, mirrored, correlations(mirrored, load, flipped=True))
        grouped = _group(workspace, images, near)
        table = pd.concat(
            [
                _duplicate_rows(images, *part)
                for part in ((exact, "exact"), (near, "near"), (flipped, "flipped"))
            ]
        )
        workspace.write(DUPLICATES, table)
    check_privacy(workspace)
    if csv:
        export_csv(csv, table.assign(crosses=table["crosses"].map(" ".join)))
    if sheet:
        write_bytes(sheet, _sheet(workspace, images, table))
    return DedupSummary(
        frames=len(images),
        pairs=_counts(table["kind"]),
        crossings={kind: _crossings(table[table["kind"] == kind]) for kind in KINDS},
        unconfirmed=int((table["correlation"].isna() & (table["kind"] != "exact")).sum()),
        grouped=grouped,
        crowded=crowd.crowded,
        left_out=crowd.left_out,
        examples=_examples(table),
        table=str(workspace.path(DUPLICATES)),
    )


def _exact_pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Each copy of a frame with the first frame of the same pixels: positions `first`, `second`."""
    kept = (images["status"] == "accepted") | (images["duplicate_kind"] == "exact").fillna(False)
    places = np.flatnonzero(kept & images["image_id"].notna())
    codes = pd.factorize(images["image_id"].iloc[places])[0]
    first = np.unique(codes, return_index=True)[1]
    copy = first[codes] != np.arange(len(codes))
    pairs = {"first": places[first[codes[copy]]], "second": places[copy]}
    return pd.DataFrame(pairs).assign(distance=0, correlation=1.0)


def _candidates(images: pd.DataFrame) -> tuple[NearPairs, NearPairs]:
    """Near and flipped pairs by hash, searched in two threads (numpy releases the GIL)."""
    words = hash_words(images["perceptual_hash"].iloc[hashed_frames(images)])
    with ThreadPoolExecutor(2) as pool:
        near, flipped = pool.map(
            lambda mirrored: candidate_pairs(words, flipped=mirrored), (False, True)
        )
    return near, flipped


def _confirmed(
    images: pd.DataFrame, places: NDArray[np.intp], pairs: NearPairs, found: NDArray[np.floating]
) -> pd.DataFrame:
    """The pairs whose pixels correlate, or whose frames are not stored here to be compared.

    `places` [N] are the rows of the compared frames, `found` [P] the correlations of `pairs`.
    """
    first, second = places[pairs.first], places[pairs.second]
    pixels = images["image_id"]
    twins = pixels.iloc[first].to_numpy(object) == pixels.iloc[second].to_numpy(object)
    kept = np.flatnonzero(~twins & ~(found < MIN_CORRELATION))
    columns = {"first": first, "second": second, "distance": pairs.distance, "correlation": found}
    return pd.DataFrame({name: values[kept] for name, values in columns.items()})


def _group(workspace: Workspace, images: pd.DataFrame, near: pd.DataFrame) -> int:
    """Put confirmed pairs that `qc` has not grouped into one group.

    Returns the number of frames that moved to another group.
    """
    sure = near[near["correlation"].notna()]
    one, other = (
        images["duplicate_group"].iloc[sure[end]].to_numpy(object) for end in ("first", "second")
    )
    fresh = sure[pd.isna(one) | pd.isna(other) | (one != other)]
    if fresh.empty:
        return 0
    table = workspace.images()
    changed = link_near(table, list(zip(fresh["first"], fresh["second"], strict=True)))
    workspace.write(IMAGES, table)
    return changed


def _duplicate_rows(images: pd.DataFrame, pairs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The pairs as rows of the duplicates table."""
    one, other = (
        images[list(BOTH)].iloc[pairs[end]].reset_index(drop=True) for end in ("first", "second")
    )
    differ = {
        name: (
            one[column].notna()
            & other[column].notna()
            & (one[column] != other[column]).fillna(False)
        ).to_numpy(bool)
        for name, column in CROSSED.items()
    }
    crosses = [
        [name for name, is_so in zip(differ, row, strict=True) if is_so]
        for row in zip(*differ.values(), strict=True)
    ]
    measured = (
        pairs[["distance", "correlation"]].reset_index(drop=True).astype({"distance": "Int32"})
    )
    table = pd.concat([one, other.add_prefix("other_"), measured], axis=1)
    return table.assign(kind=kind, crosses=pd.Series(crosses, index=table.index, dtype=object))[
        DUPLICATES.columns
    ]


def _counts(kinds: pd.Series) -> dict[str, int]:
    return {kind: int((kinds == kind).sum()) for kind in KINDS}


def _crossings(table: pd.DataFrame) -> dict[str, int]:
    counts = Counter(name for crossed in table["crosses"] for name in crossed)
    return {name: counts[name] for name in CROSSED}


def _most_serious_first(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs that cross a split first, then a patient, a plane, a center, then the others.

    Within each, the nearest pairs come first.
    """
    order = ("split", "patient", "plane", "center")
    grave = [
        min((order.index(name) for name in crossed), default=len(order))
        for crossed in table["crosses"]
    ]
    return table.assign(grave=grave).sort_values(
        ["grave", "distance", *DUPLICATES.key], kind="stable"
    )


def _examples(table: pd.DataFrame) -> tuple[str, ...]:
    """The most serious pairs as text, by their pseudonyms."""
    crossing = np.array(
        [bool({"patient", "center", "split"} & set(crossed)) for crossed in table["crosses"]], bool
    )
    return tuple(
        _format_pair(row) for row in rows_of(_most_serious_first(table[crossing]).head(EXAMPLES))
    )


def _format_pair(row: dict[str, Any]) -> str:
    one, other = (
        f"{row[end + 'source_id']} (patient {row[end + 'patient_id'] or 'unknown'}, "
        f"{row[end + 'split'] or 'no split'})"
        for end in ("", "other_")
    )
    return f"{row['kind']}, {row['distance']} bits: {one} and {other}"


def _sheet(workspace: Workspace, images: pd.DataFrame, table: pd.DataFrame) -> bytes:
    """A PNG of the most serious pairs, each pair side by side; flipped frames stay as stored."""
    stored = images[images["file"].notna()]
    paths = {
        image: stored_path(workspace, file)
        for image, file in zip(stored["image_id"], stored["file"], strict=True)
    }
    here = {image for image, path in paths.items() if path.is_file()}
    shown = table[
        (table["kind"] != "exact")
        & table["image_id"].isin(here)
        & table["other_image_id"].isin(here)
    ]
    if shown.empty:
        raise SonoError(
            f"{workspace.root}: no pair has both frames stored here, so there is nothing to draw"
        )
    tiles = []
    for row in rows_of(_most_serious_first(shown).head(SHEET_PAIRS)):
        one, other = (
            letterbox(read_stored(paths[row[name]]), SHEET_SIDE)
            for name in ("image_id", "other_image_id")
        )
        crossed = (
            f"crosses {', '.join(row['crosses'])}" if len(row["crosses"]) else "crosses nothing"
        )
        tiles += [
            (one, f"{row['kind']}, {row['distance']} bits, {row['correlation']:.2f}"),
            (other, crossed),
        ]
    return contact_sheet(tiles, SHEET_COLUMNS, SHEET_SIDE)
