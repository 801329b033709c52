"""What a reviewer asks about a model: answered from the run, stated by the study, or not stated.

The items of CLAIM 2024, TRIPOD+AI and STARD-AI each lead to one of these questions, or no tool can
know the answer, or they do not apply (templates/reports/guidelines.toml).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.questions import ASKED, NOT_STATED, stated
from sono.curation.core.errors import counted
from sono.evaluation.run_facts import RunFacts, started_from
from sono.templates.reports import guidelines

NOT_MEASURED = "not measured"
BEST_SCORE = (
    "highest Top-1 macro on validation frames, the mean of planes and of region naming where both "
    "were measured"
)
BY_PEOPLE = "`[card]` of sono.toml"
DATA_CARD = "../../README.md (`sono card`)"
STUDY_REPORT = "../../report.html (`sono stats`)"
# keys of `[card]` that concern the model, too
STATED = (
    "purpose", "period", "collection", "ethics", "consent", "labels", "annotators", "biases",
    "limitations", "uses", "not_for", "impact", "funding", "license", "contact", "citation",
)  # fmt: skip
ANSWERED, OPEN, FOR_PEOPLE, UNKNOWN, NOT_APPLICABLE = (
    "answered", "open", "for people", "unknown to the tool", "not applicable",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A question with its answer, and the file that shows it."""

    key: str
    question: str
    text: str
    where: str = ""

    @property
    def is_given(self) -> bool:
        """Whether there is an answer."""
        return self.text not in (NOT_STATED, NOT_MEASURED)


@dataclass(frozen=True)
class Item:
    """An item of a guideline with its state, and the answer or the reason for having none."""

    guideline: str
    number: str
    subject: str
    state: str
    text: str
    where: str = ""

    @property
    def is_knowable(self) -> bool:
        """Whether a tool can know the answer."""
        return self.state in (ANSWERED, OPEN) and self.where != BY_PEOPLE


def checklist(asked: Sequence[Answer]) -> list[Item]:
    """Every item of the guidelines once."""
    answers_by_key = {one.key: one for one in asked}
    return [
        _item(guideline, number, subject, key, answers_by_key)
        for guideline, items in guidelines().items()
        for number, (subject, key) in items.items()
    ]


def _item(guideline: str, number: str, subject: str, key: str, known: Mapping[str, Answer]) -> Item:
    if key == "paper":
        return Item(guideline, number, subject, UNKNOWN, "belongs in the paper")
    if key.startswith("none: "):
        return Item(guideline, number, subject, NOT_APPLICABLE, key.removeprefix("none: "))
    one = known[key]
    missing = FOR_PEOPLE if one.where == BY_PEOPLE else OPEN
    state = ANSWERED if one.is_given else missing
    return Item(guideline, number, subject, state, one.text, one.where)


def answers(facts: RunFacts, config: CardConfig) -> Iterator[Answer]:
    """Every question with its answer."""
    yield from _data(facts)
    yield from _partitions(facts)
    yield from _training(facts)
    yield from _use(facts)
    yield from _evaluation(facts)
    for key in STATED:
        yield Answer(key, ASKED[key], stated(config, key), BY_PEOPLE)


def _data(facts: RunFacts) -> Iterator[Answer]:
    info = facts.info
    yield Answer(
        "source",
        "Where do the data come from?",
        f"centers {', '.join(info.centers_seen)}" if info.centers_seen else NOT_STATED,
        DATA_CARD,
    )
    yield Answer(
        "excluded",
        "Which patients and frames were left out, and why?",
        ", ".join(f"{count} {reason}" for reason, count in info.left_out.items())
        or "none of the accepted frames",
        f"{DATA_CARD}, {STUDY_REPORT}",
    )
    yield Answer(
        "preparation",
        "How were frames prepared?",
        "cropped to the sector, printed text painted over, letterboxed to a square, pixels scaled "
        "by one mean and standard deviation",
        "docs/geometry.md, docs/reasons.md",
    )
    yield Answer(
        "deidentification",
        "How were they de-identified?",
        "names, dates and tags removed and searched for",
        DATA_CARD,
    )
    yield Answer(
        "missing",
        "How were missing data treated?",
        "a frame without a plane is not used; a caption leaves out what is not recorded",
        "docs/records.md",
    )
    yield Answer(
        "devices", "Which machines took the frames?", facts.machines or NOT_STATED, DATA_CARD
    )


def _partitions(facts: RunFacts) -> Iterator[Answer]:
    info = facts.info
    orphans = sum(info.without_patient.values())
    yield Answer(
        "assignment",
        "How were frames assigned to partitions?",
        "drawn by patient, or as a published table has them; held-out centers: "
        f"{', '.join(info.held_out) or 'none'}",
        "docs/splits.md, run.json",
    )
    yield Answer(
        "disjoint",
        "At which level are the partitions disjoint?",
        "patients and near duplicates"
        + (
            f"; {counted(orphans, 'frame')} without patient id count as patients of their own"
            if orphans
            else ""
        ),
        "docs/splits.md",
    )
    yield Answer(
        "size",
        "How large is the training set?",
        f"{counted(sum(info.planes_seen.values()), 'frame')}; patients with validation: "
        f"{len(info.patients_seen) or 'unknown'}",
        "run.json",
    )
    yield Answer(
        "traits",
        "What are the ages and other traits in each partition?",
        "in the table of partitions above",
        "this card",
    )


