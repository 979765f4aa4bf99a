"""SIGTERM and SIGINT: answered where a step ends, at once elsewhere, and the second one without delay."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fsp_tf.system import signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_answered_at_once_unless_deferred(number, exit_code):
    with pytest.raises(signals.Stopped, match=number.name) as raised, signals.answered():
        os.kill(os.getpid(), number)
        pytest.fail("it went on")
    assert raised.value.exit_code == exit_code
    done = []
    with pytest.raises(signals.Stopped), signals.answered(), signals.deferred():
        os.kill(os.getpid(), number)
        done.append("the step")
        assert signals.is_asked()
        with signals.at_once():
            pytest.fail("it went on")
    assert done == ["the step"]
    with pytest.raises(signals.Stopped), signals.answered():
        with signals.deferred():
            os.kill(os.getpid(), number)
            done.append("another step")
        pytest.fail("it went on")
    assert done == ["the step", "another step"] and not signals.is_asked()


def test_handlers_are_as_before():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with signals.answered():
        pass
    assert before == [signal.getsignal(number) for number in signals.SIGNALS]


BUSY = """
import sys, time
from fsp_tf.system import signals
signals.SECONDS_TO_LEAVE = float(sys.argv[1])
with signals.answered(), signals.deferred():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("seconds", "numbers", "told"), [(60, (15, 2), b"a second signal"), (0.3, (15,), b"no end within 0.3 seconds")]
)
def test_a_second_signal_or_too_long_a_step_ends_the_process(seconds, numbers, told):
    """The step here sleeps on after a signal, as a long one does."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143 and told in errors
    assert time.monotonic() - began < 20
