import re

import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras.backend import compile_rows
from igpt_keras.models import sampling
from igpt_keras.models.decoding import cache_lengths
from igpt_keras.models.decoding import decode
from igpt_keras.models.decoding import prefill
from igpt_keras.models.draw import draw


@pytest.mark.each_backend
@pytest.mark.parametrize("position_scale", [1.0, 20.0])
def test_cached_logits_equal_the_full_forward_pass(position_scale):
    model, token_ids = tiny.model(), tiny.token_ids()
    position = model.embedding.position_embedding
    position.assign(position * position_scale)
    expected = array(model(token_ids))
    caches = [(np.zeros((4, 3, 16, 5), "float32"),) * 2] * 3
    for i in range(16):
        # Nothing at or after the position may matter.
        seen = np.where(np.arange(16) < i, token_ids, 10)
        logits, caches = decode(model, seen, caches, i)
        np.testing.assert_allclose(
            array(logits)[:, 0], expected[:, i], atol=1e-4
        )


@pytest.mark.each_backend
@pytest.mark.parametrize("length", [1, 7])
def test_a_prompt_is_one_pass(length):
    """Its caches are those of as many steps."""
    model, token_ids = tiny.model(), tiny.token_ids()
    caches = [(np.zeros((4, 3, length, 5), "float32"),) * 2] * 3
    for i in range(length):
        _, caches = decode(model, token_ids, caches, i)
    for found, expected in zip(prefill(model, token_ids, length), caches):
        for x, y in zip(found, expected):
            np.testing.assert_allclose(array(x), array(y), atol=1e-5)


@pytest.mark.each_backend
def test_greedy_sampling_takes_the_best_token_of_the_full_forward_pass():
    model = tiny.model()
    token_ids = igpt_keras.sample(model, num_samples=2, temperature=0)
    best = array(model(token_ids)).argmax(axis=-1)
    np.testing.assert_array_equal(token_ids, best)


