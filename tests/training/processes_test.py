"""Two processes of JAX on this machine, of two devices each, against one."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

PROGRAM = """
import pathlib, sys
from igpt_keras import training
directory, processes, number, address = sys.argv[1:]
if processes != "1":
    training.join_processes(address, int(processes), int(number))
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras
from igpt_keras.data.split import Split

directory = pathlib.Path(directory)
token_ids = tf.constant(tiny.token_ids(40))
split = Split(
    "toy", np.arange(40) % 3, (), 4, lambda i: tf.gather(token_ids, i),
    is_tokens=True,
)
sets = igpt_keras.data.TokenSets(tiny.grey_palette(), 8)
# The last batch of three.
validation = sets.evaluation(split.first(35))
keras.utils.set_random_seed(0)
devices = training.Devices("auto", None, DATA, 4 // DATA)
assert devices.num_workers == int(processes)
assert devices.is_chief == (number == "0")
size = {**tiny.SIZE, "num_layers": 1, "num_heads": 4, "hidden_dim": 16}
with devices.scope(8):
    model = igpt_keras.IGPT(**size)
    model.compile(training.SafeAdam(0.01, 0.5, epsilon=1e-4))
probe = igpt_keras.LinearProbe(
    sets.evaluation(split).probe_inputs, validation.probe_inputs, verbose=0
)
progress = igpt_keras.Progress(directory / "progress.json", [probe])
try:
    model = training.fit(
        model, sets.training_from(split), 10, 5,
        igpt_keras.TrainingCheckpoint(directory / "checkpoints"), progress,
        callbacks=[probe], validation_data=validation.inputs, verbose=0,
    )
except SystemExit as error:
    assert error.code == 0 and not devices.is_chief
    sys.exit(0)
np.savez(
    directory / "found.npz",
    weights=np.concatenate([tiny.array(v).ravel() for v in model.weights]),
    loss=[epoch["loss"] for epoch in progress.epochs],
    val_loss=[epoch["val_loss"] for epoch in progress.epochs],
    probe=[p["accuracy"] for p in progress.probes],
)
"""


def start(directory, processes, number, address, data_parallel):
    directory.mkdir(exist_ok=True)
    count = 4 // processes
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("DATA", str(data_parallel))]
        + [str(directory), str(processes), str(number), address],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.large
@pytest.mark.parametrize("data_parallel", [2, 1])
def test_two_processes_equal_one(data_parallel, tmp_path):
    """With a copy of the model in each, and with half a model in each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    arguments = address, data_parallel
    for running in (
        start(tmp_path / "two", 2, 0, *arguments),
        start(tmp_path / "two", 2, 1, *arguments),
        start(tmp_path / "one", 1, 0, *arguments),
    ):
        _, errors = running.communicate(timeout=300)
        assert running.returncode == 0, errors[-3000:]
    one, two = (
        np.load(tmp_path / place / "found.npz") for place in ("one", "two")
    )
    assert np.ptp(one["loss"]) > 1e-3
    for key in one.files:
        np.testing.assert_allclose(
            two[key], one[key], rtol=1e-5, atol=1e-5, err_msg=key
        )
