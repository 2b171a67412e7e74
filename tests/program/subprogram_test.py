import os
import signal
import subprocess
import sys
import time

import pytest

# A program that runs a script, which ends its step and says so.
_PARENT = """
import signal, sys
from igpt_keras import program
from igpt_keras.program import interrupts
# A job in the background is born deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
with interrupts.handled():
    program.run_script(sys.argv[1], sys.argv[2:])
"""
_CHILD = """
import pathlib, sys, time
from igpt_keras.program import interrupts
path = pathlib.Path(sys.argv[1])
with interrupts.handled():
    with interrupts.deferred():
        path.write_text("begun")
        while not interrupts.received():
            time.sleep(0.05)
        # A step that takes longer than a program would be waited for.
        time.sleep(2)
        path.write_text("checkpoint")
"""


@pytest.mark.parametrize(
    "number, to_all", [(signal.SIGINT, True), (signal.SIGTERM, False)]
)
def test_one_signal_lets_the_script_end_its_step(
    number, to_all, tmp_path, subprocess_environment
):
    """Sent to both, as a terminal and a scheduler do, or to the first."""
    (tmp_path / "child.py").write_text(_CHILD)
    path = tmp_path / "state"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, tmp_path / "child.py", path],
        env=subprocess_environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    send = os.killpg if to_all else os.kill
    send(parent.pid, number)
    assert parent.wait(timeout=100) == 130
    assert path.read_text() == "checkpoint"
