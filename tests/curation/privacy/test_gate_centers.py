"""A center with the short name of a person: free in its own column, a person's everywhere else."""

from pathlib import Path

import pytest
from gate_studies import caption, make_study, person

from sono.curation.core.atomic import write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.core.tables import IMAGES
from sono.curation.privacy.gate import check_privacy

PLACES = ("notes.txt", "report.html", "runs/a/run.json", "sono.toml")


@pytest.mark.parametrize("center", ["Lind", "LIND", "Dr Lind"])
def test_a_center_with_a_short_name_of_a_person_is_free_in_its_column_alone(
    tmp_path: Path, center: str
) -> None:
    study = make_study(tmp_path / "study", **person("LIND^ANNA"), center=center)
    assert check_privacy(study)
    for place in PLACES:
        path = study.root / place
        before = path.read_text() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{before or ''}# <p>seen by Lind, 22 weeks</p>")
        with pytest.raises(PrivacyError, match=place):
            check_privacy(study)
        path.unlink() if before is None else write_text(path, before)
    caption(study, "The femur of Lind.")
    with pytest.raises(PrivacyError, match="column 'text'"):
        check_privacy(study)
    caption(study, "A blind end.")
    study.write(IMAGES, study.read(IMAGES).assign(plane="lind"))
    with pytest.raises(PrivacyError, match="column 'plane'"):
        check_privacy(study)


@pytest.mark.parametrize(
    ("center", "name"), [("Lind", "LINDQVIST^ANNA"), ("A", "DOE^A"), ("Test", "TEST^MARIA")]
)
def test_a_short_center_that_is_nobodys_name_is_free(
    tmp_path: Path, center: str, name: str
) -> None:
    study = make_study(tmp_path / "study", **person(name), center=center)
    write_text(study.root / "report.html", f"<td>{center}</td>")
    assert check_privacy(study)


def test_a_short_center_may_be_made_public(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("LIND^ANNA"), center="Lind")
    text = study.config_path.read_text()
    study.config_path.write_text(text.replace("[study]", '[study]\npublic_words = ["Lind"]'))
    write_text(study.root / "report.html", "<td>Lind</td>")
    assert check_privacy(study)


def test_bytes_that_are_no_text_spell_no_short_name(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", **person("LIND^ANNA"), center="Lind")
    (study.root / "weights.bin").write_bytes(
        bytes(range(128, 256)) * 9 + b" lind " + bytes(range(128, 256)) * 9
    )
    assert check_privacy(study)
