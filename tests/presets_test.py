import keras
import pytest

import igpt_keras
from igpt_keras import presets

PARAMETERS = {
    "igpt_nano": 320_352,
    "igpt_micro": 1_083_072,
    "igpt_mini": 9_968_128,
    "igpt_s": 76_571_648,
    "igpt_m": 455_157_760,
    "igpt_l": 1_362_250_752,
    "igpt_xl": 6_801_438_720,
}


def built_parameters(name, **overrides):
    # In a stateless scope weights have shapes and no memory; clearing the
    # session before the scope ends keeps it so.
    with keras.StatelessScope():
        model = igpt_keras.IGPT.from_preset(name, **overrides)
        count = model.count_params()
        keras.utils.clear_session()
    return count


def test_every_preset_has_a_known_count():
    assert set(PARAMETERS) == set(presets.IGPT) == set(presets.PRETRAINING)


@pytest.mark.parametrize(
    "name, objective, resolution, rate, source",
    [
        ("igpt_s", "autoregressive", 32, 3e-3, "Table 5: igpt_s, auto"),
        ("igpt_m", "autoregressive", 32, 3e-3, "Table 5: igpt_m, auto"),
        ("igpt_l", "autoregressive", 32, 1e-3, "Table 5: igpt_l, auto"),
        ("igpt_l", "autoregressive", 48, 1e-2, "Table 5: igpt_l, auto"),
        ("igpt_l", "autoregressive", 96, 3e-3, "Table 5: igpt_l, auto"),
        ("igpt_l", "autoregressive", 192, 1e-2, "Table 5: igpt_l, auto"),
        ("igpt_s", "bert", 32, 1e-2, "Table 5: igpt_s, bert, 32"),
        ("igpt_m", "bert", 32, 3e-3, "Table 5: igpt_m, bert, 32"),
        ("igpt_l", "bert", 32, 1e-3, "Table 5: igpt_l, bert, 32"),
        # Silent: the nearest of the same row, named.
        ("igpt_s", "autoregressive", 8, 3e-3, "igpt_s, autoregressive, 32 "),
        ("igpt_l", "bert", 96, 1e-3, "as Table 5 has none of igpt_l, bert, 96"),
        ("igpt_l", "autoregressive", 100, 3e-3, "igpt_l, autoregressive, 96 "),
        ("igpt_xl", "autoregressive", 32, 1e-3, "none of igpt_xl, autoreg"),
        ("igpt_xl", "autoregressive", 192, 1e-2, "igpt_l, autoregressive, 192"),
        ("igpt_nano", "bert", 8, 5e-3, "ours for igpt_nano"),
        ("igpt_micro", "autoregressive", 32, 3e-3, "ours for igpt_micro"),
        ("igpt_mini", "autoregressive", 32, 3e-3, "ours for igpt_mini"),
    ],
)
def test_learning_rates_of_table_5(name, objective, resolution, rate, source):
    found = presets.choose_learning_rate(name, objective, resolution)
    assert found[0] == rate and source in found[1]


@pytest.mark.parametrize("name", presets.IGPT)
def test_parameter_counts(name):
    assert built_parameters(name) == PARAMETERS[name]
    assert presets.count_parameters(**presets.IGPT[name]) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["igpt_s", "igpt_nano"])
def test_bert_has_no_start_token(name):
    size = presets.IGPT[name]
    count = PARAMETERS[name] - size["hidden_dim"]
    assert built_parameters(name, objective="bert") == count
    assert presets.count_parameters(**size, objective="bert") == count


def test_large_at_48_pixels():
    for vocabulary_size, count in ((512, 1_364_216_832), (4096, 1_375_226_880)):
        size = {
            **presets.IGPT["igpt_l"],
            "sequence_length": 48 * 48,
            "vocabulary_size": vocabulary_size,
        }
        assert presets.count_parameters(**size) == count


def test_training_flops_of_the_paper():
    # 6 N + full attention, 128 x 1024 tokens, a million steps.
    expected = {"igpt_s": 7.9e19, "igpt_m": 4.2e20, "igpt_l": 1.19e21}
    for name, flops in expected.items():
        size = dict(presets.IGPT[name])
        del size["num_heads"]
        step = presets.count_training_flops(**size, batch_size=128)
        assert step * 1e6 == pytest.approx(flops, rel=0.02)


def test_another_size_than_the_presets():
    shape = {"num_layers": 3, "num_heads": 5, "hidden_dim": 40}
    size = presets.architecture("igpt_s", 17, 8, "bert", **shape)
    assert size == {
        **shape,
        "vocabulary_size": 17,
        "sequence_length": 64,
        "objective": "bert",
    }
    deeper = presets.architecture("igpt_s", 17, 8, "bert", num_layers=30)
    assert (deeper["num_layers"], deeper["hidden_dim"]) == (30, 512)
    with pytest.raises(ValueError, match="hidden_dim=40 is not divisible by"):
        presets.architecture("igpt_l", 17, 8, "bert", hidden_dim=40)
