"""SIGTERM and SIGINT: the first saves and leaves, the second leaves at once."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SECONDS_TO_LEAVE = 8.0  # a step that takes longer is not waited for


class Stopped(KeyboardInterrupt):
    """The process was asked to leave by a signal."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as a shell reports a process that a signal ended


class _State:
    """Signals belong to the process, and so does this."""

    asked: int | None = None  # the first signal's number
    is_deferred = False


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Answers SIGTERM and SIGINT inside: by `Stopped`, at once or where `deferred` says.

    A second signal, or `SECONDS_TO_LEAVE` seconds without an end, ends the process where it is, in the middle of a step
    too. Does nothing outside the main thread, where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.asked, _State.is_deferred = None, False
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, _ask) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        _State.asked = None


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal waits for `stop_if_asked`, which says that everything is saved, or for the end."""
    before, _State.is_deferred = _State.is_deferred, True
    try:
        yield
    finally:
        _State.is_deferred = before
    if not before:
        stop_if_asked()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Inside, within `deferred`, a signal is answered at once all the same: for what takes long and changes nothing."""
    before, _State.is_deferred = _State.is_deferred, False
    try:
        stop_if_asked()
        yield
    finally:
        _State.is_deferred = before


def is_asked() -> bool:
    """Whether a signal has come."""
    return _State.asked is not None


def stop_if_asked() -> None:
    """Raises Stopped if a signal has come."""
    if _State.asked is not None:
        raise Stopped(_State.asked)


def _ask(number: int, frame) -> None:
    del frame
    if _State.asked is None:
        _State.asked = number
        if not _State.is_deferred:
            raise Stopped(number)


def _watch(reading: int) -> None:
    """Sees signals that the main thread, in the middle of a step, does not see yet: the system writes their numbers."""
    numbers = bytearray()
    while len(numbers) < 2:
        if not select.select([reading], [], [], SECONDS_TO_LEAVE if numbers else None)[0]:
            break  # too long since the first
        got = os.read(reading, 1)
        if not got:  # closed: signals are not answered any more
            os.close(reading)
            return
        numbers += got if got[0] in SIGNALS else b""
    why = "a second signal" if len(numbers) > 1 else f"no end within {SECONDS_TO_LEAVE:g} seconds of a signal"
    os.write(2, f"\nfsp_tf: {why}: left at once; what was saved before stays.\n".encode())
    os._exit(128 + numbers[0])
