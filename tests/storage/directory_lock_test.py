import time

import forked
import pytest

from igpt_keras.storage.directory_lock import directory_lock

HOLDER = """
import pathlib, sys, time
from igpt_keras.storage.directory_lock import directory_lock
with directory_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_lets_go(tmp_path, subprocess_environment):
    directory = tmp_path / "run"
    holder = forked.Process(
        ["-c", HOLDER, directory], env=subprocess_environment
    )
    deadline = time.monotonic() + 120
    while holder.output() != "held\n":
        assert time.monotonic() < deadline and holder.poll() is None
        time.sleep(0.1)
    with pytest.raises(ValueError, match="Another process writes to"):
        with directory_lock(directory):
            pass
    holder.kill()
    holder.wait()
    with directory_lock(directory):
        pass
    with directory_lock(directory):
        pass
