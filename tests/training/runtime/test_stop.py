"""What asks a run to stop, and what is left of it afterwards."""

import os
import signal

import pytest

from sono.training.runtime.stop import stopping


@pytest.fixture
def ignored() -> None:
    """SIGINT as a shell's background job gets it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.usefixtures("interruptible", "ignored")
def test_sigterm_asks_a_run_to_stop_also_where_ctrl_c_is_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)  # a second one is no haste
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_ends_the_work_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stopping() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
