"""A surname that sono's own files contain is private in their values, not in what sono wrote."""

from pathlib import Path

import pytest
import torch
from gate_studies import make_study, person
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from sono.curation.core.atomic import write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.patients import SURNAMES
from sono.curation.privacy import own_texts
from sono.curation.privacy.gate import check_privacy
from sono.templates.reports import words

NAMES = (
    "Cross^Ann",
    "Grain^Al",
    "Steers^Bo",
    "Little^Jo",
    "Block^Ed",
    "Alpha^Cy",
    "Max^Pool",
    "Strong^Be",
)
RUN = "runs/toy"
WRITTEN = {
    f"{RUN}/run.json": '{"config": {"augment": {"grain": 0.5}, "cross_entropy": [1, 2]}}',
    f"{RUN}/eval/test/metrics.json": '{"alpha": 1,\n "note": "whether the mask steers is not '
    'tested; macro numbers depend on them strongly."}',
    f"{RUN}/eval/test/report.html": "<style>\nfigure img { max-width: 100%; height: auto; "
    "display: block; }\n</style>"
    '<h2>Region control: does the mask steer?</h2><div class="block">'
    "<td>run.augment.grain</td><td>grain</td></div>",
    "planes.toml": '[femur]\naliases = ["thigh"]\n\n[training]\ngrain = 0.5\nalpha = 1\n',
}


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    study = make_study(tmp_path / "study", **person(*NAMES))
    (study.root / RUN / "eval" / "test").mkdir(parents=True)
    return study


@pytest.mark.parametrize("file", WRITTEN)
def test_keys_and_texts_of_sono_are_no_names(study: Workspace, file: str) -> None:
    write_text(study.root / file, WRITTEN[file])
    assert check_privacy(study)


def test_weights_of_pytorch_hold_no_names(study: Workspace) -> None:
    weights = torch.nn.Sequential(torch.nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(weights.parameters())
    torch.save(
        {"alpha": weights.state_dict(), "state": optimizer.state_dict()},
        study.root / RUN / "optimizer.pt",
    )
    assert check_privacy(study)


def test_a_code_of_dicom_is_no_short_name(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("Fang^Lo"))
    data = FileDataset("a.dcm", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Manufacturer = "F"
    data.save_as(study.root / "a.dcm")
    assert check_privacy(study)
    data.Manufacturer = "Lo Fang"
    data.save_as(study.root / "a.dcm")
    with pytest.raises(PrivacyError):
        check_privacy(study)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (f"{RUN}/run.json", '{"config": {"grain": "seen by Cross"}}'),
        (f"{RUN}/run.json", '{"operator": "Grain"}'),
        (f"{RUN}/run.json", '{"Ann Cross": 1}'),
        (f"{RUN}/run.json", r'{"note": "the key \"Cross\": of a text"}'),
        (f"{RUN}/run.json", '["Little", "Block"]'),
        (f"{RUN}/eval/test/metrics.json", '{"max_pool": 1, "note": "Max Pool"}'),
        (f"{RUN}/eval/test/report.html", "<p>patient is Grain</p>"),
        (f"{RUN}/eval/test/report.html", "<td>Dr. Cross</td>"),
        (f"{RUN}/eval/test/report.html", "<td>Cross</td>"),
        (f"{RUN}/eval/test/report.html", '<img alt="of Block">'),
        ("planes.toml", '[femur]\naliases = ["Grain"]\n'),
        ("notes.txt", '{"grain": 1}'),
        ("notes.md", "does the mask Block"),
    ],
)
def test_the_same_words_in_values_and_notes_are_private(
    study: Workspace, file: str, text: str
) -> None:
    write_text(study.root / file, text)
    with pytest.raises(PrivacyError):
        check_privacy(study)


@pytest.mark.parametrize("name", SURNAMES[::10])
def test_the_invented_persons_of_the_phantom_are_private(tmp_path: Path, name: str) -> None:
    study = make_study(tmp_path / "study", **person(f"{name}^Zoe"))
    write_text(study.root / "report.html", f"<td>{name}</td>")
    with pytest.raises(PrivacyError):
        check_privacy(study)


def test_no_example_of_a_name_in_the_source_code_is_a_word_of_sono() -> None:
    """Docstrings have examples of names, and are no texts that sono writes."""
    assert not {"lindqvist", "doe", "jane", "meier", "schmidt"} & own_texts.identifiers()
    assert {"grain", "cross", "alpha"} <= own_texts.identifiers()
    assert words("masks")["own"] in own_texts._cells()
