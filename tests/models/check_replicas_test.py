import types

import keras
import pytest
import tiny

from igpt_keras import training
from igpt_keras.models import check_replicas as module
from igpt_keras.models.check_replicas import check_replicas


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(module, "num_replicas", lambda model: 2)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("clipnorm", 1.0, "clip_norm of igpt_keras.training.SafeAdam"),
        ("global_clipnorm", 1.0, "clip_norm of"),
        ("clipvalue", 1.0, "clip_norm of"),
        ("gradient_accumulation_steps", 2, "micro_batches of"),
    ],
)
def test_refused_on_replicas_by_name(name, value, message, two):
    optimizer = keras.optimizers.Adam(**{name: value})
    with pytest.raises(ValueError, match=f"{name} of the opt.*{message}"):
        check_replicas(None, optimizer)
    with pytest.raises(ValueError, match=name):
        tiny.model().compile(optimizer)


@pytest.mark.parametrize(
    "name, value", [("steps_per_execution", 4), ("jit_compile", True)]
)
def test_arguments_refused_on_replicas(name, value, two):
    with pytest.raises(ValueError, match=f"cannot do with {name}"):
        tiny.model().compile("adam", **{name: value})


def test_all_others_are_not(two):
    check_replicas(None, "adam")
    check_replicas(None, training.SafeAdam(0.1, clip_norm=1.0))


def test_nothing_is_refused_on_one_device():
    model = types.SimpleNamespace()
    check_replicas(model, keras.optimizers.Adam(clipnorm=1.0), 4, True)
    tiny.model().compile(
        keras.optimizers.Adam(clipnorm=1.0), steps_per_execution=4
    )
