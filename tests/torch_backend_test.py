"""Training, sampling, features, probes and the recipe on PyTorch."""

import importlib.util
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import recipe
import tiny

import igpt_keras

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)


@pytest.fixture
def environment(subprocess_environment):
    return {**subprocess_environment, "KERAS_BACKEND": "torch"}


def test_in_python(environment, tmp_path):
    """The numbers are those of the backend that the tests run on."""
    program = (
        "import sys, numpy as np, keras, tiny, igpt_keras\n"
        "model, _ = igpt_keras.open_weights(sys.argv[1])\n"
        "model.compile(keras.optimizers.SGD(0.1))\n"
        "x, y = tiny.token_ids(24), np.arange(24) % 3\n"
        "logits = tiny.array(model(x))\n"
        "features, _ = igpt_keras.extract_features(model, [(x, y)])\n"
        "probe = igpt_keras.LinearProbe([(x, y)], [(x, y)], verbose=0)\n"
        "history = model.fit(x, x, batch_size=24, epochs=2, verbose=0,\n"
        "    callbacks=[probe])\n"
        "np.savez(sys.argv[2], logits=logits, features=features,\n"
        "    losses=history.history['loss'],\n"
        "    accuracy=probe.history[-1]['accuracy'],\n"
        "    samples=igpt_keras.sample(model, 4, seed=1),\n"
        "    weights=tiny.array(model.head.kernel))\n"
    )
    tiny.model().save_to_preset(tmp_path / "preset")
    results = []
    for backend in ("torch", "tensorflow"):
        path = tmp_path / f"{backend}.npz"
        result = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "preset", path],
            env={**environment, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results.append(np.load(path))
    for key in ("logits", "features", "losses", "accuracy", "weights"):
        np.testing.assert_allclose(
            results[0][key], results[1][key], atol=1e-4, err_msg=key
        )
    np.testing.assert_array_equal(results[0]["samples"], results[1]["samples"])


def test_steps(environment, tmp_path):
    """Of a batch in parts too, as the backend of the tests takes them."""
    program = (
        "import sys, keras, numpy as np, tiny, igpt_keras\n"
        "from igpt_keras.training.train_step import train_step\n"
        "model, _ = igpt_keras.open_weights(sys.argv[1])\n"
        "model.compile(keras.optimizers.Adam(0.01))\n"
        "model.optimizer.build(model.trainable_variables)\n"
        "step = train_step(model, int(sys.argv[3]), steps_per_call=2)\n"
        "batches = [(tiny.token_ids(8, seed),) * 2 for seed in (1, 2)]\n"
        "loss, count, _ = step(iter(batches))\n"
        "assert count == 2 and step.read(model.optimizer.iterations) == 2\n"
        "np.savez(sys.argv[2], loss=loss, **{str(i): tiny.array(v)\n"
        "    for i, v in enumerate(model.trainable_variables)})\n"
    )
    tiny.model().save_to_preset(tmp_path / "preset")
    # What it is measured by, in Keras's own steps.
    model = igpt_keras.IGPT.from_preset(tmp_path / "preset")
    model.compile(keras.optimizers.Adam(0.01))
    losses = [
        model.train_on_batch(*[tiny.token_ids(8, seed)] * 2) for seed in (1, 2)
    ]
    for parts in (1, 2):
        path = tmp_path / f"{parts}.npz"
        result = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "preset", path]
            + [str(parts)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        found = np.load(path)
        for i, variable in enumerate(model.trainable_variables):
            np.testing.assert_allclose(
                found[str(i)], tiny.array(variable), atol=1e-4
            )
        np.testing.assert_allclose(found["loss"], sum(losses), rtol=1e-5)


def test_recipe(environment, tmp_path):
    result = recipe.command(
        "pretrain",
        "--dataset=digits",
        "--preset=igpt_nano",
        "--vocabulary_size=4",
        "--input_resolution=4",
        "--steps=2",
        "--period=1",
        "--batch_size=8",
        "--probe_images=64",
        "--evaluation_images=64",
        f"--run_dir={tmp_path / 'run'}",
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["test_nats_per_token"] < np.log(4)
    assert len(metrics["probe"]) == 9
    # What it saved has the same loss on the backend of the tests.
    output = tmp_path / "evaluation.json"
    recipe.run(
        "evaluate",
        model=tmp_path / "run" / "preset",
        dataset="digits",
        images=64,
        output=output,
    )
    losses = json.loads(output.read_text())["all_images"]
    np.testing.assert_allclose(
        losses["nats_per_token"], metrics["test_nats_per_token"], rtol=1e-5
    )
