import types

import numpy as np
import pytest

from igpt_keras import training


def test_none_is_no_strategy():
    tf = pytest.importorskip("tensorflow")
    with training.strategy_scope("none", 3):
        assert not tf.distribute.has_strategy()


def test_mirrored(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    with training.strategy_scope("mirrored", 3):
        assert tf.distribute.has_strategy()

    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Four)
    message = "batch_size=6 does not divide among 4 replicas; use 4 or 8"
    with pytest.raises(ValueError, match=message):
        training.strategy_scope("mirrored", 6)
    with pytest.raises(ValueError, match="replicas; use 4 or 4"):
        training.strategy_scope("mirrored", 3)


def test_other_backends_have_none(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ValueError, match="needs the TensorFlow backend"):
        training.strategy_scope("mirrored", 4)


def test_shared_evenly():
    strategy = types.SimpleNamespace(num_replicas_in_sync=4)
    model = types.SimpleNamespace(distribute_strategy=strategy)
    assert training.shared_evenly(11, model) == 8
    assert training.shared_evenly(11, types.SimpleNamespace()) == 11
    with pytest.raises(ValueError, match="Fewer validation images than 4"):
        training.shared_evenly(3, model)


def test_other_workers_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    for strategy in ("none", "mirrored"):
        with pytest.raises(ValueError, match="names 2 workers, and each would"):
            training.strategy_scope(strategy, 4)
    for alone in ('{"cluster": {"chief": ["a:1"]}}', "{}", "", "[]"):
        monkeypatch.setenv("TF_CONFIG", alone)
        training.strategy_scope("none", 4)


def test_says_that_there_is_no_gpu(monkeypatch, capsys):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    training.strategy_scope("mirrored", 4)
    assert "finds no GPU: one CPU trains" in capsys.readouterr().out


def test_uneven_validation_is_refused(tmp_path):
    """Before Keras fails to average its first batch over replicas."""
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    model = types.SimpleNamespace(distribute_strategy=strategy)
    checkpoint = types.SimpleNamespace(
        restore=lambda model: 0, out_of_patience=lambda epoch: False
    )
    progress = types.SimpleNamespace(restore=lambda epoch: None)
    batches = [({"token_ids": np.zeros((33, 4))}, np.zeros(33))]
    with pytest.raises(ValueError, match="first batch of 33 validation images"):
        training.fit(
            model,
            None,
            4,
            2,
            checkpoint,
            progress,
            validation_data=batches,
        )
