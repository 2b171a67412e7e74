import pytest
import tiny
from tiny import array

import igpt_keras
from igpt_keras.conversion.open_weights import weight_format


@pytest.fixture
def run(tmp_path):
    """What a run leaves beside its preset."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"seed": 0}')
    return tmp_path / "run"


@pytest.mark.parametrize("prefix", ["", "keras:"])
def test_a_runs_directory_opens_as_its_preset(run, prefix):
    tiny.save_preset(run / "preset")
    assert weight_format(run) == "keras"
    model, tokenizer = igpt_keras.open_weights(f"{prefix}{run}")
    expected, _ = igpt_keras.open_weights(run / "preset")
    token_ids = tiny.token_ids()
    assert (array(model(token_ids)) == array(expected(token_ids))).all()
    assert tokenizer.fingerprint == tiny.grey_palette().fingerprint


def test_a_preset_with_one_inside_is_itself(tmp_path):
    tiny.save_preset(tmp_path / "outer")
    tiny.save_preset(tmp_path / "outer" / "preset", "bert")
    model, _ = igpt_keras.open_weights(tmp_path / "outer")
    assert model.objective == "autoregressive"


def test_a_run_that_has_not_ended(run):
    with pytest.raises(ValueError, match="a run that left no model yet"):
        igpt_keras.open_weights(run)
