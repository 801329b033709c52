"""Comparison of runs: worked out by hand, and refused where frames differ."""

import csv
import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sono.curation.core.errors import SonoError
from sono.evaluation.comparison.compare import CompareOptions, compare_runs
from sono.evaluation.comparison.measure import ComparedRow, holm, sign_flip_p_values
from sono.evaluation.comparison.view import Comparison
from sono.evaluation.run_facts import weights_id
from sono.evaluation.text_tables import TextTable, latex_text

PLANES = ["femur", "eye", "leg"]


def write_run(
    folder: Path, answers: list[int], on: str = "B", planes: list[str] | None = None
) -> Path:
    """A run whose evaluation has `answers`: frame i shows plane i % 2 and is of patient i // 4."""
    planes = planes or PLANES
    count = len(answers)
    table = pd.DataFrame(
        {
            "image_id": [f"f{number:03}" for number in range(count)],
            "cluster": [number // 4 for number in range(count)],
            "plane": [planes[number % 2] for number in range(count)],
            "mode": "all_one",
            "scores": [np.eye(len(planes))[answer] for answer in answers],
        }
    )
    target = folder / "eval" / on
    target.mkdir(parents=True)
    table.to_parquet(target / "predictions.parquet", index=False)
    metrics = {
        "run": folder.name,
        "first_line": f"Center {on}",
        "candidates": planes,
        "checkpoint": "best",
        "notes": ["a note"],
    }
    (target / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scores", np.array([np.nan, 1.0, 0.0])),
        ("scores", np.array([1.0, 0.0])),
        ("scores", None),
        ("plane", "kidney"),
        ("cluster", None),
    ],
)
def test_predictions_that_are_no_numbers_are_refused_in_one_line(
    runs: tuple[str, str], column: str, value: object
) -> None:
    path = Path(runs[1]) / "eval/B/predictions.parquet"
    table = pd.read_parquet(path)
    table[column] = table[column].astype(object)
    table.at[3, column] = value
    table.to_parquet(path, index=False)
    with pytest.raises(SonoError, match="do not fit its planes, or are no numbers; run `sono ev"):
        compared(*runs)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """80 frames: the first run has every fourth frame wrong, a femur; the second run none."""
    half = [2 if number % 4 == 0 else number % 2 for number in range(80)]
    return (
        str(write_run(tmp_path / "a", half)),
        str(write_run(tmp_path / "b", [number % 2 for number in range(80)])),
    )


def compared(*runs: str, **options: object) -> Comparison:
    return compare_runs(None, CompareOptions(runs, **options))


def row_of(found: Comparison, run: str, measure: str, plane: str = "") -> ComparedRow:
    return next(r for r in found.rows if (r.run, r.measure, r.plane) == (run, measure, plane))


def test_scores_and_differences_are_those_worked_out_by_hand(runs: tuple[str, str]) -> None:
    found = compared(*runs)
    first, second = (row_of(found, f"{name}/best", "top1_macro_of_3") for name in "ab")
    assert (first.score.point, second.score.point) == (0.75, 1.0)  # femora 1 of 2, orbits all
    assert first.difference is None and second.difference is not None
    assert second.difference.point == 0.25 and second.difference.low > 0
    assert (second.frames, second.patients) == (80, 20)
    femur, eye = (row_of(found, "b/best", "recall", plane) for plane in ("femur", "eye"))
    assert femur.difference is not None and femur.difference.point == 0.5
    assert eye.difference is not None and eye.difference.point == 0
    # all 20 patients gain: the chance of equal signs is 2 / 2^20, seen in none of 10,000 draws
    assert femur.p_value is not None and eye.p_value == 1.0
    assert femur.p_value == pytest.approx(2 / 10_001)  # of two planes


def test_the_order_of_the_runs_changes_the_sign_alone(runs: tuple[str, str]) -> None:
    there = row_of(compared(*runs), "b/best", "top1_macro_of_3").difference
    back = row_of(compared(*runs[::-1]), "a/best", "top1_macro_of_3").difference
    assert there is not None and back is not None
    assert (there.point, there.low, there.high) == pytest.approx(
        (-back.point, -back.high, -back.low)
    )