def test_limits_are_greedy():
    model = tiny.model(num_layers=1)
    greedy = igpt_keras.sample(model, num_samples=2, temperature=0)
    for arguments in ({"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-4}):
        np.testing.assert_array_equal(
            igpt_keras.sample(model, num_samples=2, **arguments), greedy
        )


@pytest.mark.parametrize("length", [0, 5, 8, 16])
def test_completion_keeps_the_prompt_and_continues_it(length):
    model, prompt = tiny.model(), tiny.token_ids()[:, :length]
    token_ids = igpt_keras.sample(model, 4, prompt=prompt, temperature=0)
    np.testing.assert_array_equal(token_ids[:, :length], prompt)
    best = array(model(token_ids)).argmax(axis=-1)
    np.testing.assert_array_equal(token_ids[:, length:], best[:, length:])


@pytest.mark.compiled
def test_long_images_are_compiled_once_a_shape(monkeypatch):
    """Caches of three lengths; rows that do not divide into two parts."""
    model = tiny.model(sequence_length=150, num_layers=1)
    steps = []

    def count(*arguments):
        steps.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(sampling, "decode", count)
    token_ids = igpt_keras.sample(model, num_samples=3, temperature=0)
    best = array(model(token_ids)).argmax(axis=-1)
    np.testing.assert_array_equal(token_ids, best)
    # Other values of the same shapes trace nothing.
    for keywords in ({"temperature": 0, "seed": 1}, {"temperature": 0}):
        traced = len(steps)
        igpt_keras.sample(model, num_samples=3, **keywords)
        assert len(steps) == traced


@pytest.mark.compiled
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_rows_are_compiled_in_parts_of_so_many_at_least(rows, least):
    sizes = []

    def double(inputs):
        sizes.append(inputs["x"].shape[0])
        return {"twice": 2 * inputs["x"]}

    x = np.arange(2.0 * rows).reshape(rows, 2)
    model = keras.Sequential()
    found = compile_rows(double, {"x": keras.ops.array(x)}, model, least)
    np.testing.assert_array_equal(array(found["twice"]), 2 * x)
    assert min(sizes) >= least
    # Traced once: a second shape would be a second program.
    assert len(sizes) == 1


@pytest.mark.each_backend
@pytest.mark.parametrize("start", [0, 5, 64, 200, 511, 512, 1024])
@pytest.mark.parametrize("stop", [1, 64, 130, 1024, 2304])
def test_caches_are_hardly_longer_than_what_is_filled(start, stop):
    lengths = cache_lengths(start, stop)
    if start >= stop:
        assert lengths == []
        return
    assert lengths == sorted(set(lengths)) and len(lengths) <= 4
    assert lengths[0] > start and lengths[-1] == stop
    previous = [start, *lengths[:-1]]
    block = max(64, -(-stop // 4))
    assert all(a - b <= block for a, b in zip(lengths, previous))


@pytest.mark.compiled
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="reads TensorFlow's HLO"
)
def test_a_step_copies_no_cache():
    """What a step moves beyond attention does not grow with the cache."""
    import tensorflow as tf

    model = tiny.model(sequence_length=130, num_layers=1)
    inputs = {
        "token_ids": tf.zeros((2, 130), "int32"),
        "uniform": tf.zeros((2, 130)),
        "temperature": tf.ones(2),
    }
    sampler = sampling._Sampler(model, 0, None, None)
    compiled = tf.function(sampler.complete, jit_compile=True, autograph=False)
    text = compiled.experimental_get_compiler_ir(inputs)(stage="optimized_hlo")
    bodies = set(re.findall(r"body=%?([\w.-]+)", text))
    updates = 0
    for part in text.split("\n\n"):
        if part.lstrip("%").split(" ", 1)[0] not in bodies:
            continue
        for line in part.splitlines():
            if re.search(r"= f32\[2,3,(64|128|130),5\]", line):
                assert " copy(" not in line and " transpose(" not in line
                updates += "dynamic-update-slice" in line or "fusion" in line
    assert updates >= 6, text  # keys and values in three loops


def test_one_prompt_serves_all_samples():
    prompt = tiny.token_ids()[0, :5]
    token_ids = igpt_keras.sample(tiny.model(), 6, prompt=prompt)
    np.testing.assert_array_equal(token_ids[:, :5], np.tile(prompt, (6, 1)))


def test_samples_are_distinct_in_range_and_fixed_by_the_seed():
    model = igpt_keras.IGPT(**tiny.SIZE)
    token_ids = igpt_keras.sample(model, num_samples=32, seed=5)
    assert token_ids.dtype == np.int32 and token_ids.shape == (32, 16)
    assert len(np.unique(token_ids, axis=0)) == 32
    assert token_ids.min() == 0 and token_ids.max() == 10
    np.testing.assert_array_equal(
        token_ids, igpt_keras.sample(model, num_samples=32, seed=5)
    )
    other = igpt_keras.sample(model, num_samples=32, seed=6)
    assert not np.array_equal(token_ids, other)


def test_samples_follow_the_model():
    """Pairs of tokens against the exact joint, by chi-square."""
    model = tiny.model(
        vocabulary_size=3, sequence_length=2, num_layers=1, scale=0.5
    )
    count = 20_000
    token_ids = igpt_keras.sample(model, num_samples=count, temperature=1.5)
    pairs = np.array([(a, b) for a in range(3) for b in range(3)], "int32")
    logits = array(model(pairs)).astype("float64") / 1.5
    expected = count * np.exp(-reference.nats(logits, pairs).sum(axis=1))
    observed = [(token_ids == pair).all(axis=1).sum() for pair in pairs]
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < 26.1  # 8 degrees of freedom, one in a thousand
    # Drawing at another temperature would not pass.
    other = count * np.exp(-reference.nats(1.5 * logits, pairs).sum(axis=1))
    assert ((observed - other) ** 2 / other).sum() > 100


def drawn(logits, count=50_000, **arguments):
    uniform = np.random.default_rng(0).random(count, dtype="float32")
    logits = np.tile(np.array(logits, "float32"), (count, 1))
    token_ids = array(draw(logits, uniform, **arguments))
    return np.bincount(token_ids, minlength=logits.shape[1]) / count


@pytest.mark.each_backend
def test_draws_follow_softmax():
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.0])
    expected = reference.softmax(logits)
    np.testing.assert_allclose(drawn(logits), expected, atol=0.008)


@pytest.mark.each_backend
def test_top_k_renormalises_the_k_best():
    probabilities = drawn(np.log([0.1, 0.2, 0.4, 0.3]), top_k=2)
    np.testing.assert_allclose(probabilities, [0, 0, 4 / 7, 3 / 7], atol=0.008)


@pytest.mark.each_backend
def test_top_p_includes_the_crossing_token():
    # 0.4 is not enough for 0.5, 0.4 + 0.3 is.
    probabilities = drawn(np.log([0.1, 0.2, 0.4, 0.3]), top_p=0.5)
    np.testing.assert_allclose(probabilities, [0, 0, 4 / 7, 3 / 7], atol=0.008)


@pytest.mark.each_backend
def test_top_p_is_of_what_top_k_leaves():
    # Of {0.4, 0.3} the first is 0.57, enough for 0.5.
    probabilities = drawn(np.log([0.1, 0.2, 0.4, 0.3]), top_k=2, top_p=0.5)
    np.testing.assert_array_equal(probabilities, [0, 0, 1, 0])


def test_ties_go_to_the_lower_token():
    probabilities = drawn([1.0, 1.0, 1.0, 0.0], top_k=2)
    np.testing.assert_allclose(probabilities, [0.5, 0.5, 0, 0], atol=0.008)


def test_the_edges_of_the_unit_interval_stay_inside_the_kept_tokens():
    logits = np.tile(np.log(np.float32([0.1, 0.2, 0.4, 0.3])), (2, 1))
    uniform = np.array([0.0, 1 - 2**-24], "float32")
    assert array(draw(logits, uniform, top_k=2)).tolist() == [2, 3]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_samples": 0}, "num_samples must be a positive int"),
        ({"temperature": -1}, "temperature must be >= 0"),
        ({"temperature": float("nan")}, "temperature must be >= 0 and finite"),
        ({"temperature": float("inf")}, "temperature must be >= 0 and finite"),
        ({"temperature": "warm"}, "temperature must be >= 0 and finite"),
        ({"temperature": 1e-46}, "is 0 in float32. Take a larger one, or 0"),
        ({"temperature": 1e-38}, "makes the logits infinite. Take a larger"),
        ({"num_samples": True}, "num_samples must be a positive int"),
        ({"num_samples": [2]}, "num_samples must be a positive int"),
        ({"top_k": 0}, "top_k must be a positive int"),
        ({"top_k": 1.5}, "top_k must be a positive int"),
        ({"top_p": float("nan")}, r"top_p must be in \[0, 1\]"),
        ({"prompt": 3}, r"prompt must have shape"),
        ({"top_p": 1.5}, r"top_p must be in \[0, 1\]"),
        ({"prompt": np.zeros((3, 4), "int32")}, r"prompt must have shape"),
        ({"prompt": np.zeros(17, "int32")}, r"P <= 16"),
        ({"prompt": np.full(4, 11)}, r"int token ids in \[0, 11\)"),
        ({"prompt": np.zeros(4)}, r"int token ids"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        igpt_keras.sample(tiny.model(), **arguments)


def test_refuses_a_model_that_diverged():
    model = tiny.model(num_layers=1)
    for value, arguments in (
        (np.nan, {}),
        (np.inf, {"temperature": 0}),
        (np.nan, {"top_p": 0.5}),
    ):
        model.head.kernel.assign(np.full((15, 11), value))
        with pytest.raises(ValueError, match="it diverged"):
            igpt_keras.sample(model, num_samples=2, **arguments)


def test_one_prompt_serves_all_samples_as_a_row_too():
    prompt = tiny.token_ids()[:1, :5]
    token_ids = igpt_keras.sample(tiny.model(), np.int64(6), prompt=prompt)
    np.testing.assert_array_equal(token_ids[:, :5], np.tile(prompt, (6, 1)))


def test_samples_from_the_model_of_a_classifier():
    model = tiny.model()
    expected = igpt_keras.sample(model, num_samples=2)
    classifier = igpt_keras.IGPTClassifier(model, 3)
    np.testing.assert_array_equal(
        igpt_keras.sample(classifier, num_samples=2), expected
    )
    with pytest.raises(ValueError, match="this Sequential has no `embedding`"):
        igpt_keras.sample(keras.Sequential())


def test_weights_that_were_added_since_count():
    model = tiny.model()
    before = igpt_keras.sample(model, num_samples=2, temperature=0)
    model.head.enable_lora(2)
    shape = model.head.lora_kernel_b.shape
    model.head.lora_kernel_b.assign(np.arange(22).reshape(shape))
    greedy = igpt_keras.sample(model, num_samples=2, temperature=0)
    assert not np.array_equal(greedy, before)
    best = array(model(greedy)).argmax(axis=-1)
    np.testing.assert_array_equal(greedy, best)


@pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.large)],
)
def test_the_dtype_policy_around_changes_nothing(dtype):
    model = tiny.model(dtype=dtype)
    expected = igpt_keras.sample(model, num_samples=8)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = igpt_keras.sample(tiny.model(dtype=dtype), num_samples=8)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(found, expected)


def test_refuses_bert():
    with pytest.raises(ValueError, match="needs an autoregressive IGPT"):
        igpt_keras.sample(tiny.model("bert"))
