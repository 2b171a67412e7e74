import events
import numpy as np
import pytest
import tiny

import igpt_keras

pytest.importorskip("tensorflow")

COMMAND = "python fit.py --a=1 --b"
VALUES = {
    "learning_rate": 0.25,
    "steps": 6,
    "dataset": "digits",
    "palette": None,
    "fold_validation": False,
    "milestones": [1, 2],
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two epochs of three steps, then a run that goes on for a third."""
    directory = tmp_path_factory.mktemp("logs")
    token_ids = tiny.token_ids(batch=12)
    labels = np.arange(12) % 3
    probed = [(np.repeat(token_ids, 4, 0), np.repeat(labels, 4))]
    model = tiny.model()
    model.compile("adam")
    for first, last in ((0, 2), (2, 3)):
        history = model.fit(
            token_ids,
            token_ids,
            batch_size=4,
            validation_data=(token_ids, token_ids),
            initial_epoch=first,
            epochs=last,
            callbacks=[
                igpt_keras.LinearProbe(probed, probed, layers=1, verbose=0),
                igpt_keras.CurveLog(
                    directory, VALUES, "python fit.py --a=1 --b"
                ),
            ],
            verbose=0,
        )
    return directory, history.history


def test_against_optimizer_steps_that_go_on(logs):
    directory, history = logs
    for run, key in (("train", "loss"), ("validation", "val_loss")):
        points = events.read(directory / run)["epoch_loss"]
        assert [step for step, _ in points] == [3, 6, 9]
        np.testing.assert_allclose(points[-1][1], history[key][-1], rtol=1e-6)


def test_each_value_once(logs):
    """The probe writes its own, and Keras the losses twice."""
    tags = [
        tag
        for run in ("train", "validation")
        for tag in events.read(logs[0] / run)
    ]
    assert set(tags) == {"epoch_learning_rate", "epoch_loss"}


def test_a_card_of_the_run_and_hparams(logs):
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util import tensor_util

    accumulator = event_accumulator.EventAccumulator(str(logs[0]))
    accumulator.Reload()
    # Once, though training began twice.
    (event,) = accumulator.Tensors("run")
    text = tensor_util.make_ndarray(event.tensor_proto).item().decode()
    command, _, table = text.partition("\n\n")
    assert command.split("\n") == [
        "    python fit.py \\",
        "        --a=1 \\",
        "        --b",
    ]
    rows = [row.strip("| ").split(" | ") for row in table.split("\n")[2:]]
    assert dict(rows) == {
        "learning_rate": "0.25",
        "steps": "6",
        "dataset": "digits",
        "palette": "null",
        "fold_validation": "false",
        "milestones": "[1, 2]",
    }
    content = accumulator.SummaryMetadata("_hparams_/session_start_info")
    start = plugin_data_pb2.HParamsPluginData.FromString(
        content.plugin_data.content
    ).session_start_info
    assert start.hparams["learning_rate"].number_value == 0.25
    assert start.hparams["dataset"].string_value == "digits"
    assert start.hparams["fold_validation"].bool_value is False
    # What was not given tells runs apart from none.
    assert "palette" not in start.hparams


def test_without_hyperparameters(tmp_path):
    model = tiny.model()
    model.compile("adam")
    token_ids = tiny.token_ids()
    model.fit(
        token_ids,
        token_ids,
        callbacks=[igpt_keras.CurveLog(tmp_path)],
        verbose=0,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
