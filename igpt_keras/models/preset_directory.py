"""The directory format behind `IGPT.from_preset` and `save_to_preset`."""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
from keras import ops

from igpt_keras import presets
from igpt_keras.version import __version__

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
_ARCHITECTURE = (
    "vocabulary_size",
    "sequence_length",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "objective",
)


def save(model, directory, tokenizer=None):
    directory = pathlib.Path(directory)
    if directory.exists() and not (directory / CONFIG).is_file():
        raise ValueError(
            f"{directory} exists and holds no {CONFIG}: it is not a preset. "
            "Refusing to replace it; choose another directory."
        )
    for variable in model.variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"Weight {variable.path} is not finite. A model that diverged "
                "is not saved; go back to an earlier checkpoint."
            )
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent)
    )
    try:
        model.save_weights(staged / WEIGHTS)
        config = model.get_config()
        manifest = {
            "format": FORMAT,
            "igpt_keras": __version__,
            "model": {key: config[key] for key in _ARCHITECTURE},
            "sha256": _sha256(staged / WEIGHTS),
        }
        (staged / CONFIG).write_text(json.dumps(manifest, indent=2) + "\n")
        if tokenizer is not None:
            tokenizer.save_to_preset(staged)
        staged.chmod(0o755)
        _replace_directory(staged, directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def load(cls, directory, overrides):
    known = ", ".join(presets.IGPT)
    path = pathlib.Path(directory)
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"Unknown preset {str(directory)!r}: it is none of {known}, and "
            f"no directory with a {CONFIG} made by `save_to_preset`."
        )
    try:
        manifest = json.loads((path / CONFIG).read_text())
        saved_format, config = manifest["format"], manifest["model"]
        expected = manifest["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path / CONFIG} is damaged ({error!r}). Save the preset again."
        ) from error
    if saved_format != FORMAT:
        raise ValueError(
            f"{path} has preset format {saved_format}, and this is igpt_keras "
            f"{__version__}, which reads format {FORMAT}. Install the version "
            f"that wrote it ({manifest.get('igpt_keras')})."
        )
    if set(config) != set(_ARCHITECTURE):
        raise ValueError(
            f"{path / CONFIG} is damaged: `model` has the keys "
            f"{sorted(config)}, expected {sorted(_ARCHITECTURE)}."
        )
    fixed = set(overrides) & set(_ARCHITECTURE)
    if fixed:
        raise ValueError(
            f"{sorted(fixed)} cannot be changed: the weights in {path} fit "
            "one architecture. Leave them out, or start from a named preset."
        )
    if not (path / WEIGHTS).is_file():
        raise ValueError(
            f"{path} holds no {WEIGHTS}: the preset is incomplete."
        )
    found = _sha256(path / WEIGHTS)
    if found != expected:
        raise ValueError(
            f"{path / WEIGHTS} is damaged: its sha256 is {found[:12]}..., and "
            f"{CONFIG} says {expected[:12]}.... Copy the preset again."
        )
    model = cls(**config, **overrides)
    model.load_weights(path / WEIGHTS)
    return model


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_directory(staged, directory):
    if not directory.exists():
        os.replace(staged, directory)
        return
    # A directory that is not empty cannot be replaced in one call.
    old = pathlib.Path(tempfile.mkdtemp(dir=directory.parent)) / "old"
    os.replace(directory, old)
    os.replace(staged, directory)
    shutil.rmtree(old.parent)
