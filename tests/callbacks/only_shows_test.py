import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras.callbacks import only_shows

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def fill_disk(tmp_path, monkeypatch):
    """A callback: as training ends, no more comes to the disk."""
    writer = type(tf.summary.create_file_writer(str(tmp_path / "any")))

    def fail(self):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    def fill(logs):
        monkeypatch.setattr(writer, "flush", fail)
        monkeypatch.setattr(writer, "close", fail)

    monkeypatch.setattr(only_shows, "_said", set())
    yield keras.callbacks.LambdaCallback(on_train_end=fill)
    # Writers are closed once more as they are collected.
    monkeypatch.undo()


def linear_probe(log_dir):
    sets = [(tiny.token_ids(batch=12), np.arange(12) % 3)]
    return igpt_keras.LinearProbe(sets, sets, log_dir=log_dir, verbose=0)


def picture_log(log_dir):
    images = np.zeros((4, 4, 4, 3), "uint8")
    return igpt_keras.PictureLog(log_dir, None, images, every=0)


@pytest.mark.parametrize(
    "callback", [linear_probe, picture_log, igpt_keras.CurveLog]
)
def test_logs_that_cannot_be_closed_stop_nothing(
    callback, fill_disk, tmp_path, capsys
):
    log = callback(tmp_path / "logs")
    model = tiny.model()
    model.compile("adam")
    token_ids = tiny.token_ids()
    model.fit(token_ids, token_ids, callbacks=[fill_disk, log], verbose=0)
    said = capsys.readouterr().err
    assert f"{tmp_path / 'logs'} cannot be written" in said
    # As a run does that is interrupted.
    if callback is igpt_keras.CurveLog:
        log.flush()


def test_a_codebook_log_that_cannot_be_closed(fill_disk, tmp_path, capsys):
    quantizer = igpt_keras.layers.FiniteScalarQuantizer((4, 4))
    vq_vae = igpt_keras.VQVAE(8, 4, 16, quantizer)
    vq_vae.compile("adam")
    images = np.arange(4 * 192, dtype="uint8").reshape(4, 8, 8, 3)
    log = igpt_keras.CodebookLog(tmp_path / "logs", images)
    vq_vae.fit(images, callbacks=[fill_disk, log], verbose=0)
    assert "cannot be written" in capsys.readouterr().err
