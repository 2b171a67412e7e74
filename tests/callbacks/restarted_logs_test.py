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


@pytest.mark.parametrize("evaluated, kept", [(True, [1, 2]), (False, [1])])
def test_a_probe_that_comes_again_is_there_once(evaluated, kept, tmp_path):
    """Steps were done and a probe of them was made, and then a kill."""
    probe, train = tmp_path / "probe_digits", tmp_path / "train"
    for step in (1, 2, 3):
        write(probe / f"after_step_{step:08d}", [0, 1, 2], 0.0)
    for directory in (probe / "chance", train):
        write(directory, [1, 2, 3], 0.0)
    restart_logs(tmp_path, 2, evaluated)
    names = [f"after_step_{step:08d}" for step in kept]
    assert sorted(p.name for p in probe.glob("after_*")) == names
    for directory, steps in ((probe / "chance", kept), (train, [1, 2])):
        write(directory, [9], 1.0)
        found = [step for step, _ in events.read(directory)["loss"]]
        assert found == [*steps, 9]
