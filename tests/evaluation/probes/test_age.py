"""Ages by formula from masks, and where a formula must not confirm itself."""

import numpy as np
import pytest

from sono.annotation.masks import mask_row, mask_table
from sono.curation.clinical.dating import days_from_size
from sono.curation.core.tables import IMAGES, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.evaluation.probes.age import biometry_days
from sono.evaluation.probes.study import ProbeOptions, open_probe

BONE_MM = 32.0  # 16 pixels of 2 mm


@pytest.fixture
def bones(probed: Workspace) -> Workspace:
    """The study with a bone as the mask of each femur, and pixels of 2 mm."""
    images = probed.images()
    images["row_spacing_mm"] = images["col_spacing_mm"] = 2.0
    probed.write(IMAGES, images)
    bone = np.zeros((20, 24), np.bool_)
    bone[9:12, 4:20] = True
    rows = [row for row in rows_of(images) if row["plane"] == "femur"]
    masks = [mask_row(row, bone, "femur", "manual", state="accepted") for row in rows]
    probed.write(MASKS, mask_table(masks))
    return probed


def test_the_age_of_a_bone_is_that_of_its_length(bones: Workspace) -> None:
    probe = open_probe(bones, ProbeOptions("ga_days"))
    days = biometry_days(probe)
    femurs = probe.frames["plane"].eq("femur").to_numpy(bool)
    assert set(days[femurs]) == {days_from_size("fl", BONE_MM)}
    assert np.isnan(days[~femurs]).all()


@pytest.mark.parametrize(
    "columns", [{"ga_source": "crl"}, {"row_spacing_mm": None}, {"plane": "leg"}]
)
def test_ages_from_sizes_frames_without_spacing_and_other_planes_have_none(
    bones: Workspace, columns: dict[str, object]
) -> None:
    images = bones.images()
    for name, value in columns.items():
        images[name] = value
    bones.write(IMAGES, images)
    assert np.isnan(biometry_days(open_probe(bones, ProbeOptions("ga_days")))).all()
