"""One run per center, each scored on the center that it has not seen."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clip_files import TINY
from drawn_study import drawn_study
from quick import CLIP_TEXT

from sono.curation.core.atomic import write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.workspace import Workspace
from sono.evaluation import centers
from sono.evaluation.centers import CentersOptions, leave_one_center_out, run_name
from sono.training.model import architectures

QUICK = '[evaluation]\nbootstrap_draws = 100\nmodes = ["all_one"]\n'
GIVEN: dict[str, Any] = CLIP_TEXT | {"model": "tiny", "epochs": 1, "image_size": 32}


@pytest.fixture
def drawn(tmp_path: Path) -> Workspace:
    architectures.SIZES["tiny"] = TINY
    study = drawn_study(tmp_path / "study")
    write_text(study.config_path, QUICK)
    return study


def test_each_center_is_scored_by_the_run_without_it_and_a_second_call_trains_nothing(
    drawn: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(drawn.images())
    one = [row["source_id"] for row in rows if row["patient_id"] == "w0"]
    drawn.write(IMAGES, from_rows(IMAGES, [
        row | ({"center": "C"} if row["source_id"] in one[:1] else {}) for row in rows
    ]))  # fmt: skip
    outputs = tuple(tmp_path / f"centers.{kind}" for kind in ("csv", "md", "tex", "html"))
    found = leave_one_center_out(drawn, CentersOptions(given=GIVEN, outputs=outputs))
    assert [(row.center, row.run, row.frames) for row in found.centers] == [
        ("A", "without-A", 19),
        ("B", "without-B", 20),
    ]
    assert found.notes[0].startswith("C: not held out, because it has 1 patient with a frame")
    for row in found.centers:
        record = json.loads((drawn.runs / row.run / "run.json").read_text())
        assert record["held_out"] == [row.center] and row.center not in record["centers_seen"]
        kept = json.loads((drawn.runs / row.run / "eval" / row.center / "metrics.json").read_text())
        own = kept["groups"][0]["modes"]["all_one"]["top1_macro"]
        assert row.top1.as_dict() == own
        assert row.seen is not None and row.naming is not None
    table = pd.read_csv(outputs[0])
    assert table["top1_macro_percent"].tolist() == pytest.approx(
        [100 * row.top1.point for row in found.centers]
    )
    changes = [100 * (row.top1.point - row.seen.point) for row in found.centers if row.seen]
    assert table["unseen_minus_seen_points"].tolist() == pytest.approx(changes)
    shown = [row[5] for row in found.table.rows]
    assert shown[:2] == [f"{change:+.1f}" for change in changes]
    assert shown[2].startswith(f"{sum(changes) / 2:.1f} (")
    mean = 50 * (found.centers[0].top1.point + found.centers[1].top1.point)
    assert f"| mean (SD) |  |  | {mean:.1f} (" in outputs[1].read_text()
    assert found.worst.top1.point == min(row.top1.point for row in found.centers)
    assert "mean (SD)" in outputs[3].read_text() and r"\toprule" in outputs[2].read_text()

    monkeypatch.setattr(centers, "train", lambda *_, **__: pytest.fail("trained again"))
    assert leave_one_center_out(drawn, CentersOptions(given=GIVEN)).as_dict() == found.as_dict()
    with pytest.raises(SonoError, match="this run differs in epochs; give another --name"):
        leave_one_center_out(drawn, CentersOptions(given=GIVEN | {"epochs": 2}))
    drawn.write(MASKS, from_rows(MASKS, rows_of(drawn.masks())[1:]))
    with pytest.raises(SonoError, match="have changed since this run"):
        leave_one_center_out(drawn, CentersOptions(given=GIVEN))


def test_what_cannot_be_left_out_is_refused_before_any_training(
    drawn: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(centers, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(SonoError, match=r"unknown format; name it \.csv"):
        leave_one_center_out(drawn, CentersOptions(outputs=(tmp_path / "centers.doc",)))
    with pytest.raises(SonoError, match="--name has 41 characters; give a name of at most 40"):
        leave_one_center_out(drawn, CentersOptions("x" * 41))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SonoError, match="without torchrun"):
        leave_one_center_out(drawn, CentersOptions())
    monkeypatch.delenv("WORLD_SIZE")
    rows = rows_of(drawn.images())
    drawn.write(IMAGES, from_rows(IMAGES, [row | {"center": "A"} for row in rows]))
    with pytest.raises(SonoError, match="1 center with 2 patients or more with a frame of a pl"):
        leave_one_center_out(drawn, CentersOptions())


def test_the_runs_of_centers_with_long_names_have_names_of_their_own() -> None:
    assert run_name("without", "Sant Pau") == "without-Sant Pau"
    # each letter takes six of a folder's name
    names = [run_name("x" * 40, f"Городская больница {number}") for number in range(20)]
    assert len(set(names)) == 20 and {len(name) for name in names} == {64}
