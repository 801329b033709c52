"""Several template sets at once, and sets with several phrasings."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from caption_studies import image, mask, study

from sono.annotation.caption_facts import Facts
from sono.annotation.caption_writer import CaptionWriter
from sono.annotation.captions import build_captions
from sono.annotation.lint import LintRules
from sono.annotation.release.samples import samples_of
from sono.annotation.review.decisions import Decision
from sono.annotation.review.writing import apply_to_captions
from sono.annotation.reviewed_captions import ReviewedCaptions
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import frame_file
from sono.curation.core.planes import PLANES, PlaneTable
from sono.curation.core.tables import CAPTIONS, rows_of
from sono.curation.core.workspace import Workspace
from sono.templates.loader import BUILT_IN, load_templates

RULES = LintRules(lambda text: len(text.split()), PlaneTable())
FINDINGS = ("growth restriction", "short femur")


def _facts() -> list[Facts]:
    """Facts of every plane, complete and with single ones missing, and of unlabeled frames."""
    found = [Facts(), Facts(region="head"), Facts("other", region="head", ga_days=140)]
    for plane in PLANES:
        for days in (None, 57, 77, 126, 154, 157):
            whole = Facts(plane.id, plane.region, days, plane.structures[:3], findings=FINDINGS)
            side = {"one": "left", "both": "both"}.get(plane.sides)
            found += [whole, whole._replace(laterality=side, structures=()), Facts(plane.id)]
            found.append(whole._replace(structure=plane.structures[-1]))
    return found


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_phrasing_of_every_set_is_clean_english_for_every_plane(name: str) -> None:
    main = load_templates(name)
    for templates in (main, *main.others):
        writer = CaptionWriter(templates, RULES)
        for facts in _facts():
            caption = writer.write(facts)
            assert caption.findings == (), caption.text
            assert caption.text[0].isupper() or name == "short"


def test_the_sets_phrase_one_fact_in_different_words() -> None:
    facts = Facts("femur", ga_days=157, structures=("femur",))
    sets = [load_templates(name) for name in BUILT_IN]
    texts = {
        CaptionWriter(one, RULES).write(facts).text for main in sets for one in (main, *main.others)
    }
    assert len(load_templates("multi").others) == 4
    assert len(texts) == 4 + 5
    assert (
        "Fetal ultrasound at 22 weeks and 3 days of gestation with focus on the femur view of "
        in (" ".join(texts))
    )


def test_a_phrasing_depends_on_id_and_seed_alone_and_all_are_used() -> None:
    multi = load_templates("multi")
    ids = [f"{number:016x}" for number in range(500)]
    counts = Counter(multi.phrasing(one) for one in ids)
    assert sorted(counts) == [0, 1, 2, 3, 4] and min(counts.values()) > 70
    assert [multi.phrasing(one) for one in ids[:6]] == [3, 4, 1, 1, 1, 4]
    assert [multi.phrasing(one, 1) for one in ids] != [multi.phrasing(one) for one in ids]
    assert {load_templates("standard").phrasing(one) for one in ids} == {0}


def test_frames_of_equal_facts_get_different_phrasings_that_stay(tmp_path: Path) -> None:
    frames = [image(f"{number:x}", plane="femur", ga_days=157) for number in range(16)]
    workspace = study(tmp_path, frames, [mask("3", "femur")])
    build_captions(workspace, "multi")
    table = workspace.captions().set_index(["image_id", "level"])["text"]
    assert table.nunique() == 6
    build_captions(study(tmp_path / "again", frames[::-1], [mask("3", "femur")]), "multi")
    again = Workspace(tmp_path / "again" / "study").captions().set_index(["image_id", "level"])
    assert table.to_dict() == again["text"].to_dict()
    config = workspace.config_path
    config.write_text(config.read_text() + "\n[captions]\nseed = 5\n")
    build_captions(workspace, "multi")
    other = workspace.captions().set_index(["image_id", "level"])["text"]
    assert other.to_dict() != table.to_dict()


def _two_sets(tmp_path: Path) -> Workspace:
    size = {"height": 2, "width": 2}
    a, b = (frame_file(name, np.zeros((2, 2), np.uint8)) for name in "ab")
    frames = [
        image("a", plane="femur", ga_days=157, file=a, **size),
        image("b", plane="femur", file=b, **size),
    ]
    workspace = study(tmp_path, frames, [mask("a", "femur")])
    config = workspace.config_path
    config.write_text(config.read_text() + '\n[captions]\nsets = ["standard", "short"]\n')
    return workspace


def test_several_sets_give_each_frame_and_mask_several_captions(tmp_path: Path) -> None:
    workspace = _two_sets(tmp_path)
    summary = build_captions(workspace)
    table = workspace.captions()
    assert Counter(table["template"].str.rpartition("-")[0]) == {"standard": 3, "short": 3}
    assert summary.counts["global"] == {"full": 1, "partial": 0, "label": 3}
    assert summary.template == ", ".join(load_templates(n).id for n in ("standard", "short"))
    (first, second) = samples_of(workspace, ["accepted"]).samples
    assert len(first.captions) == 2 and len(first.regions[0].captions) == 2
    assert second.captions == (  # the main set first
        "A fetal ultrasound image of the femur plane.",
        "fetal ultrasound, femur plane",
    )
    build_captions(workspace, ["sonoclip"])
    assert set(workspace.captions()["template"]) == {load_templates("sonoclip").id}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["short", "short"], "2 template sets are called 'short'"),
        (
            ["short", "standard", "multi", "sonoclip", "fetalclip"],
            "5 template sets; give 4 at most",
        ),
        (["short", "standart"], "unknown template set 'standart'; did you mean 'standard'"),
    ],
)
def test_sets_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, sets: list[str], message: str
) -> None:
    with pytest.raises(SonoError, match=re.escape(message)):
        build_captions(study(tmp_path, [image("a", plane="femur")], []), sets)


def _decide(workspace: Workspace, **changes: object) -> Decision:
    """A decision on the caption of the main set on frame a, written into the table."""
    table = workspace.read(CAPTIONS)
    rows = rows_of(table[(table["image_id"] == "a") & (table["level"] == "global")])
    before = next(row for row in rows if row["template"].startswith("standard"))
    signed = {
        "reviewer": "KM",
        "reviewed_at": "2026-01-01T00:00:00Z",
        "facts": '{"plane": "femur"}',
    }
    after = {**before, **signed, **changes}
    if changes.get("state", 0) is None:
        after |= dict.fromkeys(signed)
    decision = Decision(1, "a", "caption", "KM", "2026-01-01T00:00:00Z", before, after, "caption")
    changed = apply_to_captions(table, [decision])
    assert changed is not None
    workspace.write(CAPTIONS, changed)
    return decision


def test_a_correction_sets_the_captions_of_other_sets_aside_and_undone_they_are_back(
    tmp_path: Path,
) -> None:
    workspace = _two_sets(tmp_path)
    build_captions(workspace)
    before = workspace.read(CAPTIONS)
    text = "A fetal ultrasound image of the femur plane."
    _decide(workspace, state="corrected", text=text)
    own = workspace.captions()
    assert own[(own["image_id"] == "a") & (own["level"] == "global")]["text"].tolist() == [text]
    assert len(workspace.read(CAPTIONS)) == len(before)
    summary = build_captions(workspace)
    assert (summary.corrected, summary.marked_wrong, summary.outdated) == (1, 1, ())
    own = workspace.captions()
    assert own[(own["image_id"] == "a") & (own["level"] == "global")]["text"].tolist() == [text]
    _decide(workspace, state=None, text=before["text"].iloc[1])
    assert len(workspace.captions()) == len(before)


def test_a_decision_outlives_a_change_of_sets(tmp_path: Path) -> None:
    workspace = _two_sets(tmp_path)
    build_captions(workspace)
    text = "A fetal ultrasound image of the femur plane."
    _decide(workspace, state="corrected", text=text)
    summary = build_captions(workspace, "sonoclip")
    assert (summary.corrected, summary.outdated) == (1, ())
    table = workspace.captions()
    assert text in table["text"].tolist()


def test_without_decisions_nothing_is_looked_up(tmp_path: Path) -> None:
    workspace = _two_sets(tmp_path)
    build_captions(workspace)
    assert ReviewedCaptions.of(workspace.read(CAPTIONS)).rows == {}