def _training(facts: RunFacts) -> Iterator[Answer]:
    info, config = facts.info, facts.info.config
    yield Answer(
        "model",
        "What is the model, with inputs and outputs?",
        f"{config.get('model', 'an imported model')} with a mask channel; a frame and a mask in, a "
        "feature out, which is compared with texts",
        "docs/models.md",
    )
    yield Answer(
        "software",
        "Which software was used?",
        ", ".join(f"{name} {value}" for name, value in sorted(info.environment.items()) if name in (
            "sono", "torch", "open_clip_torch", "timm", "numpy", "python"))
        or NOT_STATED,
        "run.json",
    )  # fmt: skip
    yield Answer(
        "start",
        "How were weights initialized?",
        started_from(info),
        "run.json",
    )
    yield Answer(
        "training",
        "How was it trained?",
        "all settings and the seed are stored",
        "run.json, log.csv, docs/training.md",
    )
    yield Answer(
        "imbalance",
        "How were rare planes treated?",
        f"drawn more often: frames per plane to the power of {1 - config['plane_balance']:g}"
        if config.get("plane_balance")
        else "like all others",
        "run.json",
    )
    yield Answer(
        "final",
        "How was the final model chosen?",
        f"by the {BEST_SCORE}"
        if facts.checkpoint.name == "best"
        else "the last state of the training",
        "summary.json",
    )
    yield Answer("ensembles", "Were models combined?", "no", "run.json")


def _use(facts: RunFacts) -> Iterator[Answer]:
    name = facts.info.name
    yield Answer(
        "output",
        "What does it answer, and when does it not?",
        "a probability of every plane; the highest is the answer, without a cut-off; a tie counts "
        "as wrong; there is no answer 'none of these'",
        "docs/evaluation.md",
    )
    yield Answer(
        "predictions",
        "How are predictions calculated?",
        "cosines of the frame with the prompts of the planes, softmax",
        f"`sono predict --run {name}`",
    )
    yield Answer(
        "blinding",
        "What does it know besides the frame?",
        "nothing: pixels and, if given, a mask; printed text outside the sector is painted over",
        "docs/geometry.md",
    )
    yield Answer(
        "input",
        "What happens to poor input?",
        "files that cannot be used are refused with a reason, doubtful ones have remarks",
        "docs/reasons.md",
    )
    yield Answer(
        "interaction", "What must a user do?", "give a file; a mask is optional", "docs/models.md"
    )
    yield Answer(
        "updating",
        "Does it update itself while it is used?",
        "no; an evaluation fits the temperature of the probabilities again",
        "calibration.json of the checkpoint",
    )
    yield Answer(
        "fairness",
        "Which methods make it fair?",
        "none in training; answers are scored by the mother's BMI and parity if recorded",
        "docs/evaluation.md",
    )
    yield Answer(
        "code", "Where are code and model?", "sono; the checkpoint is in this folder", "model.json"
    )


def _evaluation(facts: RunFacts) -> Iterator[Answer]:
    found = facts.evaluations
    reports = ", ".join(f"[{name}](eval/{address_of(name)}/report.html)" for name in found)
    inside = [name for name, metrics in found.items() if not metrics.get("center")]
    outside = [
        name for name, one in found.items() if one.get("center") and not one.get("center_seen")
    ]
    measured = {
        "measures": (
            "Which measures of performance are given?",
            "Top-1 and Top-5, macro and micro, F1, recall, calibration error, Brier score",
        ),
        "results": ("What are they?", "in the table of results above, and for each plane"),
        "uncertainty": (
            "How is uncertainty given?",
            "95 % intervals over patients: Wilson's for shares, the bootstrap for the rest",
        ),
        "controls": (
            "Are controls and baselines given?",
            "constant answers, masks of other frames, chance",
        ),
        "failures": ("Where does it fail?", "recall of each plane, hardest frames, worst groups"),
        "crosstable": (
            "Which planes are confused?",
            "confusion matrix, and tables/confusion_*.csv",
        ),
        "robustness": (
            "Does it depend on prompts or calipers?",
            "each prompt alone, with the worst; painted calipers",
        ),
        "outputs": ("Are the answers stored?", "predictions.parquet next to the report"),
    }
    by_report = {
        "groups": ("Which group of patients or machines is worst?", _each(found, _worst)),
        "calibration": ("How well is it calibrated?", _each(found, _calibration)),
        "refusal": ("How does it treat frames of no plane?", _each(found, _refusal)),
        "steering": ("Can its answers be explained?", _each(found, _steering)),
        "internal": ("Was it tested on other patients of the same centers?", _listed(inside)),
        "external": ("Was it tested on a center that it has not seen?", _listed(outside)),
    }
    for key, (question, text) in measured.items():
        yield Answer(key, question, text if found else NOT_MEASURED, reports)
    for key, (question, text) in by_report.items():
        yield Answer(key, question, text, reports)


def address_of(name: str) -> str:
    """The folder `name` in a link, where a % is a part of the name itself."""
    return quote(name, safe="()")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or NOT_MEASURED


def _each(
    found: Mapping[str, Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]
) -> str:
    texts = {name: describe(metrics) for name, metrics in found.items()}
    return "; ".join(f"{name}: {text}" for name, text in texts.items() if text) or NOT_MEASURED


def _worst(metrics: Mapping[str, Any]) -> str:
    strata = metrics["strata"]
    return " and ".join(filter(None, (strata.get("worst"), strata.get("worst_pair"))))


def _calibration(metrics: Mapping[str, Any]) -> str:
    measures = metrics["probabilities"]["measures"]
    error = (measures.get("fitted") or measures["training"])["calibration_error"]
    return f"calibration error {100 * error:.1f} %"


def _refusal(metrics: Mapping[str, Any]) -> str:
    refusal = metrics["probabilities"]["refusal"]
    return "" if not refusal.get("frames") else f"measured on {counted(refusal['frames'], 'frame')}"


def _steering(metrics: Mapping[str, Any]) -> str:
    steers = metrics["region_control"]["verdict"]["steers"]
    return (
        "" if steers is None else "the mask steers it" if steers else "the mask does not steer it"
    )
