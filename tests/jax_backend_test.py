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
# Variations that cost a compilation each and say little more about a backend.
REST = (
    "bfloat16 or xla or limits or ties or refuses or overrides or damaged or "
    "bad_images or sizes_of_the_paper or preset_directory or fingerprint or "
    "dtype_policy or learns_a_constant or seeds_and_steps or keeps_more_codes "
    "or generators_lose or home_directory or takes_whatever or section_a_1 or "
    "save_and_open or as_before or later_layers or classifier_and_all or "
    "of_its_layer or keeps_its_layer or variants or know_a_head or "
    "one_run_however or fit_learns_and or fresh_probes or own_network or "
    "natural_mistakes or check_replicas or long_images or "
    "the_dtype_policy_around or added_since or one_prompt_serves or "
    "model_of_a_classifier or keeps_the_prompt or remat or commitment_moves or "
    "gradient_of_the_token or accumulation_over_halves or vq_vae_data or "
    "saved_and_opened or samples_follow or shape1 or shape2 or shape3 or "
    "mixed_precision or colour_histogram or candidates_never or is_a_tenth or "
    "frozen_quantizer or of_any_model or model_keeps_it or codebook_usage or "
    "first_position or fit_beats_random or joined_layers or samples_go_on or "
    "own_blocks or test_completions or samples_and_completions or "
    "draws_of_a_square or heads_that_do_not_divide or pixel_order or "
    "preset_writer or reversed or z_curve or random or presets_and_files or "
    "conditionals_make or classes_are_read or file_of_tokens or half_types or "
    "prompts_that_the or squares_of_one or later_squares or what_is_no or "
    "at_once_is or unknown_sizes or weights_of_tokens or "
    "adam_moves_every_variable or attentive_probe or variance_one or "
    "(every_variable and (autoregressive or classifier)) or "
    "moves_as_if_alone or block_causal or prefix_causal or "
    "smaller_than_the_codes or of_images_or_tokens or both_losses_of or "
    "bound_that_is_not or only_the_head_learns or revived_codes or "
    "later_batches or vq_vae_tokenizer_test or from_a_generator or "
    "targets_as_lists or trains_the_trunk or lora or "
    "numpy[1- or numpy[3- or numpy[8- or precision_test or data_is_measured or "
    "(generative_plus and not 1.0-auto) or saving_round_trip or "
    "samples_are_distinct or features_in_a_file or feature_model_is_made or "
    "quantized_models or every_code_is or initial_standard or "
    "no_vectors_leave or not_finite_vectors or two_steps_of or loss_is_what or "
    "nothing_hidden or does_not_depend or without_a_measured or "
    "compiled_draws or quantizer_built or frequent_tokens or "
    "fresh_losses or decoding_equals or weight_of_the_class or "
    "edges_of_the_unit or starts_from_002 or takes_integers or "
    "read_the_feature or sample_weights_weigh or rounded_products or "
    "a_draft_that_is or whatever_is_beside or runs_equal or "
    "image_of_one_token or greedy_tokens or (joint_distribution and not top_k)"
)


@pytest.mark.parametrize(
    "selection",
    [f"not ({REST})", pytest.param(REST, marks=pytest.mark.large)],
)
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="already on the JAX backend"
)
def test_on_jax_without_tensorflow(selection, subprocess_environment, tmp_path):
    pytest.importorskip("jax")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + ["-k", selection]
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
