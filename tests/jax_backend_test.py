"""The model, palette, feature and sampling tests again, on JAX alone."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tiny
from conftest import ROOT

import igpt_keras

SUITES = [
    "layers",
    "models",
    "tokenizers",
    # The other probes are scikit-learn's, whatever the backend.
    "probes/features_test.py",
    "probes/attentive_probe_test.py",
    "probes/probe_grid_test.py",
    "conversion/save_huggingface_test.py",
]


@pytest.mark.parametrize(
    "selection",
    [
        "each_backend",
        pytest.param("not each_backend", marks=pytest.mark.large),
    ],
)
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="already on the JAX backend"
)
def test_on_jax_without_tensorflow(selection, subprocess_environment, tmp_path):
    pytest.importorskip("jax")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + ["-m", selection]
        + [f"tests/{suite}" for suite in SUITES],
        cwd=ROOT,
        env={
            **subprocess_environment,
            "KERAS_BACKEND": "jax",
            "IGPT_TEST_BLOCK_TENSORFLOW": "1",
            # Most of the time is compilation.
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    # Warnings have "passed" in them too, without a number.
    counts = re.findall(r"(\d+) passed", result.stdout)
    assert counts and int(counts[-1]) > 20, result.stdout[-1000:]


def test_import_on_jax_does_not_import_tensorflow(subprocess_environment):
    """And `python -m igpt_keras` says what is missing where it is."""
    pytest.importorskip("jax")
    program = (
        "import runpy, sys, igpt_keras\n"
        "names = {'tensorflow', 'tensorflow_datasets', 'keras_cv'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)\n"
        "sys.modules.update(dict.fromkeys(names))\n"
        "runpy.run_module('igpt_keras', run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**subprocess_environment, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    output = result.stdout
    assert re.search(r"^backend +jax \d", output, re.MULTILINE)
    assert re.search(r"^devices +cpu:0", output, re.MULTILINE)
    for package in ("tensorflow", "tensorflow-datasets"):
        assert f"`pip install {package}`" in output


def test_data_without_tensorflow_says_what_to_do(subprocess_environment):
    pytest.importorskip("jax")
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import igpt_keras\n"
        "try:\n"
        "    igpt_keras.data.image_dataset('digits', 'train', 8, 4)\n"
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
def test_same_weights_give_the_same_results(subprocess_environment, tmp_path):
    """A saved model computes and samples the same on both backends."""
    pytest.importorskip("jax")
    program = (
        "import sys, numpy as np, tiny, igpt_keras\n"
        "x = tiny.token_ids()\n"
        "model, _ = igpt_keras.open_weights(sys.argv[2])\n"
        "model.compile()\n"
        "features, _ = igpt_keras.extract_features(\n"
        "    model, [(x, np.zeros(4))])\n"
        "np.savez(sys.argv[1], logits=tiny.array(model(x)),\n"
        "    loss=model.evaluate(x, x, verbose=0), features=features,\n"
        "    samples=igpt_keras.sample(model, 4, seed=1))\n"
    )
    tiny.model().save_to_preset(tmp_path / "preset")
    igpt_keras.save_openai_checkpoint(tiny.model(), tmp_path / "model.ckpt-1")
    results = []
    for backend, preset in (
        ("tensorflow", tmp_path / "preset"),
        # TensorFlow reads, JAX computes.
        ("jax", tmp_path / "model.ckpt-1"),
    ):
        path = tmp_path / f"{backend}.npz"
        subprocess.run(
            [sys.executable, "-c", program, str(path), str(preset)],
            env={**subprocess_environment, "KERAS_BACKEND": backend},
            check=True,
        )
        results.append(np.load(path))
    for key in ("logits", "loss", "features"):
        np.testing.assert_allclose(
            results[0][key], results[1][key], atol=1e-4, err_msg=key
        )
    np.testing.assert_array_equal(results[0]["samples"], results[1]["samples"])
