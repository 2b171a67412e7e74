"""Against what the released code computed, and checkpoints written here."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny import array

import igpt_keras

tf = pytest.importorskip("tensorflow")
import reference  # noqa: E402
import released_checkpoint  # noqa: E402


def weights_for_reference(variables, size=released_checkpoint.SIZE):
    """The checkpoint's variables as `reference.forward` takes them."""
    get = {k.removeprefix("model/"): v for k, v in variables.items()}.get
    weights = {
        "wte": get("wte"),
        "wpe": get("wpe"),
        "ln_f": get("ln_f/g"),
        "head": get("wtet").T,
        "blocks": [
            {
                "ln_1": get(f"h{i}/ln_1/g"),
                "q": get(f"h{i}/attn/q_proj").transpose(2, 0, 1),
                "k": get(f"h{i}/attn/k_proj").transpose(2, 0, 1),
                "v": get(f"h{i}/attn/v_proj").transpose(2, 0, 1),
                "out": get(f"h{i}/attn/c_proj"),
                "ln_2": get(f"h{i}/ln_2/g"),
                "up": get(f"h{i}/mlp/c_fc/w"),
                "down": get(f"h{i}/mlp/c_proj/w"),
            }
            for i in range(size["layers"])
        ],
    }
    if get("sos") is not None:
        weights["sos"] = get("sos")
    return weights


def written(tmp_path, shards=1, change=None, **arguments):
    variables = released_checkpoint.variables(**arguments)
    if change:
        change(variables)
    prefix = tmp_path / "model.ckpt-7"
    released_checkpoint.write(prefix, variables, shards)
    return prefix, variables


@pytest.mark.parametrize("form", ["prefix", "index", "directory"])
@pytest.mark.parametrize("name", ["ar_small", "bert_small"])
def test_oracle(name, form, shared):
    directory = shared / "oracle" / name
    path = {
        "prefix": directory / "model.ckpt-1000",
        "index": directory / "model.ckpt-1000.index",
        "directory": directory,
    }[form]
    classifier = igpt_keras.load_openai_checkpoint(path)
    assert isinstance(classifier, igpt_keras.IGPTClassifier)
    model = classifier.igpt
    expected = np.load(directory / "expected.npz")
    inputs = token_ids = expected["x"]
    if name == "bert_small":
        inputs = {"token_ids": token_ids, "mask": expected["uniform"] <= 0.15}
    np.testing.assert_allclose(
        array(model(inputs)), expected["gen_logits"], atol=1e-5
    )
    model.compile()
    loss = model.evaluate(inputs, token_ids, verbose=0)
    assert abs(loss - expected["gen_loss"]) < 1e-5
    logits = array(classifier(inputs)["class_logits"]).astype("float64")
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    class_loss = -logits[np.arange(3), expected["y"]].mean()
    assert abs(class_loss - expected["clf_loss"]) < 1e-5
    features, _ = igpt_keras.extract_features(
        classifier, [(inputs, expected["y"])]
    )
    for layer in range(model.num_layers + 1):
        norm = "ln_f" if layer == model.num_layers else "ln_1"
        expected_norm = expected[f"norm{2 * layer:03d}_{norm}_out"]
        np.testing.assert_allclose(
            features[layer], expected_norm.mean(axis=1), atol=1e-5
        )


@pytest.mark.parametrize("bert", [False, True])
@pytest.mark.parametrize("shards", [1, 5])
def test_matches_the_reference(bert, shards, tmp_path):
    prefix, variables = written(tmp_path, shards, bert=bert)
    model = igpt_keras.load_openai_checkpoint(prefix)
    assert model.objective == ("bert" if bert else "autoregressive")
    assert (model.num_heads, model.num_layers) == (3, 3)
    token_ids = np.random.default_rng(0).integers(0, 11, (4, 16))
    mask = np.random.default_rng(1).random((4, 16)) < 0.3 if bert else None
    inputs = {"token_ids": token_ids, "mask": mask} if bert else token_ids
    expected, _ = reference.forward(
        weights_for_reference(variables), token_ids, mask
    )
    np.testing.assert_allclose(array(model(inputs)), expected, atol=1e-4)