def test_a_tie_is_wrong_and_a_shared_answer_no_difference(tmp_path: Path) -> None:
    answers = [number % 2 for number in range(40)]
    a, b = write_run(tmp_path / "a", answers), write_run(tmp_path / "b", answers)
    change = row_of(compared(str(a), str(b)), "b/best", "top1_micro").difference
    assert change is not None and change.point == 0 and change.low < 0 < change.high
    table = pd.read_parquet(b / "eval" / "B" / "predictions.parquet")
    table["scores"] = [np.ones(3)] * 40
    table.to_parquet(b / "eval" / "B" / "predictions.parquet", index=False)
    assert row_of(compared(str(a), str(b)), "b/best", "top1_micro").score.point == 0


def test_corrected_p_values_are_those_of_holm() -> None:
    """The example of Holm 1979: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.9, never smaller than before."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9]) and holm([]) == []


def test_p_values_are_those_of_all_sign_changes() -> None:
    differences = np.array([3.0, 1.0, 2.0, -1.0, 2.0, 4.0])
    signs = np.array(list(itertools.product((-1, 1), repeat=6)))
    exact = (np.abs(signs @ differences) >= differences.sum()).mean()
    found = sign_flip_p_values(np.column_stack([differences, 0 * differences]), 0)
    assert found[0] == pytest.approx(exact, abs=0.01) and found[1] == 1


@pytest.mark.parametrize("suffix", ["csv", "md", "tex", "html"])
def test_each_format_has_every_row(runs: tuple[str, str], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    found = compared(*runs, outputs=(path,))
    text = path.read_text(encoding="utf-8")
    assert len(found.rows) == 2 * (4 + 2)
    assert text.count("a/best") >= 6 and text.count("+50.0") == (0 if suffix == "csv" else 1)
    if suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 12 and rows[-3]["plane"] == "femur"
        assert float(rows[-3]["points"]) == 50 and rows[-4]["points"] == ""
    if suffix == "md":
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len(table) == 2 + 12 and len({line.count("|") for line in table}) == 1
    if suffix == "tex":
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 13 and {line.count("&") for line in lines} == {6}
        assert "percent [interval]" in lines[0] and r"\%" not in lines[0]


def test_the_terminal_shows_all_frames_and_the_planes_that_differ(runs: tuple[str, str]) -> None:
    console = Console(width=200, record=True)
    console.print(compared(*runs))
    text = console.export_text()
    assert "Top-1 macro of 3" in text and "recall, femur" in text and "recall, orbits" not in text
    assert "1 of 2 planes differ" in text and "- a note" in text


def test_runs_on_other_frames_are_refused_with_their_frames(tmp_path: Path) -> None:
    a = str(write_run(tmp_path / "a", [0, 1] * 4))
    b = str(write_run(tmp_path / "b", [0, 1] * 5))
    with pytest.raises(
        SonoError, match=r"different frames: 2 frames only in b/best \(f008, f009\)"
    ):
        compared(a, b)
    more = str(write_run(tmp_path / "c", [0, 1] * 4, planes=["femur", "eye", "lip"]))
    with pytest.raises(SonoError, match=r"different planes \(leg, lip\)"):
        compared(a, more)
    moved = write_run(tmp_path / "d", [0, 1] * 4)
    table = pd.read_parquet(moved / "eval" / "B" / "predictions.parquet")
    table.loc[3, "plane"] = "leg"
    table.to_parquet(moved / "eval" / "B" / "predictions.parquet", index=False)
    with pytest.raises(SonoError, match=r"another plane for 1 frame \(f003\)"):
        compared(a, str(moved))


def test_wrong_input_is_one_line(tmp_path: Path, runs: tuple[str, str]) -> None:
    with pytest.raises(SonoError, match="two runs or more"):
        compared(runs[0])
    with pytest.raises(SonoError, match="a/best was given twice"):
        compared(runs[0], runs[0])
    with pytest.raises(SonoError, match="not the folder of a run or of an evaluation"):
        compared(runs[0], "nothing")
    with pytest.raises(SonoError, match="no scores of mask 'box'"):
        compared(*runs, mask="box")
    with pytest.raises(SonoError, match="unknown format; name it"):
        compared(*runs, outputs=(tmp_path / "table.doc",))
    write_run(tmp_path / "x" / "a", [0, 1], on="C")
    with pytest.raises(SonoError, match="different frames"):  # each has one evaluation, of others
        compared(runs[0], str(tmp_path / "x" / "a"))
    (tmp_path / "a" / "eval" / "B" / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(SonoError, match=r"damaged.*run `sono eval` again"):
        compared(*runs)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run.json").write_text("{}")
    with pytest.raises(SonoError, match="not evaluated yet; run `sono eval --run new`"):
        compared(runs[0], str(tmp_path / "new"))


def test_one_patient_has_no_interval_and_of_several_evaluations_one_is_chosen(
    tmp_path: Path,
) -> None:
    for name in "ab":
        write_run(tmp_path / name, [0, 1, 0, 1], on="B")
        write_run(tmp_path / name, [0, 1] * 8, on="C")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    with pytest.raises(SonoError, match=r"several evaluations in common .*choose one with --on"):
        compared(a, b)
    with pytest.raises(SonoError, match="no evaluation 'D'"):
        compared(a, b, on="D")
    change = row_of(compared(a, b, on="B"), "b/best", "top1_macro").difference
    assert change is not None and np.isnan(change.low)
    assert row_of(compared(a, b, on="C"), "b/best", "top1_macro").patients == 4


def change(folder: str, **values: object) -> None:
    path = Path(folder) / "eval/B/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_one_of_the_runs_has_seen_is_in_the_title(runs: tuple[str, str]) -> None:
    assert compared(*runs).title == "a/best, b/best. Center B"
    change(runs[1], first_line="Center B (SEEN IN TRAINING)")
    assert compared(*runs).title == "a/best: Center B. b/best: Center B (SEEN IN TRAINING)"


def test_scores_of_earlier_weights_are_marked(runs: tuple[str, str]) -> None:
    weights = Path(runs[1]) / "best" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_text("then")
    change(runs[1], weights=weights_id(weights.parent))
    assert "EARLIER" not in compared(*runs).title
    weights.write_text("now")
    found = compared(*runs)
    assert found.title.endswith("b/best: Center B; SCORED WITH EARLIER WEIGHTS OF THE RUN")
    assert any("run `sono eval` again" in note for note in found.notes)


def test_an_evaluation_that_was_killed_while_it_was_written_does_not_count(
    runs: tuple[str, str],
) -> None:
    shutil.copytree(Path(runs[0]) / "eval/B", Path(runs[0]) / "eval/.tmp-B-new")
    assert compared(*runs).title == "a/best, b/best. Center B"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("image_id", "f002", "twice"), ("image_id", None, "without a name"), ("mode", None, "name")],
)
def test_a_frame_counts_once_and_has_a_name(
    runs: tuple[str, str], column: str, value: object, words: str
) -> None:
    path = Path(runs[1]) / "eval/B/predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[3, column] = value
    table.to_parquet(path, index=False)
    with pytest.raises(SonoError, match=words):
        compared(*runs)
    change(runs[1], candidates=None)
    with pytest.raises(SonoError, match="of an older version"):
        compared(*runs)


def test_names_are_only_text_in_every_format(runs: tuple[str, str], tmp_path: Path) -> None:
    for run in runs:
        change(run, first_line="Center <img src=x>\n\\input{x}", notes=["run <b>twice</b>"])
    change(runs[1], run="=1+1")
    paths = {kind: tmp_path / f"t.{kind}" for kind in ("csv", "md", "tex", "html")}
    compared(*runs, outputs=tuple(paths.values()))
    texts = {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}
    assert ",'=1+1/best," in texts["csv"] and ",=1+1" not in texts["csv"]
    assert "<img" not in texts["md"] and "- run &lt;b>twice&lt;/b>" in texts["md"]
    assert "<img" not in texts["html"]
    begin = texts["tex"].index(r"\begin{tabular}")
    assert all(line.startswith("% ") for line in texts["tex"][:begin].splitlines())
    assert "% run <b>twice</b>" in texts["tex"]
    # `<` alone prints an inverted exclamation mark
    assert r" \textless{}0.001 \\" in texts["tex"]


def test_a_cell_of_latex_is_no_argument_of_the_line_before() -> None:
    table = TextTable("t", "t", ("x", "y"), [["[1cm]", "a|b"], ["*", "2"]], "e", "")
    assert [line for line in latex_text(table).splitlines() if line.endswith(r"\\")][1:] == [
        r"{}[1cm] & a\textbar{}b \\",
        r"{}* & 2 \\",
    ]


def test_an_evaluation_is_named_as_its_center_or_its_folder(tmp_path: Path) -> None:
    answers, names = [number % 2 for number in range(40)], ("B", "M%C3%BCnster")
    for on in names:
        for run in "ab":
            write_run(tmp_path / run, answers, on)
    both = str(tmp_path / "a"), str(tmp_path / "b")
    for on in ("Münster", names[1]):
        assert compared(*both, on=on).title.endswith("Center M%C3%BCnster")
