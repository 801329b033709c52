"""A study as a data set: what each layout holds, read back by the tools it is made for."""

import csv
import io
import itertools
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from studies import fill_vault

from sono.annotation.masks import mask_row, mask_table
from sono.annotation.release.export import Layout, export_dataset, write_card
from sono.annotation.release.import_dataset import import_dataset
from sono.annotation.release.questions import ASKED
from sono.annotation.release.read_samples import read_samples
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.rle import decode, encode
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, rows_of
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy

Picture = NDArray[np.uint8]
LAYOUTS: tuple[Layout, ...] = (
    "huggingface", "imagefolder", "webdataset", "coco", "open-clip", "sonoclip",
)  # fmt: skip
SPLITS = ["train", "train", "val", "test", None]
PLANES = ["femur", "transthalamic", "other", None, "femur"]


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """Five frames in all splits, with holes, parts and overlaps in masks, and unknown facts."""
    workspace = Workspace.create(tmp_path / "study")
    rows: list[dict[str, Any]] = []
    masks, captions = [], []
    for number, (split, plane) in enumerate(zip(SPLITS, PLANES, strict=True)):
        gray = np.random.default_rng(number).integers(20, 200, (66, 67 + number), np.uint8)
        image_id = image_id_of(gray)
        file = frame_file(image_id, gray)
        (workspace.root / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / file).write_bytes(encode_png(gray))
        row: dict[str, Any] = {
            "image_id": image_id, "source_id": f"{number:016x}", "frame": 0, "split": split,
            "status": "accepted", "height": gray.shape[0], "width": gray.shape[1], "file": file,
            "plane": plane, "reasons": ["soft"] * (number == 1),
        }  # fmt: skip
        if number < 2:
            row |= {"patient_id": f"{number:016x}", "center": "A", "ga_days": 150, "bpd_mm": 52.5}
            row |= {"findings": ["normal appearance"]}
        rows.append(row)
        if number != 4:
            ring = np.zeros(gray.shape, np.bool_)
            ring[3:15, 4:20], ring[6:9, 7:12] = True, False
            parts = np.zeros(gray.shape, np.bool_)
            parts[0, 0] = parts[20:, 25:] = True
            masks += [
                mask_row(row, ring, "fetal head", "import", state="accepted"),
                mask_row(row, parts | ring, "thalami", "sam", state="edited", reviewer="R1"),
                mask_row(row, parts, "femur", "heuristic", state="proposed"),
                mask_row(row, ring, "femur", "sam", state="rejected"),
            ]
        texts = {"standard-1": f"Caption {number} of the fetal head; naïve", "short-1": "Another."}
        captions += [_caption(image_id, text, template) for template, text in texts.items()]
    workspace.write(IMAGES, from_rows(IMAGES, rows))
    workspace.write(MASKS, mask_table(masks))
    table = rows_of(workspace.masks())
    captions += [
        _caption(mask["image_id"], f"The {mask['structure']}.", "short-1", mask["mask_id"])
        for mask in table
    ]
    workspace.write(CAPTIONS, from_rows(CAPTIONS, captions))
    fill_vault(workspace)
    return workspace


def _caption(
    image_id: str, text: str, template: str, mask_id: str | None = None
) -> dict[str, object]:
    level = "region" if mask_id else "global"
    return {
        "image_id": image_id, "mask_id": mask_id, "level": level, "text": text,
        "template": template, "tier": "full", "tokens": 5, "fields": [],
    }  # fmt: skip


def truth(study: Workspace, proposed: bool = False) -> dict[str, dict[str, Any]]:
    """What every reader must find, by image id."""
    wanted = {"accepted", "edited", *(["proposed"] if proposed else [])}
    masks = [row for row in rows_of(study.masks()) if row["state"] in wanted]
    captions = rows_of(study.captions())
    captions.sort(key=lambda row: (not row["template"].startswith("standard"), row["template"]))
    found = {}
    for row in rows_of(study.images()):
        image_id = row["image_id"]
        split = {None: "unassigned", "val": "validation"}.get(row["split"], row["split"])
        found[image_id] = {
            "pixels": np.asarray(Image.open(study.root / row["file"])),
            "split": split,
            "plane": row["plane"],
            "captions": [
                one["text"]
                for one in captions
                if one["image_id"] == image_id and one["mask_id"] is None
            ],
            "masks": {
                one["mask_id"]: decode(one["counts"], one["height"], one["width"])
                for one in masks
                if one["image_id"] == image_id
            },
        }
    return found


