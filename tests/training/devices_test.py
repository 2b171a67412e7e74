import time
import types

import numpy as np
import pytest

from igpt_keras import data
from igpt_keras import training


@pytest.mark.parametrize("strategy", ["none", "auto"])
def test_none_is_no_strategy(strategy):
    """And auto on a machine without GPUs."""
    tf = pytest.importorskip("tensorflow")
    with training.Devices(strategy).scope(3):
        assert not tf.distribute.has_strategy()


def test_mirrored(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    with training.Devices("mirrored").scope(3):
        assert tf.distribute.has_strategy()

    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Four)
    message = "batch_size=6 does not divide among 4 replicas; use 4 or 8"
    with pytest.raises(ValueError, match=message):
        training.Devices("mirrored").scope(6)
    with pytest.raises(ValueError, match="replicas; use 4 or 4"):
        training.Devices("mirrored").scope(3)
    message = "4 replicas and 2 micro-batches; use 8 or 16"
    with pytest.raises(ValueError, match=message):
        training.Devices("mirrored").scope(12, micro_batches=2)


def test_other_backends_have_none(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    for arguments in (("mirrored",), ("auto", "local")):
        with pytest.raises(ValueError, match="needs the TensorFlow backend"):
            training.Devices(*arguments)
    assert training.Devices().strategy is None


def test_shared_evenly():
    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    model = types.SimpleNamespace(distribute_strategy=strategy)
    split = data.Split("some", np.zeros(11), (), 8, None)
    assert len(training.shared_evenly(split, model)) == 8
    assert len(training.shared_evenly(split, types.SimpleNamespace())) == 11
    with pytest.raises(ValueError, match="Fewer validation images than 4"):
        training.shared_evenly(split.first(3), model)


def test_other_workers_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    for strategy in ("none", "mirrored"):
        with pytest.raises(ValueError, match="names 2 workers, and each would"):
            training.Devices(strategy)
    for alone in ('{"cluster": {"chief": ["a:1"]}}', "{}", "", "[]"):
        monkeypatch.setenv("TF_CONFIG", alone)
        assert training.Devices("none").num_workers == 1


def test_says_that_there_is_no_gpu(monkeypatch, capsys):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    training.Devices("mirrored")
    assert "finds no GPU: one CPU trains" in capsys.readouterr().out


@pytest.mark.parametrize(
    "tpu, message",
    [
        ("local", "no TPU support, or this machine has no TPU"),
        ("", "names no TPU that can be reached"),
        ("mine", "names no TPU that can be reached"),
        ("grpc://127.0.0.1:1", "Nothing answers at --tpu=grpc"),
        ("grpc://nonsense", "Nothing answers at --tpu=grpc"),
    ],
)
def test_a_tpu_that_there_is_not(tpu, message):
    """In one sentence, and before anything hangs."""
    pytest.importorskip("tensorflow")
    start = time.monotonic()
    with pytest.raises(ValueError, match=message) as info:
        training.Devices(tpu=tpu)
    assert time.monotonic() - start < 15
    assert "\n" not in str(info.value)
