"""A changed images table is refused with the file, row and column.

What sono itself changes is not.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from phantom_frames import write_frames
from studies import copy_study

from sono.curation.clinical.values import LATERALITY, PRESENTATION
from sono.curation.core.column_values import LATERALITIES, PRESENTATIONS
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES, read_table, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.split_stage import split_workspace
from sono.curation.privacy.gate import check_privacy
from sono.curation.qc import QcOptions, run_qc


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("graded")
    write_frames(folder / "raw", range(3))
    (folder / "raw/notes.txt").write_text("no frame")
    rows = [f"IM_{number}.png,W{number},S{number}" for number in range(3)]
    (folder / "records.csv").write_text("\n".join(["file,patient,study", *rows]))
    study = Workspace.create(folder / "study")
    _grade(study, folder)
    return study


@pytest.fixture
def study(graded: Workspace, tmp_path: Path) -> Workspace:
    return copy_study(graded, tmp_path)


def _grade(study: Workspace, folder: Path) -> None:
    run_qc(study, QcOptions(folder / "raw", folder / "records.csv"), Engine(jobs=1))


def _shifted(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Each accepted row with the value of the next one."""

    def shift(images: pd.DataFrame) -> pd.DataFrame:
        rows = images.index[images["status"] == "accepted"]
        values = images.loc[rows, column].tolist()
        images.loc[rows, column] = [*values[1:], values[0]]
        return images

    return shift


def _edit(study: Workspace, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the file as a person would, without the checks of sono."""
    path = study.path(IMAGES)
    described = pq.read_schema(path).metadata
    table = pa.Table.from_pandas(
        change(study.read(IMAGES)), schema=IMAGES.schema, preserve_index=False
    )
    pq.write_table(table.replace_schema_metadata(described), path)


@pytest.mark.parametrize("rows", [1, 1 << 16])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_shifted("patient_id"), "row [0-9]+: column 'patient_id' has"),
        (_shifted("study_id"), "row [0-9]+: column 'study_id' has"),
        (_shifted("file"), "row [0-9]+: column 'file' has .*not the file of its image_id"),
        (_shifted("image_id"), "row [0-9]+: column 'file' has .*not the file of its image_id"),
        (
            lambda images: images.assign(crop_x0=images["crop_x0"] + 8),
            "row [0-9]+: column 'crop_x0' has",
        ),
        (lambda images: images.assign(width=images["width"] + 1), "row [0-9]+: column 'width' has"),
        (
            lambda images: images.assign(source_height=None),
            "row [0-9]+: column 'source_height' has",
        ),
        (lambda images: images.assign(patient_id=None), "row [0-9]+: column 'patient_id' has ''"),
        (
            lambda images: images.iloc[2:],
            "2 rows of .*sources.parquet are missing.*column 'source_id'",
        ),
        (
            lambda images: _shifted("file")(_shifted("image_id")(images)),
            "row [0-9]+: column 'image_id' has",
        ),
    ],
)
def test_a_table_changed_by_hand_is_refused(
    study: Workspace,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    said: str,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sono.curation.core.table_batches.ROWS", rows)
    _edit(study, change)
    with pytest.raises(SonoError, match=f"images.parquet: {said}") as refusal:
        study.images()
    assert "\n" not in str(refusal.value) and "put" in str(refusal.value)


def test_what_sono_changes_passes_and_qc_restores_the_table(
    study: Workspace, graded: Workspace
) -> None:
    split_workspace(study, None, 0, 7)
    before = study.images()
    _edit(study, _shifted("patient_id"))
    _grade(study, graded.root.parent)
    assert study.images()["patient_id"].equals(before["patient_id"])


def test_a_vault_of_an_earlier_version_has_no_pseudonyms_to_compare(study: Workspace) -> None:
    sources = read_table(study.sources_path, SOURCES).assign(
        patient_id=None, study_id=None, exam_id=None
    )
    write_table(study.sources_path, sources, SOURCES, mode=0o600, study=study.study().key_check)
    assert len(study.images()) == 4
    _edit(study, lambda images: images.iloc[1:])
    with pytest.raises(SonoError, match="1 row of"):
        study.images()


def test_a_vault_without_its_private_strings_is_refused(study: Workspace) -> None:
    table = pq.read_table(study.sources_path)
    index = table.schema.get_field_index("private")
    nothing = pa.nulls(len(table), pa.list_(pa.string()))
    pq.write_table(table.set_column(index, "private", nothing), study.sources_path)
    with pytest.raises(SonoError, match="row 1: column 'private' of the sources table is empty"):
        check_privacy(study)


@pytest.mark.parametrize(
    "name",
    ["laterality", "presentation", "bmi_band", "parity", "region", "ga_source", "sector_kind"],
)
def test_a_word_that_a_column_does_not_have_is_refused(study: Workspace, name: str) -> None:
    _edit(study, lambda images: images.assign(**{name: "middle"}))
    with pytest.raises(SonoError, match=rf"row 1: column '{name}' has 'middle'; allowed:"):
        study.images()


def test_the_tables_allow_what_records_can_say() -> None:
    assert (set(LATERALITIES), set(PRESENTATIONS)) == (set(LATERALITY), set(PRESENTATION))
