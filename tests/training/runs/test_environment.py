"""Where a run was made, and what the privacy gate reads of it."""

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from quick import quick

from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import Search
from sono.curation.privacy.private_strings import collect
from sono.curation.privacy.public_names import PublicNames
from sono.curation.privacy.text_extraction import extract_texts
from sono.training.config import TrainingConfig
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import read_run, write_run
from sono.training.runs import environment as place
from sono.training.runs.environment import differences, environment
from sono.training.runs.run_info import settings_of_run
from sono.training.train import train

CONFIG = TrainingConfig()
NO_NAMES = PublicNames(*[frozenset()] * 5)
GOLD = "processor : 0\nmodel name\t: Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz\nflags : fpu\n"


def test_it_tells_versions_machine_and_threads_in_words() -> None:
    told = environment(CONFIG, ModelConfig(name="nano"))
    assert told["numpy"] == np.__version__
    assert told["threads"] == str(torch.get_num_threads())
    assert {
        "open_clip_torch",
        "timm",
        "opencv",
        "torch",
        "python",
        "sono",
        "device",
        "processes",
    } <= set(told)
    assert all(isinstance(value, str) and value for value in told.values())


def test_the_processor_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(place, "CPU_INFO", info)
    monkeypatch.setattr("platform.processor", lambda: "")
    assert "cpu" not in environment(CONFIG, ModelConfig(name="nano"))
    info.write_text(GOLD)
    assert environment(CONFIG, ModelConfig(name="nano"))["cpu"] == "Intel Xeon Gold 6248R"


def test_only_what_differs_and_what_the_record_tells_is_said() -> None:
    told = environment(CONFIG, ModelConfig(name="nano"))
    assert differences(told) == differences({}) == ""
    assert differences({**told, "timm": "0.1", "commit": "0"}) == f"timm 0.1 (here {told['timm']})"


def test_a_repeated_run_remarks_in_one_line_on_other_versions(
    study: Workspace, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(study, quick(model=tiny, epochs=1, batch_size=6), "elsewhere").folder
    settings_of_run(study, "elsewhere", None, {})
    assert "made with" not in capsys.readouterr().err
    info = read_run(folder)
    write_run(folder, replace(info, environment={**info.environment, "numpy": "1.0"}))
    settings_of_run(study, "elsewhere", None, {})
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(rf"elsewhere: made with numpy 1.0 \(here {re.escape(np.__version__)}\)", told)


def test_names_of_processors_and_versions_like_days_are_no_leak_and_names_beside_them_are(
    tmp_path: Path,
) -> None:
    record = tmp_path / "runs" / "toy" / "run.json"
    record.parent.mkdir(parents=True)
    private = collect(
        ["Gold^Ruth", "Silver^Ann", "Bronze^Max", "2014-11-03", "Lindqvist^Eva"], frozenset()
    )
    search, place = Search(private, NO_NAMES), Path("runs/toy/run.json")

    def found(**values: str) -> set[str]:
        record.write_text(json.dumps(values, indent=1))
        return {
            one for _, text in extract_texts(record) for one in search.found_at(place, "", text)
        }

    assert (
        found(
            cpu="Intel Xeon Gold 6248R",
            device="Tesla V100",
            python="3.11.14",
            torch="3.11.14+cu132",
        )
        == set()
    )
    assert found(cpu="Intel Xeon Silver 4210R, Ryzen 9 Bronze Max") == set()
    assert found(hold_out="3.11.14") == {date(2014, 11, 3).isoformat()}
    assert {"gold", "bronze max"} & found(shards="gold_ruth", text="bronze-max")
    assert "lindqvist" in found(shards="Lindqvist 9", cpu="AMD EPYC 9654")
