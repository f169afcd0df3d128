"""Signals become requests; a second Ctrl-C is an exception; the old handlers come back."""

import signal
import threading

import pytest

from tskd_jax.machine.signals import Interrupted, listening


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_is_a_request(signum, status):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with listening() as request:
        assert request.requested() == 0
        request.stop_if_requested("nowhere")
        signal.raise_signal(signum)
        assert request.requested() == signum
        with pytest.raises(Interrupted, match="here") as caught:
            request.stop_if_requested("here")
    assert caught.value.status == status
    assert caught.value.name == signal.Signals(signum).name
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_stops_at_once():
    with listening() as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a scheduler may repeat itself
        assert request.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_may_run_it():
    seen = []

    def work():
        with listening() as request:
            seen.append(request.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
