"""Two workers on this machine against one process."""

import json
import os
import signal
import socket
import time

import forked
import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")

PROGRAM = '''
import functools, pathlib, sys
import keras, numpy as np, tensorflow as tf, tiny, igpt_keras
from igpt_keras import training
from igpt_keras.data.split import Split
from igpt_keras.program import interrupts

directory, *kinds = sys.argv[1:]
directory = pathlib.Path(directory)
devices = training.Devices()
token_ids = tf.constant(tiny.token_ids(40))


def build(kind):
    """The model, its training and validation batches, and probes."""
    if kind == "vq_vae":
        # Half of them dark, for 16 codes: some are revived.
        images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3))
        images[20:] //= 4
        images = tf.constant(images, "uint8")
        split = Split(
            "toy", np.zeros(40, "int32"), (), 8, lambda i: images[i],
            augment=lambda image, size, seed: image,
        )
        with devices.scope(8):
            codes = igpt_keras.layers.VectorQuantizer(16, 8, decay=0.9, seed=0)
            model = igpt_keras.VQVAE(8, 4, 16, codes)
            model.compile(training.SafeAdam(0.01, 0.5, epsilon=1e-4))
        batches_from = functools.partial(split.batches, 8, True, 0)
        model.adapt(batches_from(0))
        validation = training.shared_evenly(split.first(35), model)
        return model, batches_from, validation.batches(8), []
    split = Split(
        "toy", np.arange(40) % 3, (), 4, lambda i: tf.gather(token_ids, i),
        is_tokens=True,
    )
    objective = "bert" if kind == "bert" else "autoregressive"
    sets = igpt_keras.data.TokenSets(
        tiny.grey_palette(), 8, objective, mask_rate=0.4
    )
    labels = kind == "classifier"
    # The last batch of three: for two workers, of two and of one.
    validation = sets.evaluation(split.first(35))
    with devices.scope(8):
        size = {**tiny.SIZE, "num_layers": 1}
        model = igpt_keras.IGPT(**size, objective=objective)
        if labels:
            model = igpt_keras.IGPTClassifier(model, 3)
        model.compile(training.SafeAdam(0.01, 0.5, epsilon=1e-4))
    batches_from = sets.training_from(split, labels=labels)
    if labels:
        return model, batches_from, validation.probe_inputs, []
    probe = igpt_keras.LinearProbe(
        sets.evaluation(split).probe_inputs, validation.probe_inputs, verbose=0
    )
    return model, batches_from, validation.inputs, [probe]


with interrupts.handled("Stopped."):
    for kind in kinds:
        keras.utils.set_random_seed(0)
        model, batches_from, validation, probes = build(kind)
        progress = igpt_keras.Progress(directory / f"{kind}.json", probes)
        try:
            model = training.fit(
                model,
                batches_from,
                steps=10**6 if kind == "endless" else 10,
                period=10**6 if kind == "endless" else 5,
                checkpoint=igpt_keras.TrainingCheckpoint(directory / kind),
                progress=progress,
                callbacks=probes,
                validation_data=validation,
                checkpoint_steps=20,
                verbose=0,
            )
        except SystemExit as error:
            # What another worker than the chief ends with.
            assert error.code == 0 and not devices.is_chief
            continue
        found = [tiny.array(v).ravel() for v in model.weights]
        np.savez(
            directory / f"{kind}.npz",
            weights=np.concatenate(found),
            loss=[epoch["loss"] for epoch in progress.epochs],
            val_loss=[epoch["val_loss"] for epoch in progress.epochs],
            probe=[p["accuracy"] for p in progress.probes],
        )
'''


def start(directory, *kinds):
    """Two workers; the chief first."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for opened in sockets:
        opened.close()
    return [
        process(
            directory,
            *kinds,
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]


def process(directory, *kinds, **environment):
    directory.mkdir(exist_ok=True)
    path = f"{ROOT}:{ROOT / 'tests'}"
    return forked.Process(
        ["-c", PROGRAM, directory, *kinds],
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def wait_for(path, processes):
    deadline = time.monotonic() + 120
    while not path.exists():
        for running in processes:
            assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def endless(tmp_path):
    """Workers that train on, and where."""
    processes = start(tmp_path / "two", "endless")
    yield processes, tmp_path / "two" / "endless"
    for running in processes:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    "kinds",
    [
        # The classifier's loss holds the autoregressive one.
        ("bert", "classifier"),
        pytest.param(("vq_vae",), marks=pytest.mark.large),
    ],
)
def test_two_workers_equal_one_process(kinds, tmp_path):
    """Losses, weights, probes; and who writes is the chief alone."""
    for running in (
        *start(tmp_path / "two", *kinds),
        process(tmp_path / "one", *kinds),
    ):
        _, errors = running.communicate(timeout=200)
        assert running.returncode == 0, errors[-3000:]
    for kind in kinds:
        one, two = (
            np.load(tmp_path / name / f"{kind}.npz") for name in ("one", "two")
        )
        assert np.ptp(one["loss"]) > 1e-4
        probed = kind not in ("classifier", "vq_vae")
        assert probed == bool(one["probe"].size)
        for key in one.files:
            np.testing.assert_allclose(
                two[key], one[key], rtol=1e-5, atol=1e-5, err_msg=kind
            )


def test_a_signal_to_one_stops_all_with_a_checkpoint(endless):
    (chief, other), checkpoints = endless
    wait_for(checkpoints / "step_0000000020", (chief, other))
    other.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    for running in (chief, other):
        _, errors = running.communicate(timeout=60)
        assert running.returncode == 130, errors[-3000:]
        assert "Stopped." in errors and "Traceback" not in errors
    assert time.monotonic() - sent < 30
    last = max(checkpoints.glob("step_*"))
    assert json.loads((last / "manifest.json").read_text())["step"] > 20


def test_a_killed_worker_ends_the_others(endless):
    """With a sentence, and in the time that TensorFlow waits for it."""
    (chief, other), checkpoints = endless
    wait_for(checkpoints / "step_0000000020", (chief, other))
    other.kill()
    _, errors = chief.communicate(timeout=60)
    assert chief.returncode == 1
    assert "Another worker of TF_CONFIG is gone" in errors
