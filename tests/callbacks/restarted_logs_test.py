import events
import pytest

from igpt_keras.callbacks.restarted_logs import restart_logs

tf = pytest.importorskip("tensorflow")


def write(directory, steps, value):
    writer = tf.summary.create_file_writer(str(directory))
    for step in steps:
        with writer.as_default(step=step):
            tf.summary.scalar("loss", value)
    writer.close()


def test_each_step_once_however_fast_runs_follow(tmp_path):
    """All in a second or two, which is all that names of files tell."""
    directory = tmp_path / "train"
    write(directory, [1, 2, 3], 0.0)
    for value in (1.0, 2.0):
        restart_logs(tmp_path, 1)
        write(directory, [2, 3], value)
    assert events.read(directory)["loss"] == [(1, 0.0), (2, 2.0), (3, 2.0)]
