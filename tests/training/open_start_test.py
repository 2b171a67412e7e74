import dataclasses

import numpy as np
import pytest
import tiny

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import presets  # noqa: E402
from igpt_keras import training  # noqa: E402
from igpt_keras.conversion.starting_weights import StartingWeights  # noqa: E402
from igpt_keras.models.resize_positions import resize_positions  # noqa: E402


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch):
    """A named size that is the tiny model's."""
    size = {**presets.IGPT["igpt_nano"], **tiny.SIZE}
    monkeypatch.setitem(presets.IGPT, "igpt_micro", size)


@pytest.fixture
def run(tmp_path):
    run = training.RunDirectory(tmp_path / "run")
    run.make()
    return run


def weights(model=None):
    model = model or tiny.model()
    return StartingWeights("keras:there", "ab" * 32, model, tiny.grey_palette())


def test_fresh_weights(run):
    opened, values, arrays = training.open_start(
        run, None, "digits", preset="igpt_nano"
    )
    expected, sizes = training.open_run_tokenizer(run, "digits")
    assert opened is expected is arrays is None
    assert values == {**sizes, "preset": "igpt_nano", "init_sha256": None}


@pytest.mark.parametrize("preset", [None, "igpt_micro"])
def test_shape_tokenizer_and_resolution_are_the_weights(run, preset, capsys):
    start = weights()
    opened, values, arrays = training.open_start(run, start, "cifar10", preset)
    assert opened is start.tokenizer
    assert values == {
        "palette": None,
        "tokenizer": None,
        "input_resolution": 4,
        "model_resolution": 4,
        "vocabulary_size": 11,
        "preset": "igpt_micro",
        "init_sha256": "ab" * 32,
    }
    assert "Starting from the weights in keras:there" in capsys.readouterr().out
    built = training.build_igpt(
        "igpt_micro", 11, 4, dropout=0.2, seed=3, weights=arrays
    )
    fresh = training.build_igpt("igpt_micro", 11, 4, seed=3)
    x = tiny.token_ids()
    np.testing.assert_allclose(
        tiny.array(built(x)), tiny.array(start.model(x)), atol=1e-5
    )
    # An untrained network of the same shape is none of these weights.
    np.testing.assert_allclose(tiny.array(fresh(x)), 0)


def test_positions_are_interpolated_on_request(run):
    start = weights()
    with pytest.raises(ValueError, match="positions of 4x4 tokens, and the im"):
        training.open_start(run, start, "digits", input_resolution=6)
    _, values, arrays = training.open_start(
        run, start, "digits", input_resolution=6, interpolate_positions=True
    )
    assert values["input_resolution"] == values["model_resolution"] == 6
    built = training.build_igpt("igpt_micro", 11, 6, weights=arrays)
    table = start.model.embedding.position_embedding
    np.testing.assert_allclose(
        tiny.array(built.embedding.position_embedding),
        resize_positions(tiny.array(table), 36),
    )
    others = [v for v in start.model.weights if v is not table]
    found = [
        v for v in built.weights if v is not built.embedding.position_embedding
    ]
    for one, two in zip(others, found, strict=True):
        np.testing.assert_array_equal(tiny.array(one), tiny.array(two))


def small(**changes):
    return tiny.model(**{"num_layers": 3, **changes})


@pytest.mark.parametrize(
    "model, arguments, message",
    [
        (small, {"preset": "igpt_nano"}, "--preset=igpt_nano is another shape"),
        (lambda: small(num_layers=1), {}, "num_layers=1.* is no --preset"),
        (small, {"objective": "bert"}, "Pass --objective=autoregressive"),
        (lambda: small(head="tied"), {}, "Pass --head=tied"),
        (lambda: small(order="spiral"), {}, "Pass --order=spiral"),
        (small, {"attention": "block_causal:2"}, "Pass --attention=causal"),
        (lambda: small(vocabulary_size=12), {}, "a vocabulary of 12"),
    ],
)
def test_refuses_weights_by_name(model, arguments, message, run):
    with pytest.raises(ValueError, match=message):
        training.open_start(run, weights(model()), "digits", **arguments)


def test_refuses_another_palette(run, tmp_path):
    palette = tiny.grey_palette().palette
    np.save(tmp_path / "same.npy", palette)
    np.save(tmp_path / "other.npy", palette[::-1])
    same, other = (str(tmp_path / f"{n}.npy") for n in ("same", "other"))
    opened, values, _ = training.open_start(
        run, weights(), "digits", palette=same
    )
    assert values["palette"] == same and opened.vocabulary_size == 11
    with pytest.raises(ValueError, match="are of another tokenizer"):
        training.open_start(run, weights(), "digits", palette=other)


def test_a_run_that_goes_on_needs_no_source(run):
    _, values, _ = training.open_start(run, weights(), "digits")
    config = {**values, "init": "keras:there", "seed": 0}
    run.begin(config, "images")
    checkpoint = run / "checkpoints" / "step_1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    gone = StartingWeights("keras:there", None)
    opened, found, arrays = training.open_start(run, gone, "digits")
    assert arrays is None and opened is None
    assert found == values
    assert run.begin({**config, **found}, "images")
    # Others under the same path are another run.
    other = dataclasses.replace(gone, sha256="cd" * 32)
    _, found, _ = training.open_start(run, other, "digits")
    with pytest.raises(ValueError, match="init_sha256: 'abab.* then, 'cdcd"):
        run.begin({**config, **found}, "images")
    # As are other settings.
    for name, value in (("preset", "igpt_nano"), ("input_resolution", 8)):
        _, found, _ = training.open_start(run, gone, "digits", **{name: value})
        with pytest.raises(ValueError, match=f"{name}: "):
            run.begin({**config, **found}, "images")


def test_builds_of_one_seed_are_the_same():
    one, two = (training.build_igpt("igpt_micro", 11, 4, seed=3) for _ in "ab")
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.get_config()["head"] == "zeros"
    assert isinstance(one, igpt_keras.IGPT)
