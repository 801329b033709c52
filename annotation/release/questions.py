"""Questions that readers of a data set ask, and where sono has the answers."""

from collections.abc import Iterator

from sono.annotation.release.card_config import CardConfig
from sono.curation.core.errors import counted
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.statistics import Statistics

NOT_STATED = "not stated"

# the key of `[card]`, and the question that it answers
ASKED = {
    "purpose": "For what purpose was the data set made?",
    "authors": "Who made it?",
    "funding": "Who funded it?",
    "ethics": "Which ethics committee approved it?",
    "consent": "Did the patients consent, or was consent waived?",
    "period": "In which period were the examinations?",
    "collection": "How were patients and frames chosen?",
    "labels": "Who named the planes, and how?",
    "annotators": "Who drew and reviewed the masks, with which experience?",
    "annotation": "Which instructions did they have?",
    "biases": "Which biases are known?",
    "limitations": "Which limitations are known?",
    "uses": "What should it be used for?",
    "not_for": "What should it not be used for?",
    "impact": "Which effects on people were considered?",
    "license": "Under which license is it given?",
    "duo": "Which terms of the Data Use Ontology hold?",
    "published": "When was it published?",
    "citation": "How is it cited?",
    "contact": "Whom can one ask?",
    "maintenance": "Who keeps it, and how are errors reported?",
}


def stated(config: CardConfig, key: str) -> str:
    """What a study says under a key of `[card]`."""
    value = getattr(config, key)
    return (", ".join(value) if isinstance(value, tuple) else value) or NOT_STATED


def answers(
    config: CardConfig, stats: Statistics, workspace: Workspace
) -> Iterator[tuple[str, str]]:
    """Every question with its answer: counted, stated by the study, or not stated."""
    frames, masks = stats.frames, stats.mask_totals
    yield "What is an instance?", "an ultrasound frame with its captions, facts and masks"
    yield (
        "How many are there?",
        f"{counted(frames['accepted'], 'frame')} of {frames['frames']} read",
    )
    yield (
        "How many patients, centers and machines?",
        f"{frames['patients'] or 'unknown'}, {frames['centers'] or 'unknown'}, "
        f"{frames['machines'] or 'unknown'}",
    )
    yield "Is anything missing from instances?", _missing(stats)
    remarks = int((stats.reasons["status"] == "accepted").sum())
    yield (
        "Are there errors, noise or redundancies?",
        f"{counted(stats.duplicates['near'], 'frame')} nearly equal another one; "
        f"{counted(remarks, 'code')} of remarks on quality in the column `reasons`",
    )
    yield (
        "Were inclusion and exclusion criteria applied by rules?",
        "yes, by the reasons in the table above; their thresholds are in `sono.toml`",
    )
    yield (
        "Does it relate instances of one patient?",
        "yes, by a pseudonym" if frames["patients"] else "no, no patient is recorded",
    )
    yield (
        "Are there recommended splits?",
        "yes, by patient" if len(stats.split) > 1 else "no",
    )
    yield (
        "Were raw data kept?",
        "not in this data set; raw files stay where they were, and their paths in the vault",
    )
    yield (
        "How many masks are accepted or edited? (Imported ones count as accepted.)",
        f"{masks['accepted'] + masks['edited']} of {masks['usable']}",
    )
    yield (
        "Which software made it?",
        f"sono; its settings are in `sono.toml`, check of the key {workspace.study().key_check}",
    )
    for key, question in ASKED.items():
        yield question, stated(config, key)


def _missing(stats: Statistics) -> str:
    accepted = stats.frames["accepted"]
    plane = int(stats.center["with_plane"].sum())
    age = int(stats.center["with_ga"].sum())
    masks = stats.mask_totals["frames_with_masks"]
    return (
        f"{accepted - plane} frames have no plane, {accepted - age} no gestational age, "
        f"{accepted - masks} no mask"
    )
