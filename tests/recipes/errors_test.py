import errors
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize(
    "kind", [ValueError, ImportError, OSError, FloatingPointError]
)
def test_ends_with_the_message(kind):
    with pytest.raises(SystemExit) as info:
        with errors.reported("train.py"):
            raise kind("Look there.")
    assert info.value.code == "train.py: Look there."


def test_ends_with_the_message_of_what_tf_data_ran():
    def fail(number):
        raise ValueError("7.png cannot be read.")

    dataset = tf.data.Dataset.range(3).map(
        lambda number: tf.numpy_function(fail, [number], tf.int64)
    )
    with pytest.raises(SystemExit) as info:
        with errors.reported("train.py"):
            list(dataset)
    assert info.value.code == "train.py: 7.png cannot be read."


def test_errors_of_the_program_keep_their_traceback():
    with pytest.raises(KeyError):
        with errors.reported("train.py"):
            raise KeyError("ValueError: mine")
    with pytest.raises(tf.errors.InvalidArgumentError):
        with errors.reported("train.py"):
            tf.reshape(np.zeros(3), (2, 2))
