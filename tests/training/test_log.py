"""What a person at a terminal sees of a run; log.csv and TensorBoard are looked at where runs are."""

import io

import pytest
from rich.console import Console

from sono.curation import console
from sono.training import log
from sono.training.log import COLUMNS, Watch, watched


def told(epoch: int) -> dict[str, str]:
    """The values of an epoch, each different from all others; validated at even ones."""
    values = {name: f"{epoch}.{place}" for place, name in enumerate(COLUMNS)} | {"epoch": str(epoch)}
    return {name: value for name, value in values.items() if epoch % 2 == 0 or not name.startswith("val_")}


def test_the_table_shows_the_last_eight_epochs_with_their_values() -> None:
    watch = Watch(10, lambda steps=1, note="": None)
    for epoch in range(1, 11):
        watch.epoch(told(epoch))
    screen = Console(record=True, width=160, file=io.StringIO())
    screen.print(watch)
    header, *rows = screen.export_text().splitlines()
    assert header.split() == " ".join(COLUMNS).replace("_", " ").split()
    assert [row.split() for row in rows] == [list(told(epoch).values()) for epoch in range(3, 11)]
    assert rows[0].index("3.8") == rows[1].index("4.8")  # what was not validated leaves its place empty


def test_at_a_terminal_table_and_bar_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(force_terminal=True, width=160, file=io.StringIO(), record=True)
    for module in (console, log):
        monkeypatch.setattr(module, "talk", screen)
    with watched(total=8, done=2, epochs=4) as watch:
        watch.step("epoch 2 loss 0.125")
        watch.epoch(told(2))
    drawn = screen.export_text()
    assert "3/8" in drawn and "epoch 2 loss 0.125" in drawn
    assert told(2)["val_loss"] in drawn
