"""Each table has one metric, and its CSV file has every number of metrics.json with its unit."""

import io
from dataclasses import replace

import pandas as pd
import pytest
from studies import fill_vault

from sono.curation.clinical.name_variants import words_of
from sono.curation.core.atomic import write_text
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import PrivacyError
from sono.curation.core.tables import MASKS, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_folder
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.modes import MODES
from sono.evaluation.region_control.measures import CONDITIONS
from sono.evaluation.result_tables import (
    PERCENT,
    POINTS,
    Cell,
    ResultTable,
    distinct_names,
)
from sono.evaluation.selection import Target
from sono.evaluation.statistics.bootstrap import Interval
from sono.templates.reports import row_words

NAN = float("nan")


@pytest.fixture
def quick(study: Workspace) -> Workspace:
    write_text(study.config_path, "[evaluation]\nbootstrap_draws = 100\n")
    return study


def read(table: ResultTable) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table.csv_text()))


def test_a_csv_file_has_labels_counts_and_the_interval_with_its_unit() -> None:
    cells = (
        Cell("own", "in_plane", Interval(0.5, 0.25, 0.75), {"masks": 8, "patients": 3}),
        Cell("chance", "in_plane", Interval(0.25, NAN, NAN), {}),
    )
    table = ResultTable("region_naming", ("mask", "candidates"), PERCENT, cells)
    assert table.csv_text() == (
        "mask,candidates,masks,patients,percent,percent_low,percent_high\n"
        "own,in_plane,8,3,50,25,75\n"
        "chance,in_plane,,,25,,\n"
    )
    assert PERCENT.text(cells[0].value) == "50.0 [25.0, 75.0]"
    assert POINTS.text(Interval(-0.5, NAN, NAN)) == "-50.0"
    assert PERCENT.text(Interval(NAN, NAN, NAN)) == "\u2013"


def test_a_table_of_one_column_without_intervals_has_neither_column() -> None:
    table = ResultTable("x", ("plane", ""), PERCENT, (Cell("a,b", "", Interval(1, NAN, NAN), {}),))
    assert table.csv_text() == 'plane,percent\n"a,b",100\n'
    formula = replace(table, cells=(Cell("=A1", "", Interval(-1, NAN, NAN), {}),))
    assert formula.csv_text() == "plane,percent\n'=A1,-100\n"


def test_every_number_of_the_scores_is_in_a_csv_file(quick: Workspace) -> None:
    found = evaluate(quick, EvaluationOptions(target=Target("new")))
    for group in found.metrics["groups"]:
        for mode, values in group["modes"].items():
            for name, interval in values.items():
                rows = pd.read_csv(found.folder / "tables" / f"{name}.csv")
                row = rows[(rows["mask"] == mode) & (rows["frame_set"] == group["title"])].iloc[0]
                assert row["percent"] == pytest.approx(100 * interval["point"], abs=1e-3)
                assert row["percent_low"] == pytest.approx(100 * interval["low"], abs=1e-3)
                assert (row["frames"], row["patients"]) == (group["frames"], group["clusters"])
    gains = read(found.tables["mask_gain"]).set_index("difference")["points"]
    for row in found.metrics["differences"]:
        assert gains["_minus_".join(row["modes"])] == pytest.approx(
            100 * row["top1_macro"]["point"], abs=1e-3
        )
    answers = read(found.tables["confusion_all_one"])
    assert answers["answers"].sum() == found.metrics["frames"]


def test_the_same_numbers_are_shown_once_if_all_planes_are_present() -> None:
    scores = dict.fromkeys(("top1_macro", "top1_macro_of_2"))
    metrics = {
        "planes": ["femur", "eye"],
        "candidates": ["femur", "eye"],
        "compared_metric": "top1_macro",
        "groups": [{"modes": {"all_one": scores}}],
    }
    assert distinct_names(metrics) == ["top1_macro"]
    assert distinct_names(metrics | {"planes": ["eye"]}) == [*scores]


def test_every_table_is_written_and_linked_and_earlier_ones_are_removed(quick: Workspace) -> None:
    both = evaluate(quick, EvaluationOptions(modes=("empty",)))
    assert (both.folder / "tables" / "confusion_empty.csv").is_file()
    found = evaluate(quick, EvaluationOptions(modes=("all_one",)))
    written = {file.stem for file in (found.folder / "tables").iterdir()}
    assert written == set(found.tables) and "confusion_empty" not in written
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    assert all(f'href="tables/{name}.csv"' in text for name in written)
    best = found.tables["top1_macro"].cells[0].value
    assert f"Top-1 macro without a mask {PERCENT.limits(best)}</p>" in text
    assert "(1 row, " in text and "(1 rows, " not in text
    assert "<td>checkpoint</td>" in text


def add_masks_of_a_second_structure(study: Workspace) -> None:
    masks = study.masks()
    other = masks.assign(structure="eye", mask_id="other-" + masks["mask_id"])
    study.write(MASKS, pd.concat([masks, other], ignore_index=True))


def test_regions_have_a_table_for_each_metric(quick: Workspace) -> None:
    add_masks_of_a_second_structure(quick)
    found = evaluate(quick, EvaluationOptions(modes=()))
    control = found.metrics["region_control"]
    naming = read(found.tables["region_naming"]).set_index(["mask", "candidates"])
    assert set(naming.index.get_level_values("mask")) == {*CONDITIONS, "chance"}
    own = naming.loc[("own", "in_plane")]
    assert own["percent"] == pytest.approx(100 * control["conditions"]["own"]["in_plane"]["point"])
    assert (own["masks"], own["frames"], own["patients"]) == (12, 6, 3)
    follow = read(found.tables["follow_rate"]).set_index("structure")
    assert follow.loc["all", "masks"] == 12 and set(follow.index) == {"all", "femur", "eye"}
    assert {"region_gain", "mask_cosine", "structures", "region_phrasings"} <= set(found.tables)


def test_every_mask_has_its_words_in_the_report_and_the_terminal(quick: Workspace) -> None:
    words = row_words()
    assert {*MODES, *CONDITIONS} <= set(words)
    found = evaluate(quick, EvaluationOptions())
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    with stderr_console.capture() as shown:
        stderr_console.print(found)
    plain = " ".join(shown.get().split())
    for mode in found.tables["top1_macro"].rows:
        assert words[mode] in text and words[mode] in plain, mode


def with_persons(study: Workspace, *names: str) -> Workspace:
    """The study, whose first file contains the names of persons."""
    fill_vault(study)
    sources = study.sources()
    sources.at[0, "persons"] = sources.at[0, "private"] = list(names)
    write_table(study.sources_path, sources, SOURCES, mode=0o600)
    return study


@pytest.mark.slow
def test_no_word_of_a_table_is_taken_for_a_name(quick: Workspace) -> None:
    add_masks_of_a_second_structure(quick)
    folder = evaluate(quick, EvaluationOptions()).folder / "tables"
    files = list(folder.iterdir())
    words = words_of(*(f"{file.stem}\n{file.read_text()}" for file in files)) - {"toy"}
    names = [f"{word}^Ann" for word in sorted(words) if word.isalpha() and len(word) > 3]
    assert len(names) > 60
    check_folder(with_persons(quick, *names), folder)


def test_a_private_name_in_a_table_is_found(quick: Workspace) -> None:
    folder = evaluate(quick, EvaluationOptions()).folder / "tables"
    table = folder / "plane_recall.csv"
    write_text(table, table.read_text().replace("femur", "lindqvist"))
    with pytest.raises(PrivacyError, match=r"plane_recall\.csv"):
        check_folder(with_persons(quick, "Lindqvist^Ann"), folder)
