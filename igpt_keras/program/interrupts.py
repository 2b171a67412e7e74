"""Stops a program on Ctrl-C or SIGTERM, which a preempted machine sends.

Python raises `KeyboardInterrupt` wherever it happens to be. Inside TensorFlow
and NumPy it is lost now and then, or comes out as another exception: training
waits for the end of its step instead, and whatever is raised after a signal
counts as stopped. In a callback of the garbage collector or a finalizer, Python
can only print it: there it is raised again, a moment later. Ctrl-C reaches all
programs of a terminal's job, and one that started another hands it on besides:
signals that come together are one.
"""

import contextlib
import math
import os
import signal
import sys
import threading
import time

# Seconds, in which a callback ends.
AGAIN = 0.1
# Seconds, in which signals are one.
TOGETHER = 0.5

_received = 0
_number = None
_last = -math.inf
_deferred = False
_handled = False


@contextlib.contextmanager
def handled(message="Stopped."):
    """Ends the program with status 130 and `message` once it was stopped."""
    global _received, _handled, _last
    _received, _handled, _last = 0, True, -math.inf
    listen()
    printed, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not _received:
            raise
        if not isinstance(error, KeyboardInterrupt):
            sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
        sys.stderr.write(f"\n{message}\n")
        sys.exit(130)
    finally:
        _received, _handled = 0, False
        sys.unraisablehook = printed


def listen():
    """Takes signals to itself again, after a library has taken them."""
    if not _handled:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        # Shells have jobs in the background ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)


def stop():
    """Raises `KeyboardInterrupt`, for a signal that another process had."""
    global _received
    if _handled:
        _received += 1
    raise KeyboardInterrupt


@contextlib.contextmanager
def deferred():
    """Inside, a first signal waits for the next `check`."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    check()


def received():
    """Whether there was a signal."""
    return bool(_received)


def check():
    """Raises `KeyboardInterrupt` if there was a signal."""
    if _received:
        raise KeyboardInterrupt


def checked(iterable):
    """The items of an iterable, with a `check` after each."""
    for item in iterable:
        yield item
        check()


def _raise_again(unraisable):
    """Of what cannot be raised where it happened."""
    if not _received or unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return

    def send():
        global _last
        # Where it is deferred, the next check is near.
        if _received and not _deferred:
            _last = -math.inf
            os.kill(os.getpid(), _number)

    timer = threading.Timer(AGAIN, send)
    timer.daemon = True
    timer.start()


def _receive(number, frame):
    global _received, _number, _last
    now = time.monotonic()
    is_another = now - _last > TOGETHER
    _last = now
    if not is_another:
        return
    _received += 1
    _number = number
    if not _deferred or _received > 1:
        raise KeyboardInterrupt
    # `print` cannot be entered again from a signal handler.
    os.write(2, b"\nStopping after this step; once more stops at once.\n")