def assert_same(found: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == wanted.keys()
    for image_id, one in wanted.items():
        mine = found[image_id]
        assert {k: mine[k] for k in ("split", "plane", "captions") if k in mine} == {
            k: one[k] for k in ("split", "plane", "captions") if k in mine
        }
        np.testing.assert_array_equal(mine["pixels"], one["pixels"])
        assert mine["masks"].keys() == one["masks"].keys()
        for mask_id, pixels in one["masks"].items():
            np.testing.assert_array_equal(mine["masks"][mask_id], pixels)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


def load(folder: Path, cache: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def from_datasets(loaded: Any, names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The samples of all splits; `names` are those of planes that are numbers."""
    found = {}
    for split, table in loaded.items():
        for row in table:
            plane = row["plane"]
            found[row["image_id"]] = {
                "pixels": np.asarray(row["image"]),
                "split": split,
                "plane": names[plane] if names and plane is not None else plane,
                "captions": row["captions"],
                "masks": {one["mask_id"]: np.asarray(one["mask"]) > 0 for one in row["masks"]},
            }
    return found


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("proposed", [False, True])
def test_datasets_loads_parquet_with_types(
    study: Workspace, tmp_path: Path, proposed: bool
) -> None:
    summary = export_dataset(study, tmp_path / "out", "huggingface", proposed)
    loaded = load(tmp_path / "out", tmp_path / "cache")
    kinds = loaded["train"].features
    assert type(kinds["image"]).__name__ == "Image"
    assert type(kinds["masks"].feature["mask"]).__name__ == "Image"
    names = kinds["plane"].names
    assert len(names) == 25
    assert names[-1] == "other"
    assert kinds["ga_days"].dtype == "int32"
    assert_same(from_datasets(loaded, names), truth(study, proposed))
    assert summary.masks == (12 if proposed else 8)
    assert any("4 masks were not reviewed" in one for one in summary.remarks) is not proposed


@pytest.mark.usefixtures("offline")
def test_datasets_loads_the_image_folder(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "imagefolder")
    assert_same(from_datasets(load(tmp_path / "out", tmp_path / "cache")), truth(study))


@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_is_valid_and_loads_equal_frames(
    study: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    with study.config_path.open("a", encoding="utf-8") as settings:
        settings.write('\n[card]\npublished = "2026-11-29"\n')
    export_dataset(study, tmp_path / "out", "huggingface")
    monkeypatch.chdir(tmp_path)
    described = mlcroissant.Dataset(tmp_path / "out" / "croissant.json")
    issues = described.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    names = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert len([key for key in names if key.startswith("rai:")]) == 20
    found = {}
    for row in itertools.islice(described.records("frames"), 100):
        get = {key.removeprefix("frames/"): value for key, value in row.items()}
        ids = [one.decode() for one in get["mask_ids"]]
        found[get["image_id"].decode()] = {
            "pixels": np.asarray(get["image"]),
            "split": get["split"].decode(),
            "captions": [one.decode() for one in get["captions"]],
            "masks": {
                one: np.asarray(mask) > 0 for one, mask in zip(ids, get["masks"], strict=True)
            },
        }
    assert_same(found, truth(study))


@pytest.mark.usefixtures("offline")
def test_datasets_loads_webdataset_with_types(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "webdataset")
    loaded = load(tmp_path / "out", tmp_path / "cache")
    kinds = loaded["train"].features["json"]
    assert (kinds["ga_days"].dtype, kinds["crl_mm"].dtype) == ("int32", "float32")
    found = {}
    for split, table in loaded.items():
        for row in table:
            values = row["json"]
            found[row["__key__"]] = {
                "pixels": np.asarray(row["png"]),
                "split": split,
                "plane": values["plane"],
                "captions": values["captions"],
                "masks": {one["mask_id"]: _pixels(one["segmentation"]) for one in values["masks"]},
            }
            assert row["txt"] == values["captions"][0]
    assert_same(found, truth(study))


def test_webdataset_shards_hold_everything(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "webdataset")
    found = {}
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as members:
            files = {one.name: members.extractfile(one).read() for one in members}  # type: ignore[union-attr]
        for name, content in files.items():
            stem, suffix = name.split(".", 1)
            if suffix == "json":
                values = json.loads(content)
                assert files[f"{stem}.txt"].decode() == values["captions"][0]
                found[stem] = {
                    "pixels": np.asarray(Image.open(io.BytesIO(files[f"{stem}.png"]))),
                    "split": shard.name.rsplit("-", 1)[0],
                    "plane": values["plane"],
                    "captions": values["captions"],
                    "masks": {
                        one["mask_id"]: _pixels(one["segmentation"]) for one in values["masks"]
                    },
                }
    assert_same(found, truth(study))


def _pixels(runs: dict[str, Any]) -> NDArray[np.bool_]:
    return decode(runs["counts"], *runs["size"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_captions_and_instances(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "coco")
    found: dict[str, dict[str, Any]] = {}
    for split in ("train", "validation", "test", "unassigned"):
        captions = COCO(tmp_path / "out" / "annotations" / f"captions_{split}.json")
        instances = COCO(tmp_path / "out" / "annotations" / f"instances_{split}.json")
        for image in captions.loadImgs(captions.getImgIds()):
            own = instances.loadAnns(instances.getAnnIds(image["id"]))
            found[image["image_id"]] = {
                "pixels": np.asarray(Image.open(tmp_path / "out/images" / image["file_name"])),
                "split": split,
                "plane": image["plane"],
                "captions": [
                    one["caption"] for one in captions.loadAnns(captions.getAnnIds(image["id"]))
                ],
                "masks": {
                    one["attributes"]["mask_id"]: instances.annToMask(one) > 0 for one in own
                },
            }
            assert all(one["area"] == instances.annToMask(one).sum() for one in own)
    assert_same(found, truth(study))


def test_open_clip_reads_a_row_for_each_caption(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "open-clip")
    wanted = truth(study)
    rows = []
    for table in (tmp_path / "out").glob("*.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file, delimiter="\t"))
    pairs = sorted((Path(row["filepath"]).stem, row["title"]) for row in rows)
    assert pairs == sorted((name, text) for name, one in wanted.items() for text in one["captions"])
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / "out" / row["filepath"]))
        np.testing.assert_array_equal(pixels, wanted[Path(row["filepath"]).stem]["pixels"])


def test_sonoclip_finds_its_fields(study: Workspace, tmp_path: Path) -> None:
    """Read as the published code does: stems, then JSON and picture of each."""
    export_dataset(study, tmp_path / "out", "sonoclip")
    data = tmp_path / "out" / "data"
    wanted = truth(study)
    values = json.loads((tmp_path / "out/test/ul_test.json").read_text())
    places = dict.fromkeys(values, tmp_path / "out/test/images")
    for split in ("train", "val", "unassigned"):
        for stem in (data / f"{split}_stems.txt").read_text().split():
            values[stem] = json.loads((data / "jsons" / f"{stem}.json").read_text())
            places[stem] = data / "images"
    found = {}
    for stem, one in values.items():
        lengths = {len(one[name]) for name in ("ref_exps", "mask_captions", "seudo_masks")}
        assert lengths == {len(wanted[stem]["masks"])}
        for (start, end), mask in zip(one["ref_exps"], one["masks"], strict=True):
            named = one["caption"][start:end]
            assert named == (
                mask["structure"] if mask["structure"] in one["caption"] else one["caption"]
            )
        assert one["caption"] == one["captions"][0]
        ids = [mask["mask_id"] for mask in one["masks"]]
        found[stem] = one | {
            "pixels": np.asarray(Image.open(places[stem] / f"{stem}.png")),
            "masks": dict(zip(ids, map(_pixels, one["seudo_masks"]), strict=True)),
        }
    assert_same(found, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_can_be_repeated_and_checked(
    study: Workspace, tmp_path: Path, layout: Layout
) -> None:
    for name in ("one", "two"):
        export_dataset(study, tmp_path / name, layout)
    files = [
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert files[0] == files[1]
    assert os.system(f"cd {tmp_path / 'one'} && sha256sum --check --quiet SHA256SUMS") == 0
    assert len((tmp_path / "one/SHA256SUMS").read_text().splitlines()) == len(files[0]) - 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_frame_leaves_nothing(study: Workspace, tmp_path: Path, layout: Layout) -> None:
    path = study.root / rows_of(study.images())[2]["file"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SonoError, match="missing or damaged"):
        export_dataset(study, tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_private_string_stops_every_layout(
    study: Workspace, tmp_path: Path, layout: Layout
) -> None:
    sources = study.sources()
    sources["private"] = [["Okonkwo"]] * len(sources)
    study.write_vault(study.sources_path, SOURCES, sources)
    captions = study.captions()
    captions.loc[captions["level"] == "global", "text"] = "The femur of Okonkwo."
    study.write(CAPTIONS, captions)
    with pytest.raises(PrivacyError):
        export_dataset(study, tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()


def test_a_study_without_captions_says_what_to_do(study: Workspace, tmp_path: Path) -> None:
    study.path(CAPTIONS).unlink()
    with pytest.raises(SonoError, match="sono captions build"):
        export_dataset(study, tmp_path / "out", "huggingface")


def test_the_card_states_what_is_set_and_names_what_is_not(
    study: Workspace, tmp_path: Path
) -> None:
    with study.config_path.open("a", encoding="utf-8") as settings:
        settings.write('\n[card]\nethics = "Board 7, waived | 2025"\nduo = "DUO:0000042"\n')
    summary = write_card(study)
    text = summary.path.read_text()
    assert write_card(study).path == study.root / "README.md"
    assert "| Which ethics committee approved it? | Board 7, waived \\| 2025 |" in text
    assert set(summary.not_stated) == ASKED.keys() - {"ethics", "duo"}
    assert text.count("| not stated |") == len(summary.not_stated)
    assert "| read | 5 | from 5 files |" in text
    assert "; 1 code of remarks on quality" in text
    assert "21+3 to 21+3 weeks, median 21+3" in text
    assert "| fetal head | import | 0 | 4 | 0 | 0 |" in text
    export_dataset(study, tmp_path / "out", "huggingface")
    assert json.loads((tmp_path / "out/croissant.json").read_text())["usageInfo"].endswith(
        "0000042"
    )


def test_a_wrong_term_of_use_is_refused(study: Workspace, tmp_path: Path) -> None:
    with study.config_path.open("a", encoding="utf-8") as settings:
        settings.write('\n[card]\nduo = "research only"\n')
    with pytest.raises(SonoError, match=r"card\.duo"):
        write_card(study)


def test_a_file_that_is_no_card_is_not_replaced(study: Workspace) -> None:
    (study.root / "README.md").write_text("mine")
    with pytest.raises(SonoError, match="not a card"):
        write_card(study)
    assert (study.root / "README.md").read_text() == "mine"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_center_named_like_its_folder_and_a_patient_like_a_word_of_the_card_pass(
    study: Workspace, tmp_path: Path, layout: Layout
) -> None:
    sources = study.sources()
    sources["private"] = [["Nijmegen", "Funded Questions"]] * len(sources)
    sources["persons"] = [["Funded Questions"]] * len(sources)
    sources["center"] = "nijmegen"
    study.write_vault(study.sources_path, SOURCES, sources)
    study.write(IMAGES, study.read(IMAGES).assign(center="nijmegen"))
    assert export_dataset(study, tmp_path / "out", layout).private_strings
    write_card(study)
    (study.root / "README.md").write_text("The patient of Nijmegen.")
    note = study.root / "note.md"
    note.write_text("A patient of Nijmegen.")
    with pytest.raises(PrivacyError, match=r"note\.md"):
        check_privacy(study)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_data_set_is_exported_again_as_it_was(
    study: Workspace, tmp_path: Path, layout: Layout
) -> None:
    written = export_dataset(study, tmp_path / "out", layout, proposed=True)
    other = Workspace.create(tmp_path / "other")
    summary = import_dataset(other, tmp_path / "out")
    assert summary.frames == {"train": 2, "validation": 1, "test": 1, "unassigned": 1}
    masks = 0 if layout == "open-clip" else 12
    counts = (summary.frame_captions, summary.masks, summary.mask_captions)
    assert counts == (5 * 2, masks, masks)
    assert counts == (written.frame_captions, written.masks, written.mask_captions)
    assert summary.checksums > 0
    wanted = truth(study, proposed=True)
    if layout == "open-clip":
        wanted = {name: one | {"plane": None, "masks": {}} for name, one in wanted.items()}
        assert "5 frames have no plane in the data set" in summary.remarks
        assert "12 masks have no place in this layout" in written.remarks
    assert_same(truth(other, proposed=True), wanted)
    export_dataset(other, tmp_path / "again", layout, proposed=True)
    described = {"README.md", "croissant.json", "SHA256SUMS"}  # name the study
    first, second = (
        {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and path.name not in described
        }
        for root in (tmp_path / "out", tmp_path / "again")
    )
    assert first == second


def test_frames_of_a_held_out_center_are_marked_in_every_layout(
    study: Workspace, tmp_path: Path
) -> None:
    """With the center's own frames go those that training leaves out because of it."""
    images = study.images()
    centers = ["North", "South", "South", "South", "South"]
    patients = ["p1", "p2", "p1", "p3", "p4"]
    study.write(IMAGES, images.assign(center=centers, patient_id=patients))
    fill_vault(study)
    settings = study.config_path.read_text()
    for hold_out, marks in (((), [None] * 5), (("North",), [True, False, True, False, False])):
        study.config_path.write_text(f"{settings}\n[training]\nhold_out = {list(hold_out)}\n")
        for layout in LAYOUTS:
            out = tmp_path / f"{layout}{len(hold_out)}"
            summary = export_dataset(study, out, layout)
            assert summary.held_out == (2 if hold_out else None)
            found = {one.values.get("image_id"): one.values for one in read_samples(out)}
            held = [found[image_id].get("held_out") for image_id in images["image_id"]]
            as_text = {None: None, True: "true", False: "false"}
            assert held == ([as_text[one] for one in marks] if layout == "open-clip" else marks)
            card = (out / "README.md").read_text()
            assert ("Held out of training: North. 2 frames are marked" in card) == bool(hold_out)
            assert ("names no center, so no frame is marked" in card) != bool(hold_out)
    summary = import_dataset(Workspace.create(tmp_path / "other"), tmp_path / "coco1")
    assert "2 frames are marked as held out of training, of North (1), South (1)" in " ".join(
        summary.remarks
    )


def test_a_published_sonoclip_folder_is_read_by_its_field_rules(tmp_path: Path) -> None:
    data = tmp_path / "given" / "data"
    for name in ("images", "jsons"):
        (data / name).mkdir(parents=True)
    gray = np.random.default_rng(5).integers(20, 200, (66, 67), np.uint8)
    mask = np.zeros(gray.shape, np.bool_)
    mask[3:9, 4:20] = True
    runs = {"size": [66, 67], "counts": encode(mask)}
    caption = "A 22-week fetal ultrasound image of femur plane showing femur and tibia."
    span = [caption.index("tibia"), caption.index("tibia") + 5]
    fields = {"caption": caption, "ref_exps": [span], "seudo_masks": [runs]}
    (data / "train_stems.txt").write_text("case_1\ncase_2\n")
    for stem, more in {"case_1": {}, "case_2": {"mask_captions": ["The marked tibia."]}}.items():
        (data / "images" / f"{stem}.png").write_bytes(encode_png(gray + len(more)))
        (data / "jsons" / f"{stem}.json").write_text(json.dumps(fields | more))
    study = Workspace.create(tmp_path / "study")
    import_dataset(study, tmp_path / "given")
    images, masks = study.images().set_index("image_id"), study.masks()
    assert set(images.index) == {image_id_of(gray), image_id_of(gray + 1)}
    assert set(images["split"]) == {"train"} and images["plane"].isna().all()
    assert (set(masks["structure"]), set(masks["state"])) == ({"tibia"}, {"proposed"})
    assert set(masks["counts"]) == {encode(mask)}
    regional = study.captions().dropna(subset=["mask_id"]).set_index("image_id")["text"]
    assert regional.to_dict() == {
        image_id_of(gray): "tibia",
        image_id_of(gray + 1): "The marked tibia.",
    }


def test_what_is_damaged_or_used_is_not_imported(study: Workspace, tmp_path: Path) -> None:
    export_dataset(study, tmp_path / "out", "sonoclip")
    with pytest.raises(SonoError, match="has frames already"):
        import_dataset(study, tmp_path / "out")
    with pytest.raises(SonoError, match="not a data set that is read here"):
        import_dataset(Workspace.create(tmp_path / "a"), tmp_path)
    picture = next((tmp_path / "out/data/images").iterdir())
    content = picture.read_bytes()
    picture.write_bytes(content[:-30])
    other = Workspace.create(tmp_path / "b")
    with pytest.raises(SonoError, match="not the file that SHA256SUMS lists"):
        import_dataset(other, tmp_path / "out")
    (tmp_path / "out/SHA256SUMS").unlink()
    with pytest.raises(SonoError, match="not a readable picture"):
        import_dataset(other, tmp_path / "out")
    picture.write_bytes(content)
    stems = tmp_path / "out/data/train_stems.txt"
    stems.write_text("../../secret\n")
    with pytest.raises(SonoError, match="cannot be the name of a file"):
        import_dataset(other, tmp_path / "out")
    assert not other.path(IMAGES).exists() and not other.path(CAPTIONS).exists()
