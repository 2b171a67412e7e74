import time

import pytest
import recipe
from absl import flags

pytest.importorskip("tensorflow")

WORDS = ["--dataset=digits", "--preset=igpt_nano", "--run_dir=run"]


def test_it_is_pretrain_with_other_defaults():
    given = {"dataset": "digits", "preset": "igpt_nano"}
    tpu = recipe.parse("pretrain_tpu", **given, tpu="local")
    plain = recipe.parse("pretrain", **given)
    changed = {
        key: value
        for key, value in vars(tpu).items()
        if vars(plain)[key] != value
    }
    assert changed == {
        "tpu": "local",
        "dtype": "mixed_bfloat16",
        "steps_per_call": 10,
    }
    with pytest.raises(flags.Error, match="tpu"):
        recipe.parse("pretrain_tpu", **given)
    given = {**given, "tpu": "local", "dtype": "float32"}
    assert recipe.parse("pretrain_tpu", **given).dtype == "float32"


def test_a_machine_without_tpu_ends_in_one_line(tmp_path):
    start = time.monotonic()
    result = recipe.command("pretrain_tpu", "--tpu=local", *WORDS, cwd=tmp_path)
    assert result.returncode == 1
    assert "no TPU support, or this machine has no TPU" in result.stderr
    assert "requirements-tpu.txt" in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - start < 60
    assert not list(tmp_path.iterdir())
