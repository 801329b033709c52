"""Measurements of masks against closed forms, and the table of a study."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mask_studies import frame_row, make_study
from typer.testing import CliRunner

import sono.cli
from sono.annotation.biometry import (
    CONVENTIONS,
    LOINC,
    RULES,
    Ellipse,
    UnmeasuredError,
    fit_ellipse,
    length,
    measure,
)
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.measure_masks import measure_masks
from sono.curation.core.column_values import MEASURES
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import BIOMETRY, MASKS
from sono.curation.core.workspace import Workspace

SPACINGS = [(0.2, 0.2), (0.2, 0.35), (0.5, 0.1)]


def drawn(spacing: tuple[float, float], turn: float, y: float = 65) -> np.ndarray:
    """An ellipse of 100 x 76 mm around (64, y) mm in a frame of 130 x 130 mm."""
    rows, columns = np.ogrid[: int(130 / spacing[0]), : int(130 / spacing[1])]
    right, down = (columns + 0.5) * spacing[1] - 64, (rows + 0.5) * spacing[0] - y
    along = right * np.cos(turn) + down * np.sin(turn)
    across = down * np.cos(turn) - right * np.sin(turn)
    return (along / 50) ** 2 + (across / 38) ** 2 <= 1


def bone(spacing: tuple[float, float], turn: float) -> np.ndarray:
    """A rectangle of 40 x 5 mm around the middle of a frame of 60 x 60 mm."""
    rows, columns = np.ogrid[: int(60 / spacing[0]), : int(60 / spacing[1])]
    right, down = (columns + 0.5) * spacing[1] - 30, (rows + 0.5) * spacing[0] - 30
    along = right * np.cos(turn) + down * np.sin(turn)
    across = down * np.cos(turn) - right * np.sin(turn)
    return (abs(along) <= 20) & (abs(across) <= 2.5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("turn", [0, 0.4, 1.2, 2.5])
def test_an_ellipse_is_measured_to_a_twentieth_of_a_mm(
    spacing: tuple[float, float], turn: float
) -> None:
    found = measure(drawn(spacing, turn), spacing, "fetal head")
    angles = np.linspace(0, 2 * np.pi, 100_001)
    steps = np.diff(np.stack([50 * np.cos(angles), 38 * np.sin(angles)]), axis=1)
    assert found["hc"] == pytest.approx(np.hypot(*steps).sum(), abs=0.05)
    assert found["bpd"] == pytest.approx(76, abs=0.05)
    assert found["ofd"] == pytest.approx(100, abs=0.05)
    ellipse = fit_ellipse(drawn(spacing, turn), spacing)
    assert np.sin(ellipse.turn - turn) == pytest.approx(0, abs=0.01)
    assert measure(drawn(spacing, turn), spacing, "fetal abdomen") == {"ac": found["hc"]}


def test_a_head_that_leaves_the_frame_is_measured_by_the_rest_of_its_outline() -> None:
    cut = drawn((0.2, 0.2), 0.3, y=30)
    assert cut[0].any()
    assert fit_ellipse(cut, (0.2, 0.2)).long == pytest.approx(100, abs=0.1)


def test_holes_do_not_change_a_measurement() -> None:
    whole, holed = drawn((0.2, 0.2), 0), drawn((0.2, 0.2), 0)
    holed[250:400, 200:400] = False
    assert measure(holed, (0.2, 0.2), "fetal head") == measure(whole, (0.2, 0.2), "fetal head")


@pytest.mark.parametrize("kind", ["square", "two parts", "cut", "pixel"])
def test_what_is_no_ellipse_is_not_measured(kind: str) -> None:
    mask = np.zeros((300, 300), np.bool_)
    if kind == "square":
        mask[100:200, 50:250:2] = mask[100:200:2, 50:250] = True
        mask[100:200, 50:60] = mask[120:130, 50:250] = True
    elif kind == "two parts":
        mask[20:60, 20:60] = mask[200:260, 200:260] = True
    elif kind == "cut":
        mask[:, :] = True
    else:
        mask[7, 7] = True
    with pytest.raises(UnmeasuredError):
        fit_ellipse(mask, (0.2, 0.2))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("turn", [0, 0.4, 1.2, 2.5])
def test_a_bone_is_measured_along_its_longest_axis(
    spacing: tuple[float, float], turn: float
) -> None:
    # a corner of a turned bone is rounded to half a pixel of the coarser axis
    assert length(bone(spacing, turn), spacing) == pytest.approx(40, abs=max(spacing))


def test_a_bone_at_the_border_or_as_wide_as_long_is_not_measured() -> None:
    mask = np.zeros((100, 200), np.bool_)
    mask[40:50, 100:] = True
    with pytest.raises(UnmeasuredError, match="border"):
        length(mask, (0.2, 0.2))
    mask[:] = False
    mask[40:60, 100:120] = True
    with pytest.raises(UnmeasuredError, match="twice"):
        length(mask, (0.2, 0.2))


def test_the_perimeter_of_a_circle_is_exact() -> None:
    assert Ellipse(0, 0, 2, 2, 0).perimeter == pytest.approx(2 * np.pi)


def test_rules_name_known_structures_and_planes() -> None:
    planes = PlaneTable()
    for structure, rule in RULES.items():
        assert structure in planes.structures
        for plane in rule.planes:
            assert structure in planes.by_id[plane].structures
        assert set(rule.measures) <= set(MEASURES) == set(CONVENTIONS) == set(LOINC)


def study(folder: Path) -> Workspace:
    """Frames of 130 x 130 mm: known, without spacing, on another plane, without a plane."""
    size = {"height": 325, "width": 325, "row_spacing_mm": 0.4, "col_spacing_mm": 0.4}
    changes = [
        {"plane": "transthalamic", "region": "head", "patient_id": "p", "ga_days": 203},
        {"plane": "transthalamic", "region": "head", "col_spacing_mm": None},
        {"plane": "transcerebellar", "region": "head"},
        {"plane": None, "region": None},
        {"plane": "transventricular", "region": "head", "row_spacing_mm": 2, "col_spacing_mm": 2},
    ]
    rows = [frame_row(number, **size | change) for number, change in enumerate(changes)]
    workspace = make_study(folder, [f"/raw/{number}.png" for number in range(len(rows))], rows)
    head = drawn((0.4, 0.4), 0.3)
    masks = [mask_row(row, head, "fetal head", "import", state="accepted") for row in rows]
    masks.append(mask_row(rows[0], head, "thalami", "import", state="accepted"))
    masks.append(mask_row(rows[0], head, "fetal head", "heuristic"))
    masks.append(mask_row(rows[0], head, "fetal head", "sam", state="rejected"))
    workspace.write(MASKS, mask_table(masks))
    return workspace


def test_a_study_gets_a_table_and_the_reasons_for_what_is_not_in_it(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    summary = measure_masks(workspace, tmp_path / "out.csv")
    assert (summary.measured_masks, summary.proposed) == (2, 1)
    assert summary.not_measured == {
        "unknown pixel spacing": 1,
        "fetal head on another plane": 1,
        "fetal head on an unknown plane": 1,
        "implausible hc, outside 20 to 450 mm": 1,
        "structure without a measure": 1,
    }
    table = workspace.read(BIOMETRY)
    assert set(zip(table["measure"], table["state"], strict=True)) == {
        (name, state) for name in ("hc", "bpd", "ofd") for state in ("accepted", "proposed")
    }
    assert set(table["patient_id"]) == {"p"}
    bpd = table[table["measure"] == "bpd"]
    assert bpd["value_mm"].tolist() == pytest.approx([76, 76], abs=0.1)
    # 76.3 mm at 29 weeks, standard deviation 3.0 mm
    assert bpd["z_score"].tolist() == pytest.approx([-0.1, -0.1], abs=0.05)
    assert bpd["centile"].tolist() == pytest.approx([46, 46], abs=2)
    assert table.loc[table["measure"] == "ofd", "z_score"].isna().all()
    assert "outer to outer" in bpd["convention"].iloc[0]
    assert bpd["loinc"].iloc[0] == "11820-8"
    assert len(pd.read_csv(tmp_path / "out.csv")) == 6


def test_a_study_without_any_measurement_is_an_error(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    masks = workspace.masks()
    workspace.write(MASKS, masks[masks["structure"] == "thalami"])
    done = CliRunner().invoke(sono.cli.app, ["masks", "measure", "-w", str(workspace.root)])
    assert isinstance(done.exception, SonoError)
    assert "no mask was measured (structure without a measure: 1)" in str(done.exception)
    assert "columns `plane` and `spacing`" in str(done.exception)
    assert done.stdout == ""


def test_without_a_measurement_there_is_no_table(tmp_path: Path) -> None:
    workspace = study(tmp_path)
    measure_masks(workspace)
    assert len(workspace.read(BIOMETRY))
    masks = workspace.masks()
    workspace.write(MASKS, masks[masks["structure"] == "thalami"])
    summary = measure_masks(workspace, tmp_path / "out.csv")
    assert (summary.table, summary.measured_masks) == (None, 0)
    assert not workspace.path(BIOMETRY).exists() and not (tmp_path / "out.csv").exists()
