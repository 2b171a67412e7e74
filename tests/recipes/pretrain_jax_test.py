import os
import subprocess
import sys

import keras
import pytest
import recipe

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

FLAGS = {"dataset": "digits", "preset": "igpt_nano"}


def test_a_mesh_trains_a_run(tmp_path):
    """By the command alone, which chooses the backend."""
    run = tmp_path / "run"
    words = [f"--{name}={value}" for name, value in FLAGS.items()]
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    program = recipe.program_of(
        "pretrain_jax",
        *(*words, "--model_parallel=2", f"--run_dir={run}"),
        # A BERT does not sample, which takes longest.
        "--objective=bert",
        *("--num_layers=1", "--num_heads=2", "--hidden_dim=8"),
        *("--vocabulary_size=9", "--steps=2", "--period=2", "--batch_size=8"),
        *("--probe_images=0", "--evaluation_images=30", "--pictures=0"),
    )
    result = subprocess.run(
        [sys.executable, *program],
        env={
            **environment,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Explicitly requested dtype" not in result.stderr
    for name in ("metrics.json", "preset"):
        assert (run / name).exists()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            {"model_parallel": 3},
            "not fit 8 devices and 4 heads; use --data_parallel=4 "
            "--model_parallel=2 or --data_parallel=2 --model_parallel=4",
        ),
        # The devices it would divide, the heads it does not.
        ({"model_parallel": 8}, "use .*=2 or .*--model_parallel=4"),
        ({"data_parallel": 3}, "data_parallel=3 times model_parallel=1"),
        ({"batch_size": 12}, "among 8 replicas; use 8 or 16"),
        (
            {"batch_size": 24, "micro_batches": 2},
            "8 replicas and 2 micro-batches; use 16 or 32",
        ),
        ({"strategy": "mirrored"}, "of tf.distribute"),
        ({"tpu": "local"}, "of tf.distribute"),
        ({"num_processes": 2}, "--job_addresses is missing"),
        (
            {"job_addresses": "a:1", "num_processes": 2, "process_id": 2},
            "from 0 to num_processes - 1 = 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message, monkeypatch, tmp_path):
    """Before data is read."""
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("keras.distribution.get_device_count", lambda: 8)
    with pytest.raises(ValueError, match=message):
        recipe.run("pretrain_jax", **FLAGS, **wrong, run_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_it_says_what_the_backend_is(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match="KERAS_BACKEND is tensorflow"):
        recipe.run("pretrain_jax", **FLAGS)


def test_importing_it_leaves_the_backend():
    assert keras.backend.backend() == os.environ.get(
        "KERAS_BACKEND", keras.backend.backend()
    )
