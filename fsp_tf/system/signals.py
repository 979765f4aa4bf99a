"""Handling of SIGTERM and SIGINT: the first signal saves and stops, the second exits immediately."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = 8.0  # after a signal; then the process exits in the middle of a step


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # the shell's code for a process ended by a signal


class _State:
    """Global, because signals concern the whole process."""

    received: int | None = None  # the first signal's number
    is_deferred = False


@contextlib.contextmanager
def catch_signals() -> Iterator[None]:
    """Does what `stop_on_signals` does, and exits the process at a second signal or `GRACE_SECONDS` after the first.

    Both happen even in the middle of a step.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with stop_on_signals():
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reading,), daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            os.close(writing)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turns SIGTERM and SIGINT into `Stopped`, immediately or at the points that `defer_signals` allows.

    A second signal is ignored. In other threads than the main one, which alone can handle signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.received, _State.is_deferred = None, False
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.received = None


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delays `Stopped` until `stop_if_requested` is called after saving, or until the block ends."""
    before, _State.is_deferred = _State.is_deferred, True
    try:
        yield
    finally:
        _State.is_deferred = before
    if not before:
        stop_if_requested()


@contextlib.contextmanager
def allow_signals() -> Iterator[None]:
    """Raises `Stopped` immediately within `defer_signals`: for long work that changes no state."""
    before, _State.is_deferred = _State.is_deferred, False
    try:
        stop_if_requested()
        yield
    finally:
        _State.is_deferred = before


def is_stop_requested() -> bool:
    """Returns whether a signal was received."""
    return _State.received is not None


def stop_if_requested() -> None:
    """Raises `Stopped` if a signal was received."""
    if _State.received is not None:
        raise Stopped(_State.received)


def _handle(number: int, frame) -> None:
    del frame
    if _State.received is None:
        _State.received = number
        if not _State.is_deferred:
            raise Stopped(number)


def _watch(reading: int) -> None:
    """Reads signal numbers from the wakeup pipe; the main thread cannot handle them in the middle of a step."""
    numbers = bytearray()
    while len(numbers) < 2:
        if not select.select([reading], [], [], GRACE_SECONDS if numbers else None)[0]:
            break  # the grace period is over
        got = os.read(reading, 1)
        if not got:  # closed at the end of `catch_signals`
            os.close(reading)
            return
        numbers += got if got[0] in SIGNALS else b""
    why = "a second signal" if len(numbers) > 1 else f"still running {GRACE_SECONDS:g} seconds after a signal"
    os.write(2, f"\nfsp_tf: {why}: exiting immediately; the last checkpoint is kept.\n".encode())
    os._exit(128 + numbers[0])
