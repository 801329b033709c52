"""The data card: what is in a data set, where it comes from, and what is not known about it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sono import __version__
from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.questions import ASKED, NOT_STATED, answers
from sono.annotation.release.records import SPLIT_NAMES
from sono.annotation.release.samples import SampleSet, held_out_centers
from sono.annotation.review.quality import review_report
from sono.curation.core.column_values import MASK_STATES, SPLITS
from sono.curation.core.errors import counted
from sono.curation.core.markdown import markdown_table
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.statistics import (
    IMAGE_COLUMNS,
    UNSPLIT,
    Statistics,
    compute_statistics,
)
from sono.curation.imaging.quality import QualityConfig
from sono.templates.reports import items_answered_by


def study_statistics(workspace: Workspace) -> Statistics:
    """The counts of a study, as `sono stats` shows them."""
    return compute_statistics(
        workspace.images(IMAGE_COLUMNS),
        workspace.masks(),
        workspace.read(CAPTIONS),
        workspace.planes(),
    )


def card_text(workspace: Workspace, stats: Statistics, found: SampleSet | None = None) -> str:
    """The card of a study with these counts in Markdown; with `found`, that of an export."""
    config = workspace.settings("card", CardConfig)
    title = config.title or workspace.study().name
    items = {question: items_answered_by(key) for key, question in ASKED.items()}
    parts = [
        f"# {title}",
        config.description or _summary(stats),
        *([] if found is None else [_contents(found)]),
        "## From input to data set",
        _flow(stats),
        "## Frames and patients",
        _frames(stats, workspace.planes()),
        "## De-identification",
        _privacy(workspace),
        "## Masks",
        _masks(stats, review_report(workspace)),
        "## Captions",
        _captions(stats),
        "## Splits",
        _splits(stats),
        _held_out(held_out_centers(workspace), found),
        "## Questions of a reader",
        "From Datasheets for Datasets and the items of CLAIM 2024, TRIPOD+AI and STARD-AI. What no "
        f"file of a study shows is `[card]` in its `sono.toml`; there it says {NOT_STATED!r}.",
        markdown_table(
            ("question", "answer", "items"),
            [
                (question, text, items.get(question, ""))
                for question, text in answers(config, stats, workspace)
            ],
        ),
        f"Made by sono {__version__}. Not a medical device.",
    ]
    return "\n\n".join(parts) + "\n"


def header(
    config: CardConfig,
    found: SampleSet,
    files: Mapping[str, str],
    features: Sequence[dict[str, Any]] = (),
) -> str:
    """The YAML at the head of a card on Hugging Face; `files` are patterns by split.

    `features` are the types of a sample where the files do not hold them.
    """
    size = len(found.samples)
    limits = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    category = next((name for limit, name in limits if size < limit), "100K<n<1M")
    values: dict[str, Any] = {
        "license": "other" if not config.license else config.license.lower(),
        "task_categories": ["zero-shot-image-classification", "image-segmentation"],
        "tags": ["medical", "ultrasound", "fetal"],
        "size_categories": [category if size < 10**6 else "n>1M"],
    }
    if files:
        paths = [{"split": split, "path": path} for split, path in files.items()]
        values["configs"] = [{"config_name": "default", "data_files": paths}]
    if features:
        values["dataset_info"] = {"features": list(features)}
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n\n"


def _summary(stats: Statistics) -> str:
    frames = stats.frames
    return (
        f"{counted(frames['accepted'], 'fetal ultrasound frame')} of "
        f"{counted(frames['patients'], 'patient')}, "
        f"{counted(frames['centers'], 'center')} and {counted(frames['machines'], 'machine')}, "
        "with captions from record fields and masks of structures."
    )


def _contents(found: SampleSet) -> str:
    rows = []
    for split in found.splits:
        own = found.of(split)
        rows.append((
            SPLIT_NAMES[split], len(own),
            len({one.facts["patient_id"] for one in own} - {None}),
            sum(len(one.captions) for one in own), sum(len(one.regions) for one in own),
        ))  # fmt: skip
    return markdown_table(("split", "frames", "patients", "frame captions", "masks"), rows)


def _flow(stats: Statistics) -> str:
    total = stats.frames["frames"]
    rows: list[tuple[object, ...]] = [
        ("read", total, f"from {counted(stats.frames['files'], 'file')}")
    ]
    rows += [
        (f"{row['status']}: `{row['code']}`", -row["frames"], row["meaning"])
        for row in stats.exclusions.to_dict("records")
    ]
    rows.append(("accepted", stats.frames["accepted"], ""))
    note = "Each frame that is not accepted counts once, under its most serious reason."
    return f"{markdown_table(('step', 'frames', 'why'), rows)}\n\n{note}"


def _frames(stats: Statistics, planes: PlaneTable) -> str:
    splits = [name for name in (*SPLITS, UNSPLIT) if stats.plane[name].sum()]
    shown = stats.plane[stats.plane["frames"] > 0]
    columns = ["name", "region", "frames", "patients", *splits]
    by_plane = markdown_table(
        ("plane", *columns[1:]), shown[columns].fillna("").itertuples(index=False, name=None)
    )
    by_center = markdown_table(
        ("center", "read", "accepted", "patients", "machines", "with plane", "with age"),
        stats.center.itertuples(index=False, name=None),
    )
    by_machine = markdown_table(
        ("machine", "read", "accepted", "patients"),
        stats.machine.itertuples(index=False, name=None),
    )
    ages = "Gestational age is not known for any frame."
    if stats.ga["known"]:
        ages = (
            f"Gestational age is known for {counted(int(stats.ga['known']), 'frame')} and missing "
            f"for {int(stats.ga['missing'] or 0)}: {stats.age_range}."
        )
    spread = stats.frames_per_patient
    patients = "No patient is recorded."
    if spread["count"]:
        patients = f"Frames per patient: median {spread['median']:g}, at most {spread['max']:g}."
    return "\n\n".join((by_plane, by_center, by_machine, ages, patients))


def _privacy(workspace: Workspace) -> str:
    how = {
        "detector": "by a text detector, which reads it; names, dates and ids hold a frame back",
        "rules": "by the shape of strokes, without reading it",
        "off": "not searched, so printed names may be left",
    }[workspace.settings("qc", QualityConfig).text]
    dates = {
        "none": "Dates are left out.",
        "shifted": "Dates of examinations are shifted by a secret number of days for each patient.",
    }[workspace.study().keep_dates]
    return (
        "Frames are stored as new PNG files of gray pixels, cropped to the ultrasound sector and "
        "black outside it; no tag of a source file is copied. Patients, studies and files have "
        "pseudonyms made with a secret key, which stays in the hospital. "
        f"{dates} Text on the tissue was searched {how}. Every file of this export was searched "
        "for the names, ids and dates of the records and of the source files.\n\n"
        "Limits: the search finds what records and files contain, not names that occur in neither. "
        "On planted names the text detector finds 98 of 100 upright lines and 94 of 100 turned "
        "ones, so a frame may still show text. Ultrasound of a face, rare findings and exact ages "
        "can make a person recognizable to somebody who knows them."
    )


def _masks(stats: Statistics, reviews: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if stats.masks.empty:
        return "No masks."
    parts = [
        markdown_table(
            ("structure", "source", *MASK_STATES),
            stats.masks[["structure", "source", *MASK_STATES]].itertuples(index=False, name=None),
        )
    ]
    rows = [
        (
            row["reviewer"],
            row["kept"],
            row["rejected"],
            row["drawn"],
            NOT_STATED if row["unchanged"] is None else f"{row['unchanged']:.0%}",
            row["planted_text"] or "no wrong mask was shown as a check",
        )
        for row in reviews.get("reviewers", ())
    ]
    if rows:
        titles = ("reviewer", "kept", "rejected", "drawn", "kept unchanged", "false accepts")
        parts.append(markdown_table(titles, rows))
    parts += [f"{row['structure']}: {row['text']}." for row in reviews.get("agreement", ())]
    if not rows:
        parts.append("No mask was reviewed with `sono masks review`.")
    return "\n\n".join(parts)


def _captions(stats: Statistics) -> str:
    if stats.captions.empty:
        return "No captions."
    columns = ["template", "level", "full", "partial", "label"]
    rows = stats.captions[columns].itertuples(index=False, name=None)
    tokens, corrected = stats.caption_tokens, stats.caption_reviews["corrected"]
    by_hand = f"; reviewers corrected the text of {corrected}" if corrected else ""
    return (
        f"Written by templates from fields of the records, never from free text{by_hand}. A full "
        "caption names plane, age and structures, a partial one two of them.\n\n"
        f"{markdown_table(('template set', 'level', 'full', 'partial', 'label only'), rows)}\n\n"
        f"Length in tokens: median {tokens['median']:g}, at most {tokens['max']:g}."
    )


def _held_out(centers: Sequence[str], found: SampleSet | None) -> str:
    if not centers:
        return (
            "`[training] hold_out` of the study names no center, so no frame is marked as held out "
            "of training. A run may hold out a center by its own options; its card says which."
        )
    count = sum(bool(sample.held_out) for sample in found.samples) if found else 0
    marked = f" {counted(count, 'frame is', 'frames are')} marked in `held_out`:" if found else ""
    return (
        f"Held out of training: {', '.join(centers)}.{marked} the frames of such a center, those "
        "without a center, and those that share a patient, an exam or a duplicate with it. They "
        "keep their splits."
    )


def _splits(stats: Statistics) -> str:
    rows = stats.split[["split", "frames", "patients"]].itertuples(index=False, name=None)
    leaks = stats.leaks
    shared = "No patient and no group of duplicates is in more than one split."
    if leaks["patients"] or leaks["duplicate_groups"]:
        shared = (
            f"{counted(leaks['patients'], 'patient is', 'patients are')} and "
            f"{counted(leaks['duplicate_groups'], 'group')} of duplicates in more than one split: "
            "do not trust results on these splits."
        )
    return f"{markdown_table(('split', 'frames', 'patients'), rows)}\n\n{shared}"
