import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

tf = pytest.importorskip("tensorflow")
import released_checkpoint  # noqa: E402


@pytest.mark.parametrize("bert", [False, True])
def test_writes_what_the_released_code_reads(bert, tmp_path):
    """Names, shapes and values are those of a checkpoint that was read."""
    variables = released_checkpoint.variables(bert=bert, classes=4)
    released_checkpoint.write(tmp_path / "old" / "m", variables, shards=3)
    model = igpt_keras.load_openai_checkpoint(tmp_path / "old")
    igpt_keras.save_openai_checkpoint(model, tmp_path / "new" / "m-1")
    reader = tf.train.load_checkpoint(str(tmp_path / "new" / "m-1"))
    assert set(reader.get_variable_to_shape_map()) == set(variables)
    for name, value in variables.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value)
    assert {p.name for p in (tmp_path / "new").iterdir()} == {
        "m-1.index",
        "m-1.data-00000-of-00001",
    }


def test_refuses(tmp_path):
    model = tiny.model()
    igpt_keras.save_openai_checkpoint(model, tmp_path / "m")
    with pytest.raises(ValueError, match="m.index exists"):
        igpt_keras.save_openai_checkpoint(model, tmp_path / "m")
    copy = igpt_keras.load_openai_checkpoint(tmp_path / "m")
    np.testing.assert_array_equal(
        array(copy.head.kernel), array(model.head.kernel)
    )
    for path in (tmp_path, f"{tmp_path}/new/", tmp_path / "x.index"):
        with pytest.raises(ValueError, match="is no checkpoint's prefix"):
            igpt_keras.save_openai_checkpoint(model, path)
    model.head.kernel.assign(np.full((15, 11), np.inf))
    with pytest.raises(ValueError, match="head/kernel is not finite"):
        igpt_keras.save_openai_checkpoint(model, tmp_path / "n")
    assert not list(tmp_path.glob("n*"))
