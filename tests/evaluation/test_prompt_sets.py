"""Prompts of a run, unseen, published and a user's: together, and each alone."""

from pathlib import Path

import pytest

from sono.curation.core.atomic import write_text
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PLANES
from sono.curation.core.workspace import Workspace
from sono.evaluation.evaluate import EvaluationOptions, evaluate
from sono.evaluation.selection import Target
from sono.templates.loader import load_prompts

LONGEST = max((plane.name for plane in PLANES), key=len)


@pytest.fixture
def quick(study: Workspace) -> Workspace:
    write_text(study.config_path, '[evaluation]\nbootstrap_draws = 100\nmodes = ["all_one"]\n')
    return study


def test_each_prompt_of_a_users_file_is_measured_next_to_those_of_the_run(
    quick: Workspace, tmp_path: Path
) -> None:
    own = tmp_path / "prompts.txt"
    # the toy model reads the longest name of a plane, so the second prompt says the same of all
    own.write_text(f"scan of the {{{{ plane }}}}\n\nno {LONGEST}: {{{{ plane }}}}\n")
    found = evaluate(quick, EvaluationOptions(target=Target("new"), prompts=own))
    sets = found.metrics["prompt_sets"]["candidates"]
    assert list(sets) == ["", "_of_24"]
    assert list(sets[""]) == ["training", "unseen", "sonoclip", "own"]
    whole = found.metrics["groups"][0]["modes"]["all_one"]
    for suffix, each in sets.items():
        assert each["training"]["together"]["point"] == whole[f"top1_macro{suffix}"]["point"]
        assert len(each["training"]["each"]) == 5 and len(each["unseen"]["each"]) == 10
    one = sets[""]["own"]
    assert one["each"]["scan of the PLANE"]["point"] == pytest.approx((7 / 8 + 3 / 4) / 2)
    assert (one["worst_prompt"], one["worst"]["point"]) == (f"no {LONGEST}: PLANE", 0)
    assert one["alone_mean"]["point"] == pytest.approx((7 / 8 + 3 / 4) / 4)
    assert one["alone_sd"]["point"] == pytest.approx((7 / 8 + 3 / 4) / 2 / 2**0.5, abs=1e-6)
    assert one["alone_mean"]["low"] < one["alone_mean"]["point"] < one["alone_mean"]["high"]
    table = (found.folder / "tables" / "prompts_of_24.csv").read_text()
    assert f"no {LONGEST}: PLANE,own,12,6,0," in table
    assert f"no {LONGEST}: PLANE" in (found.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no prompts"),
        ("a scan\n", ":1: a prompt uses 'plane'"),
        ("{{ plane }}\n{{ plane\n", ":2: "),
        ("{{ plane.__class__ }}\n", ":1: "),
        (None, "missing; give a text file of prompts"),
    ],
)
def test_a_wrong_file_of_prompts_is_one_line(
    quick: Workspace, tmp_path: Path, text: str | None, said: str
) -> None:
    own = tmp_path / "prompts.txt"
    if text is not None:
        own.write_text(text)
    with pytest.raises(SonoError, match=r"prompts\.txt") as error:
        evaluate(quick, EvaluationOptions(target=Target("new"), prompts=own))
    assert said in str(error.value)
    assert not list(quick.runs.glob("toy/eval/*"))


def test_a_folder_is_no_file_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match=r"cannot be read \(Is a directory\); give a text file"):
        load_prompts(tmp_path)
