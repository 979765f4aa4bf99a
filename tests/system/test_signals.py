"""Tests of SIGTERM and SIGINT: handled at the end of a step, immediately elsewhere; a second one exits."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fsp_tf.system import signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_stops_immediately_unless_deferred(number, exit_code):
    with pytest.raises(signals.Stopped, match=number.name) as raised, signals.catch_signals():
        os.kill(os.getpid(), number)
        pytest.fail("not stopped")
    assert raised.value.exit_code == exit_code
    done = []
    with pytest.raises(signals.Stopped), signals.catch_signals(), signals.defer_signals():
        os.kill(os.getpid(), number)
        done.append("the step")
        assert signals.is_stop_requested()
        with signals.allow_signals():
            pytest.fail("not stopped")
    assert done == ["the step"]
    with pytest.raises(signals.Stopped), signals.catch_signals():
        with signals.defer_signals():
            os.kill(os.getpid(), number)
            done.append("another step")
        pytest.fail("not stopped")
    assert done == ["the step", "another step"] and not signals.is_stop_requested()


def test_previous_handlers_are_restored():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with signals.catch_signals():
        pass
    assert before == [signal.getsignal(number) for number in signals.SIGNALS]


BUSY = """
import sys, time
from fsp_tf.system import signals
signals.GRACE_SECONDS = float(sys.argv[1])
with signals.catch_signals(), signals.defer_signals():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("seconds", "numbers", "message"),
    [(60, (15, 2), b"a second signal"), (0.3, (15,), b"still running 0.3 seconds after a signal")],
)
def test_second_signal_or_end_of_grace_period_exits_the_process(seconds, numbers, message):
    """The sleep stands for a step that lasts too long."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143 and message in errors
    assert time.monotonic() - began < 20
