import pytest

from igpt_keras import training


@pytest.mark.parametrize(
    "steps, period", [(100, 20), (300, 50), (37, 37), (1000, 125), (7, 1)]
)
def test_default_period_divides_the_steps(steps, period):
    assert training.choose_period(steps) == period


def test_periods_that_do_not_divide():
    with pytest.raises(ValueError, match="period=2 does not divide steps=5"):
        training.choose_period(5, 2)
    assert training.choose_period(100, most=3) == 50


@pytest.mark.parametrize(
    "preset, objective, rate",
    [
        ("igpt_s", "autoregressive", 0.003),
        ("igpt_s", "bert", 0.01),
        ("igpt_m", "bert", 0.003),
        ("igpt_l", "autoregressive", 0.001),
    ],
)
def test_paper_defaults(preset, objective, rate):
    schedule = training.pretraining_schedule(preset, objective, 32, 1_229_920)
    assert schedule == {
        "steps": 1_000_000,
        "batch_size": 128,
        "learning_rate": rate,
        # One epoch.
        "warmup_steps": 9608,
        "period": 6250,
        "pictures": 125_000,
        "probe_every": 125_000,
    }


def test_what_is_said_stays_and_warm_up_is_an_epoch_or_a_tenth():
    schedule = training.pretraining_schedule(
        "igpt_l", "autoregressive", 48, 1000, steps=60, batch_size=200
    )
    assert schedule["learning_rate"] == 0.01
    assert (schedule["warmup_steps"], schedule["period"]) == (5, 10)
    said = {
        "steps": 40,
        "batch_size": 3,
        "learning_rate": 0.0,
        "warmup_steps": 0,
        "period": 4,
        "pictures": 8,
        "probe_every": 12,
    }
    found = training.pretraining_schedule("igpt_s", "bert", 32, 9, **said)
    assert found == said
    few = training.pretraining_schedule(
        "igpt_s", "bert", 32, images=9, steps=40, batch_size=100
    )
    assert few["warmup_steps"] == 1


def test_pictures_and_probes_are_made_where_periods_end():
    arguments = ("igpt_s", "bert", 32, 9, 40, 3, 0.1, 0, 4)
    none = training.pretraining_schedule(*arguments, pictures=0)
    assert none["pictures"] == 0
    with pytest.raises(ValueError, match="pictures=6 is no multiple of period"):
        training.pretraining_schedule(*arguments, pictures=6)
    with pytest.raises(ValueError, match="probe_every=9 is no multiple"):
        training.pretraining_schedule(*arguments, pictures=0, probe_every=9)


def test_warm_up_that_leaves_nothing():
    with pytest.raises(ValueError, match="leaves nothing of steps=5"):
        training.pretraining_schedule(
            "igpt_s", "bert", 32, 9, steps=5, warmup_steps=5
        )


def test_milestones_are_powers_of_two_of_a_thousand_steps():
    epochs = training.milestone_epochs(1_000_000, 1000)
    assert epochs == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    # The first checkpoint at or after each.
    assert training.milestone_epochs(10_000, 3000 - 500) == (1, 2, 4)
    assert training.milestone_epochs(999, 3) == ()
    assert training.milestone_epochs(100, 10, ["1", "10", 11, 100]) == (
        1,
        2,
        10,
    )
    assert training.milestone_epochs(5000, 10, []) == ()
    for wrong in (0, 101):
        with pytest.raises(ValueError, match=f"Milestone {wrong} is no step"):
            training.milestone_epochs(100, 10, [wrong])


def test_fine_tuning_validates_each_epoch():
    found = training.finetuning_schedule(45_000)
    assert found == {
        "steps": 40 * 351,
        "batch_size": 128,
        "period": 351,
        "patience": 5,
    }
    # Forty labels: batches of them all, validated after twenty.
    found = training.finetuning_schedule(40)
    assert (found["batch_size"], found["period"]) == (40, 20)
    found = training.finetuning_schedule(45_000, steps=100, patience=2)
    assert (found["steps"], found["period"], found["patience"]) == (100, 20, 2)
    found = training.finetuning_schedule(1000, steps=8, fold_validation=True)
    assert found["patience"] is None
    with pytest.raises(ValueError, match="period=3 does not divide steps=8"):
        training.finetuning_schedule(1000, steps=8, period=3)
