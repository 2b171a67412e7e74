import pathlib

import numpy as np
import pytest

import igpt_keras
from igpt_keras.storage.user_path import user_path

IMAGES = np.zeros((1, 4, 4, 3), "uint8")


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("~/x") == pathlib.Path("/somewhere/x")
    assert user_path(pathlib.Path("a/~")) == pathlib.Path("a/~")
    with pytest.raises(ValueError, match="names no user's home directory"):
        user_path("~nobody-of-this-name/x")


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: igpt_keras.TrainingCheckpoint(path).directory,
        lambda path: igpt_keras.Progress(path).path,
        lambda path: igpt_keras.PictureLog(path, None, IMAGES).log_dir,
        lambda path: igpt_keras.CodebookLog(path, IMAGES).log_dir,
        lambda path: pathlib.Path(igpt_keras.CurveLog(path).log_dir),
        lambda path: igpt_keras.LinearProbe([], [], log_dir=path).log_dir,
        lambda path: igpt_keras.training.RunDirectory(path).path,
    ],
)
def test_wherever_a_run_writes(opened, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened("~/run") == tmp_path / "run"
    with pytest.raises(ValueError, match="names no user's home directory"):
        opened("~nobody-of-this-name/run")
