"""`sono masks import` and `propose` on the command line.

The tests cover exit codes, dry runs, and files that are not masks.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_studies import BOX, SOURCE, coco_file, drawn, frame_row, make_study, png

from sono import cli
from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.frame_files import frame_file
from sono.curation.core.tables import MASKS, rows_of
from sono.curation.core.workspace import Workspace

RING = [[8, 10, 30, 10, 30, 16, 8, 16]]


class Result:
    """Exit code and streams of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs `sono` in this process."""

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["sono", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        streams = capfd.readouterr()
        assert "Traceback" not in streams.err
        return Result(code, streams.out, streams.err)

    return call


def test_an_import_of_nothing_is_an_error_with_the_names_that_were_looked_for(
    tmp_path: Path, run
) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    result = run(
        "masks",
        "import",
        coco_file(tmp_path, RING, name="images/who_mask.png"),
        "-w",
        workspace.root,
    )
    assert (result.code, result.out) == (1, "")
    assert "nothing was imported (unmatched 1)" in result.err
    assert "looked for who_mask, who" in result.err
    assert result.err.count("\n") == 1
    assert not (workspace.root / "masks.parquet").exists()


def test_an_import_of_skipped_labels_alone_is_an_error_too(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    result = run(
        "masks", "import", coco_file(tmp_path, RING), "--skip-label", "femur", "-w", workspace.root
    )
    assert result.code == 1
    assert "femur 1" in result.err


def test_a_failed_import_leaves_the_masks_that_are_there(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    assert run("masks", "import", coco_file(tmp_path, RING), "-w", workspace.root).code == 0
    before = (workspace.root / "masks.parquet").read_bytes()
    assert (
        run("masks", "import", coco_file(tmp_path, RING, name="who.png"), "-w", workspace.root).code
        == 1
    )
    assert (
        run("masks", "import", coco_file(tmp_path, [], name="scan.png"), "-w", workspace.root).code
        == 1
    )
    assert (workspace.root / "masks.parquet").read_bytes() == before


def mixed(folder: Path) -> tuple[Workspace, Path]:
    """A study, and a folder with a good mask, an unknown name and a bare name of two patients."""
    workspace = make_study(folder, ["/raw/P1/scan.png", "/raw/P2/scan.png", "/raw/P1/other.png"])
    for name in ("other_mask", "who", "scan"):
        png(folder / "masks" / f"{name}.png", drawn().astype(np.uint8) * 255)
    return workspace, folder / "masks"


def test_a_dry_run_says_what_meets_what_and_writes_nothing(tmp_path: Path, run) -> None:
    workspace, masks = mixed(tmp_path)
    words = ("masks", "import", masks, "--structure", "femur", "--dry-run", "-w", workspace.root)
    result = run(*words)
    assert result.code == 0
    assert "by file name without the ending" in result.out
    assert "may be /raw/P1/scan.png, /raw/P2/scan.png" in " ".join(result.out.split())
    assert "would be imported    1" in result.out and "\nimported" not in f"\n{result.out}"
    listed = json.loads(run(*words, "--json").out)
    assert (listed["dry_run"], listed["imported"]) == (True, 1)
    rows = {row["name"]: row for row in listed["masks"]}
    assert rows["other_mask.png"] == {
        "place": str(masks / "other_mask.png"), "name": "other_mask.png", "label": "femur",
        "structure": "femur", "image_id": f"{2:016x}", "evidence": "file name without the ending",
        "reason": None, "detail": "",
    }  # fmt: skip
    assert (rows["who.png"]["reason"], rows["scan.png"]["reason"]) == ("unmatched", "ambiguous")
    assert not (workspace.root / "masks.parquet").exists()


def test_a_dry_run_of_nothing_fails_like_the_import(tmp_path: Path, run) -> None:
    workspace, masks = mixed(tmp_path)
    (masks / "other_mask.png").unlink()
    result = run(
        "masks",
        "import",
        masks,
        "--structure",
        "femur",
        "--dry-run",
        "--json",
        "-w",
        workspace.root,
    )
    assert result.code == 1
    assert "nothing would be imported" in result.err
    assert len(json.loads(result.out)["masks"]) == 2


def test_strict_is_all_or_none(tmp_path: Path, run) -> None:
    workspace, masks = mixed(tmp_path)
    words = ("masks", "import", masks, "--structure", "femur", "-w", workspace.root)
    assert run(*words, "--strict").code == 3
    rehearsal = run(*words, "--strict", "--dry-run")
    assert (
        rehearsal.code,
        "ambiguous 1, unmatched 1" in rehearsal.err,
        "imported" in rehearsal.out,
    ) == (3, True, True)
    assert not (workspace.root / "masks.parquet").exists()
    assert run(*words).code == 0
    assert len(workspace.masks()) == 1


def test_the_options_reach_the_import(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/P1/scan.png"])
    path = tmp_path / "boxes.csv"
    path.write_text(
        "pic,what,x,w_max,h_min,h_max\nAnna/scan.png,FL,8,30,10,16\nAnna/scan.png,blur,8,30,10,16\n"
    )
    options = (
        "--column",
        "file=pic",
        "--column",
        "label=what",
        "--column",
        "left=x",
        "--label",
        "FL=femur",
        "--skip-label",
        "blur",
        "--ignore-folder",
        "Anna",
        "--strict",
    )
    result = run("masks", "import", path, *options, "-w", workspace.root, "--json")
    assert result.code == 0
    assert json.loads(result.out)["sources"] == {"box": 1}


def test_colors_and_values_reach_the_import(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    path = png(tmp_path / "masks" / "scan.png", drawn().astype(np.uint8) * 3)
    assert run("masks", "import", path, "--value", "3=femur", "-w", workspace.root).code == 0
    colored = png(path, np.dstack([drawn() * 250, drawn() * 0, drawn() * 0]).astype(np.uint8))
    assert run("masks", "import", colored, "--color", "red=femur", "-w", workspace.root).code == 0
    both = run(
        "masks",
        "import",
        path,
        "--structure",
        "femur",
        "--color",
        "red=femur",
        "-w",
        workspace.root,
    )
    assert (both.code, "contradict" in both.err) == (1, True)


@pytest.mark.parametrize("option", ["--color=red=femur", "--value=1=femur", "--column=left=x"])
def test_an_option_of_another_kind_of_file_is_an_error(tmp_path: Path, run, option: str) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    result = run("masks", "import", coco_file(tmp_path, RING), option, "-w", workspace.root)
    assert (result.code, option[:7] in result.err) == (1, True)


def a_pipe(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["masks.json", "boxes.csv", "scan.png", "scan"])
@pytest.mark.parametrize("kind", ["pipe", "endless device", "link to a device"])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, run, name: str, kind: str
) -> None:
    workspace, path = make_study(tmp_path, ["/raw/scan.png"]), tmp_path / "given" / name
    path.parent.mkdir()
    if kind == "pipe":
        a_pipe(path)
    else:
        path.symlink_to("/dev/zero" if kind == "endless device" else a_link(tmp_path))
    began = time.monotonic()
    alone = run("masks", "import", path, "--structure", "femur", "-w", workspace.root)
    assert (alone.code, "not a regular file" in alone.err) == (1, True)
    png(path.parent / "scan_mask.png", drawn().astype(np.uint8))
    whole = run("masks", "import", path.parent, "--structure", "femur", "-w", workspace.root)
    assert whole.code == 0
    assert time.monotonic() - began < 10


def a_link(folder: Path) -> Path:
    link = folder / "link"
    link.symlink_to("/dev/zero")
    return link


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"images": [], "annotations": ' + "[" * 100_000,
        '{"shapes": ' + '{"a":' * 100_000,
        '{"images": [{"id": ' + "9" * 5000 + "}], " + '"annotations": [], "categories": []}',
        "\x00\x01\x02",
        "",
        "null",
        "7",
        '{"images": {}, "annotations": {}, "categories": {}}',
        '{"shapes": [], "imagePath": null}',
    ],
)
def test_json_that_is_no_mask_file_is_one_line(tmp_path: Path, run, text: str) -> None:
    workspace, path = make_study(tmp_path, ["/raw/scan.png"]), tmp_path / "masks.json"
    path.write_text(text)
    result = run("masks", "import", path, "-w", workspace.root)
    assert (result.code, result.err.count("\n")) == (1, 1)


def test_a_nested_segmentation_is_refused(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png"])
    nested: Any = [1, 2, 3, 4, 5, 6]
    for _ in range(200):
        nested = [nested]
    result = run("masks", "import", coco_file(tmp_path, nested), "-w", workspace.root)
    assert (result.code, "broken 1" in result.err) == (1, True)


def test_a_polygon_that_swings_over_the_picture_ends_no_process(tmp_path: Path) -> None:
    size = {"height": 540, "width": 720}
    row = frame_row(0, source_height=540, source_width=720)
    workspace = make_study(tmp_path, ["/raw/scan.png"], [row])
    swings = (
        np.stack([np.tile([0.0, 720.0], 30_000), np.linspace(0, 540, 60_000)], axis=1)
        .ravel()
        .tolist()
    )
    path = coco_file(tmp_path, [swings], **size)
    words = [sys.executable, "-m", "sono", "masks", "import", str(path), "-w", str(workspace.root)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "no outline of a structure" in done.stderr


def test_proposing_nothing_is_an_error_that_says_why(tmp_path: Path, run) -> None:
    planes = ["four_chamber", "four_chamber", None, "other", "heel"]
    blank = np.zeros((SOURCE[0] - 4, SOURCE[1] - 10), np.uint8)
    rows = [
        frame_row(number, plane=plane, file=frame_file(f"{number:016x}", blank))
        for number, plane in enumerate(planes)
    ]
    workspace = make_study(tmp_path, [f"/raw/{number}.png" for number in range(5)], rows)
    (workspace.root / "planes.toml").write_text(
        '[heel]\nregion = "lower limb"\nstructures = ["heel"]\n'
    )
    config = workspace.config_path.read_text()
    workspace.config_path.write_text(
        config.replace("[study]", '[study]\nplanes_file = "planes.toml"')
    )
    for row in rows:
        png(workspace.root / row["file"], blank)
    result = run("masks", "propose", "--jobs", 1, "-w", workspace.root)
    assert result.code == 1
    assert "four_chamber 2, heel 1, no plane 1, other 1" in " ".join(result.err.split())
    assert not (workspace.root / "masks.parquet").exists()


def test_frames_without_a_proposal_are_counted(tmp_path: Path, run) -> None:
    size = (SOURCE[0] - 4, SOURCE[1] - 10)
    noise = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    rows = [
        frame_row(number, plane=plane, file=frame_file(f"{number:016x}", noise))
        for number, plane in enumerate(["femur", "four_chamber", None])
    ]
    workspace = make_study(tmp_path, [f"/raw/{number}.png" for number in range(3)], rows)
    for row in rows:
        png(workspace.root / row["file"], noise)
    first = json.loads(run("masks", "propose", "--jobs", 1, "--json", "-w", workspace.root).out)
    assert (first["proposed"], first["passed_over"]) == (2, {"four_chamber": 1})
    assert first["source"] == "heuristic" and "without a trained model" in first["source_means"]
    again = run("masks", "propose", "--jobs", 1, "-w", workspace.root)
    assert again.code == 0


def test_the_next_step_is_the_review_while_proposals_are_open(tmp_path: Path, run) -> None:
    workspace = make_study(tmp_path, ["/raw/scan.png", "/raw/other.png"])
    words = ("masks", "import", coco_file(tmp_path, RING), "-w", workspace.root)
    assert "next: sono masks propose" in run(*words).out
    whole = drawn()[BOX[1] : BOX[3], BOX[0] : BOX[2]]
    proposal = mask_row(frame_row(1), whole, "femur", "heuristic")
    workspace.write(MASKS, mask_table([*rows_of(workspace.masks()), proposal]))
    result = run(*words)
    assert "next: sono masks review --reviewer NAME" in result.out
    result = run("masks", "export", tmp_path / "out.json", "--no-proposed", "-w", workspace.root)
    assert result.code == 0 and "accepted 1" in result.out