def test_ignores_slots_and_unknown_names_in_one_line(tmp_path, caplog):
    def change(variables):
        variables.update(released_checkpoint.adam_slots(variables))
        variables["model/h0/attn/something"] = np.zeros(3, "float32")
        variables["model/h99/something"] = np.zeros(3, "float32")

    prefix, variables = written(tmp_path, shards=3, change=change)
    model = igpt_keras.load_openai_checkpoint(prefix)
    token_ids = np.random.default_rng(0).integers(0, 11, (4, 16))
    expected, _ = reference.forward(weights_for_reference(variables), token_ids)
    np.testing.assert_allclose(array(model(token_ids)), expected, atol=1e-4)
    (record,) = [r for r in caplog.records if "Ignored" in r.message]
    weights = [name for name in variables if "Adam" not in name]
    assert f"Ignored {2 * (len(weights) - 4) + 4} " in record.message
    assert "\n" not in record.message


def test_leading_unit_dimensions(tmp_path):
    def change(variables):
        for name in list(variables):
            variables[name] = variables[name][None]

    prefix, variables = written(tmp_path, change=change, classes=4)
    model = igpt_keras.load_openai_checkpoint(prefix)
    assert model.num_classes == 4
    np.testing.assert_array_equal(
        array(model.igpt.blocks[2].mlp_up.kernel),
        variables["model/h2/mlp/c_fc/w"][0],
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop("model/h1/ln_2/g"), "no variable model/h1/ln_2/g"),
        (lambda v: v.pop("model/wpe"), "no variable model/wpe"),
        (
            lambda v: v.update({"model/wte": v["model/wte"].T.copy()}),
            r"model/wte in .* has shape \(15, 11\), expected \(15, 15\)",
        ),
        (
            lambda v: v.update({"model/ln_f/g": np.ones(16, "float32")}),
            r"q_proj in .* shape \(3, 5, 15\): .* not the 16 of model/ln_f/g",
        ),
        (
            lambda v: v.update({"model/wtet": v["model/wtet"][:-1]}),
            r"model/wtet in .* has shape \(10, 15\), expected \(11, 15\)",
        ),
        (
            lambda v: v["model/h2/mlp/c_proj/w"].__setitem__((0, 0), np.nan),
            "model/h2/mlp/c_proj/w is not finite",
        ),
        (
            lambda v: v.update({"model/sos": np.zeros(15, "int32")}),
            "model/sos in .* is int32",
        ),
        (
            lambda v: v.update(
                {"model/h0/attn/q_proj": np.zeros((15, 15), "float32")}
            ),
            "model/h0/attn/q_proj in .* expected 3 dimensions",
        ),
        (lambda v: [v.pop(n) for n in list(v) if "h1" in n], "model/h1"),
    ],
)
def test_never_loads_half_a_model(change, message, tmp_path):
    prefix, _ = written(tmp_path, change=change)
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_openai_checkpoint(prefix)


def shard(prefix):
    return prefix.with_name(f"{prefix.name}.data-00002-of-00005")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
)
def test_damaged_shards(damage, tmp_path):
    prefix, variables = written(tmp_path, shards=5)
    damage(shard(prefix))
    inside = "|".join(list(variables)[2::5])
    message = rf"({inside}) cannot be read .* missing or damaged"
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_openai_checkpoint(prefix)


def test_missing_shards(tmp_path):
    prefix, _ = written(tmp_path, shards=5)
    shard(prefix).unlink()
    with pytest.raises(ValueError, match="lacks model.ckpt-7.data-00002-of"):
        igpt_keras.load_openai_checkpoint(prefix)
    for path in prefix.parent.glob("*.data-*"):
        path.unlink()
    with pytest.raises(ValueError, match="cannot be read .* No such file"):
        igpt_keras.load_openai_checkpoint(prefix)


def test_flipped_bytes_in_the_index(tmp_path):
    """Every eighth byte in turn: an error, or the very same weights."""
    prefix, variables = written(tmp_path)
    table = variables["model/wte"]
    index = prefix.with_name("model.ckpt-7.index")
    content = index.read_bytes()
    noticed = 0
    for position in range(0, len(content), 8):
        damaged = bytearray(content)
        damaged[position] ^= 0x81
        index.write_bytes(damaged)
        try:
            model = igpt_keras.load_openai_checkpoint(prefix)
        except ValueError as error:
            assert str(prefix) in str(error)
            noticed += 1
        else:
            loaded = array(model.embedding.token_embedding)
            np.testing.assert_array_equal(loaded, table)
    assert noticed > 0.8 * len(content) / 8


