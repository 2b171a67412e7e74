import types

import pytest

from igpt_keras import training


def watch(**counters):
    optimizer = types.SimpleNamespace(**counters)
    return optimizer, training.LossWatch(
        optimizer, lambda value: value, lambda step: f"batch {step}"
    )


def safe():
    return watch(skipped_steps=0, skipped_in_a_row=0, last_skipped_step=-1)


def test_a_jump_is_said(capsys):
    _, watching = safe()
    for step in range(1, 31):
        watching.look(step, 2.0 + 0.01 * (step % 3), 1, 1)
    assert not watching.events
    watching.look(31, 2 * 5.0, 2, 2)
    (event,) = watching.events
    assert event["kind"] == "loss_spike" and event["step"] == 31
    assert event["loss"] == 5.0 and 2 <= event["median"] <= 2.02
    assert "jumped to 5.000 at step 31" in capsys.readouterr().out


def test_the_first_losses_are_no_jump():
    _, watching = safe()
    for step, loss in enumerate([9.0, 1.0, 9.0, 1.0, 9.0]):
        watching.look(step, loss, 1, 1)
    assert not watching.events


def test_skipped_steps_are_said_with_their_batch(capsys):
    optimizer, watching = safe()
    optimizer.skipped_steps = optimizer.skipped_in_a_row = 1
    optimizer.last_skipped_step = 6
    watching.look(7, 0.0, 0, 1)
    watching.look(8, 1.0, 1, 1)
    (event,) = watching.events
    assert event == {
        "kind": "skipped_steps",
        "step": 7,
        "skipped": 1,
        "examples": "batch 6",
    }
    said = capsys.readouterr().out
    assert "gradient of step 7 is not finite" in said and "batch 6" in said


def test_too_many_in_a_row_end_training():
    optimizer, watching = safe()
    with pytest.raises(FloatingPointError, match="10 steps in a row"):
        for step in range(20):
            optimizer.skipped_steps += 1
            optimizer.skipped_in_a_row += 1
            watching.look(step, 0.0, 0, 1)
    assert optimizer.skipped_in_a_row == 10


def test_with_another_optimizer_the_first_ends_training():
    _, watching = watch()
    watching.look(1, 1.0, 1, 1)
    with pytest.raises(FloatingPointError, match="the loss is not finite"):
        watching.look(2, 0.0, 0, 1)
