"""List every command of the command line, with arguments for a small study.

Each has its words, what it reads, and what it needs from the vault.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import pytest
from clip_files import ARCHITECTURE, TINY, random_clip, write_openai, write_sonoclip
from phantom_frames import write_frames
from typer.main import get_command

import sono.cli
from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.release.export import export_dataset
from sono.annotation.rewriting.chat_client import ChatClient
from sono.annotation.rewriting.rewrite import ANSWERS, answer_key, plan_rewrite
from sono.curation.core.engine import Engine
from sono.curation.core.planes import PLANES as PLANES_IN_USE
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.qc import QcOptions, run_qc
from sono.curation.quarantine import _held
from sono.training.model import architectures

# What a command needs of the vault: nothing, the vault itself, the vault or --no-vault, or else it
# warns.
Need = Literal["nothing", "vault", "search", "warning"]
SETTINGS = """
planes_file = "planes.toml"
[training]
model = "tiny"
text = "clip"
image_size = 32
epochs = 1
batch_size = 4
[segmenter]
image_size = 64
[evaluation]
bootstrap_draws = 100
modes = ["all_one"]
"""
PRIVATE = ("Okonkwo", "Lindqvist", "Abernathy", "MRN700")  # of given/records.csv


@dataclass(frozen=True)
class Place:
    """A folder `base` with a study, its vault, input files of commands, and the output `out`."""

    base: Path
    raw: Path  # of the first study: its files are known
    held: str  # a picture in the quarantine
    url: str = ""

    @property
    def study(self) -> Workspace:
        return Workspace(self.base / "study")

    @property
    def out(self) -> Path:
        return self.base / "out"

    def copy(self, base: Path) -> "Place":
        """A copy that a test may change.

        Large files are hard links: commands may replace them, but never write into them.
        """
        shutil.copytree(
            self.base, base, symlinks=True, dirs_exist_ok=True, copy_function=_link_or_copy
        )
        return replace(self, base=base)


def _link_or_copy(source: str, target: str) -> None:
    (os.link if Path(source).stat().st_size > 50_000 else shutil.copy2)(source, target)


@dataclass(frozen=True)
class Command:
    """One command: the words after `sono`, what it reads and where it writes.

    {} in the words are parts of the place; what it reads is given below the place.
    """

    words: str
    needs: Need
    reads: tuple[str, ...] = ()
    makes: str = ""  # a file or folder, below the place, that is there as a whole or not at all
    in_study: bool = True  # takes -w
    writes: int = 0  # how many files and folders get their final name
    room: int = 2000  # bytes of a file, which at least one of them exceeds
    # lets the study be as it is before the command has work to do
    begin: Callable[[Place], None] = lambda place: None

    @property
    def name(self) -> str:
        """The command without its options."""
        words = self.words.split(" -")[0].split()
        return " ".join(word for word in words if word.replace("-", "").isalpha())

    def again(self, place: Place) -> list[str]:
        """The command line that continues the command after it was interrupted.

        It is the same command line; a run of `sono train` is resumed with --resume.
        """
        resumed = self.name == "train" and (place.study.runs / "new" / "last").exists()
        return self.line(place, *(["--resume"] if resumed else []))

    def line(self, place: Place, *more: object) -> list[str]:
        """The command line at a place."""
        parts = {
            "given": place.base / "given",
            "out": place.out,
            "held": place.held,
            "url": place.url,
        }
        words = self.words.format(raw=place.raw, **parts).split()
        return [*words, *map(str, more), *(["-w", str(place.study.root)] if self.in_study else [])]


def _new(place: Place) -> None:
    """As before the first `sono qc`."""
    for path in (place.study.path(IMAGES), place.study.sources_path):
        path.unlink()
    for folder in (place.study.frames, place.study.quarantine):
        shutil.rmtree(folder)


def _a_pair(place: Place) -> None:
    """With a second frame that nearly repeats one of the first."""
    more = place.base / "more"
    more.mkdir()
    gray = cv2.imdecode(np.fromfile(place.raw / "0.png", np.uint8), cv2.IMREAD_GRAYSCALE)
    (more / "again.png").write_bytes(cv2.imencode(".png", cv2.subtract(gray, 2))[1].tobytes())
    run_qc(place.study, QcOptions(more, center="A"), Engine(jobs=1))


def _spaced(place: Place) -> None:
    """Frames of known pixel spacing, with a bone as their mask."""
    images = place.study.read(IMAGES)
    images["row_spacing_mm"] = images["col_spacing_mm"] = 0.2
    place.study.write(IMAGES, images)
    femurs = [row for row in rows_of(place.study.accepted_images()) if row["plane"] == "femur"]
    masks = []
    for row in femurs:
        bone = np.zeros((row["height"], row["width"]), np.bool_)
        bone[60:80, 80:160] = True
        masks.append(mask_row(row, bone, "femur", "manual", state="accepted"))
    place.study.write(MASKS, mask_table(masks))


def _rewritten(place: Place) -> None:
    """With the answers of a language model to all captions."""
    client = ChatClient("http://127.0.0.1:9/v1", "toy")
    plan = plan_rewrite(place.study, client)
    lines = [
        {"key": answer_key(plan.template, task), "text": f"This is {task.text}", "refused": []}
        for task in plan.tasks
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (place.study.root / ANSWERS).write_text(text)


def _exported(place: Place) -> None:
    """With a data set of the frames, and as before the first `sono qc`."""
    export_dataset(place.study, place.base / "given" / "data", "sonoclip")
    _new(place)
    for table in (MASKS, CAPTIONS):
        place.study.path(table).unlink()


def _two_evaluations(place: Place) -> None:
    """With two evaluated runs on the same frames."""
    planes = [plane.id for plane in PLANES_IN_USE]
    ids = [f"{number:016x}" for number in range(40)]
    for name, share in (("run-1", 0.5), ("run-2", 0.9)):
        folder = place.study.runs / name / "eval" / "test"
        folder.mkdir(parents=True)
        right = np.random.default_rng(1).random(40) < share
        scores = [np.eye(len(planes))[number % 2 if hit else 5] for number, hit in enumerate(right)]
        table = pd.DataFrame(
            {
                "image_id": ids,
                "cluster": [number // 4 for number in range(40)],
                "plane": [planes[number % 2] for number in range(40)],
                "mode": "all_one",
                "scores": scores,
            }
        )
        table.to_parquet(folder / "predictions.parquet", index=False)
        metrics = {"run": name, "first_line": "toy", "candidates": planes, "checkpoint": "end"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder.parents[1] / "run.json").write_text("{}")


def _two_centers(place: Place) -> None:
    """With every second patient at another center, of fewer frames than a batch needs regions."""
    config = place.study.config_path
    config.write_text(config.read_text().replace("batch_size = 4", "batch_size = 2"))
    config.write_text(config.read_text().replace("[training]", "[training]\nregion_weight = 0"))
    images = place.study.read(IMAGES)
    patients = sorted(images["patient_id"].dropna().unique())
    images.loc[images["patient_id"].isin(patients[::2]), "center"] = "B"
    place.study.write(IMAGES, images)


def _no_masks(place: Place) -> None:
    place.study.path(MASKS).unlink()


SETTING, TABLES, VAULT = (
    "study/sono.toml",
    ("study/images.parquet", "study/masks.parquet"),
    "study.vault/sources.parquet",
)
WEIGHTS = ("end/model.json", "end/model.safetensors")
CAPTIONED = (*TABLES, "study/captions.parquet")
PLANES, KEY, LOCK = "study/planes.toml", "study.vault/key", "study/.lock"
FRAME, TEST_FRAME = "a frame of train", "a frame of test"
IMAGE, RUN = TABLES[0], "study/runs/toy"

COMMANDS: dict[str, Command] = {
    "init": Command("init {out}", "nothing", makes="out.vault", in_study=False, writes=3, room=100),
    "phantom": Command(
        "phantom {out} --patients 4 --frames 2 -q",
        "nothing",
        makes="out",
        in_study=False,
        writes=48,
    ),
    "pull": Command(
        "pull {url} {out} --patient-file {given}/patients.txt -q",
        "nothing",
        ("given/patients.txt", "out/.pull.jsonl"),
        in_study=False,
        writes=10,
        room=1000,
    ),
    "qc": Command(
        "qc {given}/raw --records {given}/records.csv --center A --jobs 1 -q",
        "vault",
        (SETTING, PLANES, "given/records.csv", KEY, LOCK),
        begin=_new,
        writes=16,
    ),
    "qc again": Command(
        "qc {raw} --records {given}/records.csv --center A --jobs 1 -q",
        "vault",
        (IMAGE, VAULT, "study.vault/released.parquet"),
        writes=2,
    ),
    "split": Command("split --seed 5", "warning", (SETTING, IMAGE, LOCK), writes=1),
    "split folds": Command("split --folds 3 --fold 1", "warning", (IMAGE, VAULT), writes=1),
    "split check": Command("split --check", "nothing", (SETTING, IMAGE)),
    "dedup": Command("dedup -q", "warning", (SETTING, IMAGE, VAULT), writes=1),
    "dedup csv": Command("dedup -q --csv {out}/pairs.csv", "search", (IMAGE,), writes=2, room=100),
    "dedup sheet": Command(
        "dedup -q --sheet {out}/pairs.png",
        "search",
        (IMAGE,),
        "out/pairs.png",
        writes=2,
        begin=_a_pair,
    ),
    "records check": Command(
        "records check {given}/records.csv --raw {given}/raw",
        "nothing",
        (SETTING, PLANES, "given/records.csv", VAULT),
    ),
    "list": Command("list", "vault", (SETTING, IMAGE, VAULT), writes=1, room=100),
    "quarantine show": Command(
        "quarantine show", "vault", (SETTING, IMAGE, VAULT, "held"), writes=1
    ),
    "quarantine release": Command(
        "quarantine release {held} --reviewer KM",
        "vault",
        (IMAGE, VAULT, LOCK, "study.vault/released.parquet", "held"),
        writes=3,
    ),
    "quarantine reject": Command(
        "quarantine reject {held} --reviewer KM",
        "vault",
        (IMAGE, VAULT, LOCK, "study.vault/released.parquet"),
        writes=2,
    ),
    "export dicom": Command(
        "export dicom {out} -q", "vault", (SETTING, IMAGE, FRAME, KEY), "out", writes=13
    ),
    "export shards": Command(
        "export shards {out} --pairs 2 -q",
        "search",
        (SETTING, PLANES, *CAPTIONED, FRAME),
        "out",
        writes=5,
    ),
    "export dataset": Command(
        "export dataset {out} -q", "search", (SETTING, PLANES, *CAPTIONED, FRAME), "out", writes=1
    ),
    "import dataset": Command(
        "import dataset {given}/data -q", "vault", (SETTING, PLANES), begin=_exported, writes=16
    ),
    "card": Command("card -q", "warning", (SETTING, PLANES, *CAPTIONED), writes=1),
    "masks import": Command(
        "masks import {given}/masks.json",
        "vault",
        (SETTING, *TABLES, VAULT, LOCK, "given/masks.json"),
        begin=_no_masks,
        writes=1,
    ),
    "masks import pictures": Command(
        "masks import {given}/masks --structure femur",
        "vault",
        ("given/masks/1.png",),
        begin=_no_masks,
    ),
    "masks import labelme": Command(
        "masks import {given}/labelme", "vault", ("given/labelme/1.json",), begin=_no_masks
    ),
    "masks import boxes": Command(
        "masks import {given}/boxes.csv", "vault", ("given/boxes.csv",), begin=_no_masks
    ),
    "masks propose": Command(
        "masks propose --jobs 1 -q",
        "warning",
        (SETTING, *TABLES, FRAME, LOCK),
        begin=_no_masks,
        writes=2,
    ),
    "masks propose sam": Command(
        "masks propose --checkpoint {given}/clip.pt -q", "warning", ("given/clip.pt",)
    ),
    "masks train": Command(
        "masks train --name new --steps 1 -q",
        "warning",
        (SETTING, *TABLES, FRAME),
        writes=1,
    ),
    "masks export": Command(
        "masks export {out}/masks.json", "search", (SETTING, *TABLES), "out/masks.json", writes=1
    ),
    "masks measure": Command(
        "masks measure -q",
        "warning",
        (SETTING, PLANES, *TABLES, LOCK),
        begin=_spaced,
        writes=1,
    ),
    "masks overlays": Command(
        "masks overlays {out} --count 999",
        "search",
        (SETTING, *TABLES, FRAME),
        "out/masks.png",
        writes=1,
    ),
    "planes": Command("planes --json", "nothing", (SETTING, PLANES)),
    "planes check": Command(
        "planes check {given}/records.csv", "nothing", (SETTING, PLANES, "given/records.csv")
    ),
    "captions build": Command(
        "captions build -q", "warning", (SETTING, PLANES, *TABLES, LOCK), writes=1
    ),
    "captions build template": Command(
        "captions build -q --template {given}/template",
        "warning",
        tuple(f"given/template/{name}" for name in ("global.j2", "region.j2", "prompts.j2")),
    ),
    "captions lint": Command("captions lint", "warning", (SETTING, PLANES, *CAPTIONED)),
    "captions preview": Command(
        "captions preview --count 99 --html {out}/captions.html",
        "search",
        (SETTING, PLANES, *CAPTIONED, FRAME),
        "out/captions.html",
        writes=1,
    ),
    "captions rewrite": Command(
        "captions rewrite -q --yes --url http://127.0.0.1:9/v1 --model toy",
        "vault",
        (SETTING, PLANES, "study/images.parquet", "study/captions.parquet", VAULT),
        begin=_rewritten,
        writes=1,
    ),
    "stats": Command("stats -q", "warning", (SETTING, PLANES, *CAPTIONED), writes=1),
    "train": Command(
        "train --name new -q",
        "warning",
        (SETTING, PLANES, *CAPTIONED, FRAME, "study/runs/new"),
        writes=13,
    ),
    "train recipe": Command(
        "train --recipe {given}/recipe.toml -q", "warning", ("given/recipe.toml",)
    ),
    "train from": Command("train --from toy -q", "warning", (f"{RUN}/run.json",)),
    "train resume": Command(
        "train --name toy --resume -q",
        "warning",
        (
            f"{RUN}/run.json",
            f"{RUN}/last/model.json",
            f"{RUN}/last/model.safetensors",
            f"{RUN}/last/optimizer.pt",
            f"{RUN}/log.csv",
        ),
        writes=10,
    ),
    "train init": Command(
        "train --init toy -q",
        "warning",
        tuple(f"{RUN}/{name}" for name in ("run.json", *WEIGHTS)),
    ),
    "eval": Command(
        "eval --run toy --jobs 1 -q",
        "warning",
        (
            f"{RUN}/run.json",
            f"{RUN}/summary.json",
            *CAPTIONED,
            TEST_FRAME,
            f"{RUN}/best/model.json",
            f"{RUN}/best/model.safetensors",
        ),
        f"{RUN}/eval/test",
        writes=5,
    ),
    "leave-one-center-out": Command(
        "leave-one-center-out --output {out}/centers.csv --jobs 1 -q",
        "warning",
        (SETTING, PLANES, *CAPTIONED),
        "out/centers.csv",
        begin=_two_centers,
        writes=42,
    ),
    "model card": Command(
        "model card -q toy",
        "warning",
        (SETTING, f"{RUN}/run.json", f"{RUN}/summary.json"),
        "study/runs/toy/README.md",
        writes=1,
        room=1000,
    ),
    "probe": Command(
        "probe --run toy -q masks",
        "warning",
        (
            SETTING,
            *TABLES,
            TEST_FRAME,
            f"{RUN}/run.json",
            f"{RUN}/best/model.json",
            f"{RUN}/best/model.safetensors",
        ),
        f"{RUN}/probe/masks/test",
        writes=3,
    ),
    "probe biometry": Command(
        "probe -q biometry",
        "warning",
        (SETTING, PLANES, *TABLES, TEST_FRAME),
        "study/runs/weight-free proposer/probe/biometry/test",
        begin=_spaced,
        writes=3,
    ),
    "compare": Command(
        "compare run-1 run-2 --output {out}/table.csv -q",
        "nothing",
        (
            SETTING,
            PLANES,
            "study/runs/run-1/eval/test/metrics.json",
            "study/runs/run-2/eval/test/predictions.parquet",
        ),
        "out/table.csv",
        begin=_two_evaluations,
        writes=1,
        room=100,
    ),
    "predict": Command(
        "predict {raw} --run toy --picture {out}/look.png --jobs 1 -q",
        "nothing",
        (
            SETTING,
            PLANES,
            f"{RUN}/run.json",
            f"{RUN}/best/model.json",
            f"{RUN}/best/model.safetensors",
        ),
        "out/look.png",
        writes=1,
    ),
    "search": Command(
        "search -q femur --run toy",
        "warning",
        (
            SETTING,
            *CAPTIONED,
            FRAME,
            f"{RUN}/run.json",
            f"{RUN}/best/model.json",
            f"{RUN}/best/model.safetensors",
        ),
        "study/search.png",
        writes=3,
    ),
    "search out": Command(
        "search -q femur --run toy --out {out}/hits.png", "search", makes="out/hits.png", writes=3
    ),
    "model import": Command(
        "model import {given}/clip.pt --name taken",
        "warning",
        ("given/clip.pt",),
        "study/runs/taken/run.json",
        writes=3,
    ),
    "model import base": Command(
        "model import {given}/vision.pth --base {given}/clip.pt --architecture "
        "{given}/architecture.json --name taken",
        "warning",
        ("given/vision.pth", "given/clip.pt", "given/architecture.json"),
    ),
    "model export": Command(
        "model export {out} --run clip --format sonoclip",
        "search",
        tuple(f"study/runs/clip/{name}" for name in ("run.json", *WEIGHTS)),
        "out",
        writes=3,
    ),
    "model export onnx": Command(
        "model export {out} --run clip --format onnx", "search", makes="out", writes=1
    ),
}


def names_of_app() -> set[str]:
    """The commands that the command line has, as `masks import`."""
    found: set[str] = set()

    def walk(command: object, path: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        if inner is None or getattr(command, "invoke_without_command", False):
            found.add(" ".join(path))
        for name, child in (inner or {}).items():
            walk(child, (*path, name))

    walk(get_command(sono.cli.app), ())
    return found


def fan(seed: int, text: str = "") -> bytes:
    """A PNG of speckle in a sector, with bright letters on it."""
    y, x = np.mgrid[:300, :400]
    inside = (np.abs(np.arctan2(x - 200, y + 20)) < 0.6) & (np.hypot(x - 200, y + 20) < 300)
    speckle = np.random.default_rng(seed).rayleigh(40, (300, 400)).clip(0, 255)
    picture = (speckle * inside).astype(np.uint8)
    cv2.putText(picture, text, (130, 150), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    return cv2.imencode(".png", picture)[1].tobytes()


def make_place(base: Path, seed: int = 0, runs: bool = True) -> Place:
    """Make a place with a study that has been through every stage.

    It has six patients with two frames each, a frame with letters on it, masks, captions and runs.
    """
    given, study = base / "given", Workspace.create(base / "study")
    _write_given(given, seed)
    study.config_path.write_text(study.config_path.read_text() + SETTINGS)
    (study.root / "planes.toml").write_text('[femur]\naliases = ["thigh bone"]\n')
    run_qc(study, QcOptions(given / "raw", given / "records.csv", center="A"), Engine(jobs=1))
    images = study.images()
    accepted = images["status"] == "accepted"
    patients = images.loc[accepted, "patient_id"]
    splits = dict(
        zip(
            sorted(patients.unique()),
            ("train", "train", "train", "val", "test", "test"),
            strict=True,
        )
    )
    images.loc[accepted, "split"] = patients.map(splits)
    study.write(IMAGES, images)
    masks = []
    for row in rows_of(study.accepted_images()):
        if row["plane"] == "femur":
            square = np.zeros((row["height"], row["width"]), np.bool_)
            square[60:120, 80:160] = True
            masks.append(mask_row(row, square, "femur", "manual", state="accepted"))
    study.write(MASKS, mask_table(masks))
    build_captions(study)
    if runs:
        _make_runs(study, given)
    return Place(base, given / "raw", str(_held(study, None)["picture"].iloc[0]))


def _write_given(given: Path, seed: int) -> None:
    raw = given / "raw"
    raw.mkdir(parents=True)
    write_frames(raw, range(seed, seed + 6))
    lines = ["image,MRN,Name,plane,hospital"]
    for number in range(13):
        if number % 2 == 0 and number < 12:
            (raw / f"IM_{seed + number // 2}.png").rename(raw / f"{number}.png")
        else:
            (raw / f"{number}.png").write_bytes(
                fan(seed + number, "OKONKWO" if number == 12 else "")
            )
        name = f"{('Okonkwo', 'Lindqvist', 'Abernathy')[number % 3]}, Ada"
        lines.append(
            f'{number}.png,MRN700{number // 2:02}{seed},"{name}",{("femur", "eye")[number % 2]},A'
        )
    (given / "records.csv").write_text("\n".join(lines) + "\n")
    box = [60, 60, 140, 60, 140, 120, 60, 120]
    size = {"height": 300, "width": 400}
    images = [{"id": number, "file_name": f"{number}.png", **size} for number in (1, 3)]
    drawn = [
        {"id": 1 + one["id"], "image_id": one["id"], "category_id": 1, "segmentation": [box]}
        for one in images
    ]
    coco = {"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "femur"}]}
    (given / "masks.json").write_text(json.dumps(coco))
    (given / "boxes.csv").write_text(
        "filename,class,xmin,ymin,xmax,ymax\n1.png,femur,60,60,140,120\n"
    )
    (given / "masks").mkdir()
    (given / "labelme").mkdir()
    picture = np.zeros((300, 400), np.uint8)
    picture[150:200, 150:250] = 255
    (given / "masks" / "1.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    points = [[150, 150], [250, 150], [250, 200]]
    shape = {"label": "femur", "points": points, "shape_type": "polygon"}
    labelme = {"imagePath": "1.png", "imageHeight": 300, "imageWidth": 400, "shapes": [shape]}
    (given / "labelme" / "1.json").write_text(json.dumps(labelme))
    shutil.copytree(
        Path(sono.cli.__file__).parent / "templates" / "captions" / "short", given / "template"
    )
    (given / "patients.txt").write_text("70010\n")
    (given / "architecture.json").write_text(json.dumps(ARCHITECTURE))
    (given / "recipe.toml").write_text("[training]\nepochs = 1\n")


def _make_runs(study: Workspace, given: Path) -> None:
    from sono.training.config import training_config
    from sono.training.interop.model_runs import import_model
    from sono.training.train import train

    write_openai(given / "clip.pt", random_clip())
    write_sonoclip(given / "vision.pth", random_clip())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.SIZES, "tiny", TINY)
        train(study, training_config(study, None, {}), "toy")
    import_model(study, given / "clip.pt", None, None, "clip")


def swept(cases: Sequence[str | tuple[str, str | int]]) -> list[object]:
    """Parameters of a test that each command takes, where a case begins with the command's name.

    The commands outside of the main job are slow tests.
    """
    main = ("qc", "masks import", "captions build", "train", "eval")
    named = [(case,) if isinstance(case, str) else case for case in cases]
    return [
        pytest.param(*values, marks=[] if values[0] in main else [pytest.mark.slow])
        for values in named
    ]