def test_paths(tmp_path):
    with pytest.raises(ValueError, match="model.ckpt-9.index is not there"):
        igpt_keras.load_openai_checkpoint(tmp_path / "model.ckpt-9")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        igpt_keras.load_openai_checkpoint(tmp_path)
    first, _ = written(tmp_path)
    assert igpt_keras.load_openai_checkpoint(tmp_path).num_layers == 3
    for file in tmp_path.glob("model.ckpt-7.*"):
        shutil.copy(file, tmp_path / file.name.replace("-7.", "-8."))
    message = "2 checkpoints .* model.ckpt-7, model.ckpt-8"
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_openai_checkpoint(tmp_path)
    # The path is of the machine that wrote it.
    state = 'model_checkpoint_path: "/elsewhere/model.ckpt-8"\n'
    (tmp_path / "checkpoint").write_text(state)
    (tmp_path / "model.ckpt-7.data-00000-of-00001").unlink()
    assert igpt_keras.load_openai_checkpoint(tmp_path).num_layers == 3
    (tmp_path / "checkpoint").write_text(state.replace("-8", "-9"))
    with pytest.raises(ValueError, match="names model.ckpt-9, which is not"):
        igpt_keras.load_openai_checkpoint(tmp_path)
    for damage in (b"\xff\xfe", b"{{{"):
        (tmp_path / "checkpoint").write_bytes(damage)
        with pytest.raises(ValueError, match="checkpoint is damaged"):
            igpt_keras.load_openai_checkpoint(tmp_path)


def test_position_table(tmp_path):
    prefix, variables = written(tmp_path, classes=4)
    message = "16 positions and sequence_length=36 .* interpolate_positions"
    with pytest.raises(ValueError, match=message):
        igpt_keras.load_openai_checkpoint(prefix, sequence_length=36)
    model = igpt_keras.load_openai_checkpoint(
        prefix, sequence_length=36, interpolate_positions=True
    )
    outputs = model(np.zeros((2, 36), "int32"))
    assert outputs["token_logits"].shape == (2, 36, 11)
    np.testing.assert_array_equal(
        array(model.igpt.embedding.start_embedding), variables["model/sos"]
    )
    table = array(model.igpt.embedding.position_embedding)
    original = variables["model/wpe"]
    # Bicubic keeps the mean nearly, and the corners' neighbourhoods.
    assert abs(table.mean() - original.mean()) < 0.05
    assert np.linalg.norm(table[0] - original[0]) < np.linalg.norm(
        table[0] - original[-1]
    )


def test_without_tensorflow(tmp_path, subprocess_environment):
    pytest.importorskip("jax")
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import igpt_keras\n"
        "try:\n"
        "    igpt_keras.load_openai_checkpoint('x')\n"
        "except ImportError as error:\n"
        "    assert 'pip install tensorflow' in str(error)\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env={**subprocess_environment, "KERAS_BACKEND": "jax"},
        check=True,
    )


@pytest.mark.large
@pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").is_file(), reason="reads /proc"
)
def test_memory(tmp_path, subprocess_environment):
    """Peak memory beyond an idle process, against the weights: 1.3 times."""
    size = {
        "vocabulary": 512,
        "length": 1024,
        "layers": 16,
        "heads": 16,
        "width": 1536,
    }
    variables = released_checkpoint.variables(size=size)
    prefix = released_checkpoint.write(tmp_path / "m", variables, shards=64)
    # Not getrusage, whose peak a child inherits from its parent.
    program = (
        "import re, sys, igpt_keras\n"
        "def peak():\n"
        "    status = open('/proc/self/status').read()\n"
        "    return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
        "model = igpt_keras.IGPT.from_preset('igpt_nano')\n"
        "before = peak()\n"
        "model = igpt_keras.load_openai_checkpoint(sys.argv[1])\n"
        "ratio = (peak() - before) / (4 * model.count_params())\n"
        "assert 1 < ratio < 1.3, ratio\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(prefix)],
        env=subprocess_environment,
        check=True,
    )
