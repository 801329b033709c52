"""What `sono planes` prints."""

import re
from io import StringIO

from rich.console import Console

from sono.annotation.captioning.ontology import Ontology
from sono.curation.clinical.findings import FINDINGS
from sono.curation.core.planes import PLANES, PlaneTable

ONTOLOGY = Ontology.of(PlaneTable())


def test_the_table_fits_a_terminal_and_names_every_plane() -> None:
    console = Console(width=200, record=True, file=StringIO())
    console.print(ONTOLOGY)
    text = console.export_text()
    assert all(plane.id in text for plane in PLANES)
    assert "uterine artery" in text and "ISUOG fetal CNS part 1 (screening), 2020" in text
    assert "unknown" not in text


def test_the_certain_codes_are_there_and_others_are_null() -> None:
    assert {one["measure"]: one["loinc"] for one in ONTOLOGY.measures} == {
        "hc": "11984-2", "bpd": "11820-8", "ofd": "11851-3", "ac": "11979-2", "fl": "11963-6",
    }  # fmt: skip
    assert all(one["convention"] for one in ONTOLOGY.measures)
    codes = {one["name"]: one["hpo"] for one in ONTOLOGY.findings}
    assert codes["ventriculomegaly"] == "HP:0002119" and codes["round"] is None
    given = [code for code in codes.values() if code]
    assert len(given) == len(set(given)) == 33
    assert all(re.fullmatch(r"HP:\d{7}", code) for code in given)
    guidelines = {one["id"]: one["guideline"] for one in ONTOLOGY.planes}
    assert guidelines["gallbladder"] is None


def test_seven_attributes_have_closed_vocabularies_and_the_anatomy_tree_is_the_other_two() -> None:
    sizes: dict[str, int] = {}
    for one in FINDINGS.values():
        sizes[one.attribute] = sizes.get(one.attribute, 0) + (not one.hpo and not one.places)
    assert sizes == {
        "diagnosis": 5, "shape": 8, "margins": 2, "echogenicity": 5, "internal": 6, "posterior": 2,
        "vascularity": 5,
    }  # fmt: skip
    assert all(one["region"] and one["structures"] for one in ONTOLOGY.planes)


def test_every_label_says_who_stands_for_it() -> None:
    labels = [label for one in (*ONTOLOGY.planes, *ONTOLOGY.outside) for label in one["labels"]]
    assert len(labels) > 250
    assert all(label["language"] and label["source"] for label in labels)
    assert {label["language"] for label in labels if label["reviewed"]} == {"English"}
