"""What a training step is estimated to need, and what is advised."""

import presets_test
import pytest

from igpt_keras import presets
from igpt_keras.reports import memory

SMALL = {**presets.IGPT["igpt_s"], "batch_size": 8}


def of(**changes):
    return memory.estimate_training_memory(**{**SMALL, **changes})


def test_is_of_weights_and_of_images():
    one, two = of(), of(batch_size=16)
    weights = 4 * presets_test.PARAMETERS["igpt_s"]
    assert (one["weights"], one["moments"]) == (weights, 2 * weights)
    more = two["activations"] - one["activations"]
    assert two["total"] - one["total"] == more
    assert of(batch_size=24)["activations"] - two["activations"] == more
    # 16 vectors a token and block, at least.
    assert more > 24 * 8 * 1024 * 512 * 4 * 16
    names = ("weights", "gradients", "moments", "copies", "activations")
    assert one["total"] == sum(one[name] for name in names)


def test_parts_of_a_batch_need_the_memory_of_one():
    parts = of(micro_batches=4)
    assert parts["activations"] == of(batch_size=2)["activations"]
    assert parts["gradients"] == 1.5 * of()["gradients"]


def test_remat_keeps_inputs_and_one_block():
    with_it = [of(remat=True, num_layers=n) for n in (24, 25)]
    grown = with_it[1]["activations"] - with_it[0]["activations"]
    assert grown == 4 * 8 * 1024 * 512
    one = of(num_layers=1)["activations"] + 4 * 8 * 1024 * 512
    assert of(num_layers=1, remat=True)["activations"] == one


def test_attention_grows_with_the_tokens_and_not_their_square():
    sizes = [1024, 2048, 4096]
    one, two, four = (of(sequence_length=n)["activations"] for n in sizes)
    assert four - two == 2 * (two - one)


def test_mixed_types_keep_less_but_float32_softmax_and_norms():
    plain, mixed = of(), of(dtype="mixed_bfloat16")
    assert plain["activations"] / 2 < mixed["activations"]
    assert mixed["activations"] < plain["activations"]
    assert mixed["copies"] == mixed["weights"] / 2


def advice(preset, resolution, devices, **options):
    size = presets.architecture(preset, 512, resolution, "autoregressive")
    batch_size = presets.PRETRAINING[preset]["batch_size"]
    rows = memory.describe_memory(
        num_devices=devices, batch_size=batch_size, **size, **options
    )
    return rows, {**size, "batch_size": batch_size // devices}


def test_advice_for_large_at_48_pixels_fits_and_less_does_not():
    rows, size = advice("igpt_l", 48, 8, device_memory=80)
    assert rows["fits"].startswith("no, on 8 x 80 GB; --micro_batches=8 does")
    assert rows["or"].startswith("--remat --micro_batches=1 does")
    estimate = memory.estimate_training_memory
    assert estimate(**size, micro_batches=8)["total"] < 72e9
    assert estimate(**size, micro_batches=4)["total"] > 72e9
    assert estimate(**size, remat=True)["total"] < 72e9
    rows, _ = advice("igpt_l", 48, 8, device_memory=80, remat=True)
    assert rows["fits"] == "yes, on 8 x 80 GB"


def test_advice_for_xl_at_64_pixels_is_the_least_mesh():
    rows, size = advice("igpt_xl", 64, 64, device_memory=80)
    assert "on a mesh of 16 x 4 (batch x model" in rows["fits"]
    assert "--remat" in rows["fits"]
    two = {**size, "batch_size": 2, "model_parallel": 2, "remat": True}
    for parts in (1, 2):
        found = memory.estimate_training_memory(**two, micro_batches=parts)
        assert found["total"] > 72e9
    rows, _ = advice("igpt_xl", 64, 64, device_memory=1)
    assert "nor with" in rows["fits"]


@pytest.mark.parametrize("options", [{}, {"device_memory": 1000.0}])
def test_nothing_is_advised_where_nothing_is_asked_or_wrong(options):
    rows, _ = advice("igpt_nano", 32, 1, **options)
    assert "or" not in rows
    assert rows.get("fits", "yes").startswith("yes")
