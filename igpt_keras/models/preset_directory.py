"""The directory format behind `from_preset` and `save_to_preset`."""

import hashlib
import json
import pathlib

import numpy as np
from keras import ops
from safetensors import SafetensorError
from safetensors import safe_open
from safetensors.numpy import save_file

from igpt_keras import presets
from igpt_keras.models.atomic_directory import atomic_directory
from igpt_keras.models.resize_positions import resize_positions
from igpt_keras.version import __version__

FORMAT = 2
CONFIG = "config.json"
# Not Keras' HDF5, which takes the process down with it when the disk is full.
WEIGHTS = "model.safetensors"
_ARCHITECTURE = (
    "vocabulary_size",
    "sequence_length",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "objective",
)


def save(model, directory, tokenizer=None, classifier=None):
    """Writes an `IGPT`, and the head of the `IGPTClassifier` around it."""
    directory = pathlib.Path(directory)
    if directory.exists() and not _is_preset(directory):
        raise ValueError(
            f"{directory} exists and is not a preset. Refusing to replace it; "
            "choose another directory."
        )
    if tokenizer is not None and (
        tokenizer.vocabulary_size != model.vocabulary_size
    ):
        raise ValueError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens and the "
            f"model {model.vocabulary_size}. Save the tokenizer that the model "
            "was trained with."
        )
    whole = classifier or model
    check_finite(whole)
    config = model.get_config()
    with atomic_directory(directory) as staged:
        write_safetensors(
            {v.path: ops.convert_to_numpy(v) for v in whole.variables},
            staged / WEIGHTS,
        )
        manifest = {
            "format": FORMAT,
            "igpt_keras": __version__,
            "model": {key: config[key] for key in _ARCHITECTURE},
            "sha256": _sha256(staged / WEIGHTS),
        }
        if classifier is not None:
            manifest["classifier"] = {
                "num_classes": classifier.num_classes,
                "generative_weight": classifier.generative_weight,
            }
        (staged / CONFIG).write_text(json.dumps(manifest, indent=2) + "\n")
        if tokenizer is not None:
            tokenizer.save_to_preset(staged)


def load(cls, directory, interpolate_positions, overrides):
    """An `IGPT` of class `cls`, with the weights of a preset directory."""
    path = pathlib.Path(directory)
    manifest = _read_manifest(path)
    config = manifest["model"]
    if set(config) != set(_ARCHITECTURE):
        raise ValueError(
            f"{path / CONFIG} is damaged: `model` has the keys "
            f"{sorted(config)}, expected {sorted(_ARCHITECTURE)}."
        )
    length = overrides.pop("sequence_length", config["sequence_length"])
    if length != config["sequence_length"] and not interpolate_positions:
        raise ValueError(
            f"The weights in {path} are for sequence_length="
            f"{config['sequence_length']}, not {length}. Leave it out, or pass "
            "interpolate_positions=True to resize the position table as a "
            "two-dimensional grid, and train on."
        )
    fixed = set(overrides) & set(_ARCHITECTURE)
    if fixed:
        raise ValueError(
            f"{sorted(fixed)} cannot be changed: the weights in {path} fit "
            "one architecture. Leave them out, or start from a named preset."
        )
    _check_sha256(path, manifest["sha256"])
    model = cls(**{**config, "sequence_length": length}, **overrides)
    others = ["class_head/kernel"] if "classifier" in manifest else []
    _read_weights(model.variables, path, others)
    return model


def load_classifier(cls, model, directory):
    """An `IGPTClassifier` of class `cls` around `model`, with its head."""
    path = pathlib.Path(directory)
    settings = _read_manifest(path).get("classifier")
    if settings is None:
        raise ValueError(
            f"{path} holds no class head: it was saved from an IGPT. Use "
            "`IGPTClassifier(IGPT.from_preset(directory), num_classes)`."
        )
    classifier = cls(model, **settings)
    _read_weights(classifier.variables, path)
    return classifier


def write_safetensors(arrays, path):
    """Writes float32 arrays by name; an `OSError` if they do not fit."""
    try:
        save_file(
            {
                name: np.ascontiguousarray(array, "float32")
                for name, array in arrays.items()
            },
            path,
            # transformers refuses files that do not name their framework.
            metadata={"format": "pt"},
        )
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}.") from error
    # safetensors lets the owner alone read it.
    path.chmod(0o644)


def has_classifier(directory):
    """Whether a preset directory was saved from an `IGPTClassifier`."""
    return "classifier" in _read_manifest(pathlib.Path(directory))


def _read_weights(variables, path, others=()):
    """Assigns variables; `others` may be in the file besides."""
    with safe_open(path / WEIGHTS, framework="numpy") as file:
        expected = {variable.path for variable in variables}
        if set(file.keys()) - set(others) != expected:
            raise ValueError(
                f"{path / WEIGHTS} does not hold the weights of the model that "
                f"{CONFIG} describes. Copy the preset again."
            )
        for variable in variables:
            array = file.get_tensor(variable.path)
            if variable.path == "embedding/position_embedding":
                array = resize_positions(array, variable.shape[0])
            variable.assign(array)


def check_finite(model):
    """Raises a `ValueError` if a weight of `model` is NaN or infinite."""
    for variable in model.variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            raise ValueError(
                f"Weight {variable.path} is not finite. A model that diverged "
                "is not saved; go back to an earlier checkpoint."
            )


def _read_manifest(path):
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"Unknown preset {str(path)!r}: it is none of "
            f"{', '.join(presets.IGPT)}, and no directory with a {CONFIG} made "
            "by `save_to_preset`."
        )
    try:
        manifest = json.loads((path / CONFIG).read_text())
        if not isinstance(manifest, dict):
            raise TypeError("it is no JSON object")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path / CONFIG} is damaged ({error}). Save the preset again."
        ) from error
    if manifest.get("model_type") == "imagegpt":
        raise ValueError(
            f"{path} is a Hugging Face directory; open it with "
            "`igpt_keras.load_huggingface`."
        )
    if "igpt_keras" not in manifest:
        raise ValueError(
            f"{path / CONFIG} was not written by `save_to_preset`: it is not a "
            "preset of igpt_keras."
        )
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} has preset format {manifest.get('format')}, and this is "
            f"igpt_keras {__version__}, which reads format {FORMAT}. Install "
            f"the version that wrote it ({manifest['igpt_keras']})."
        )
    for key, kind in (("model", dict), ("sha256", str)):
        if not isinstance(manifest.get(key), kind):
            raise ValueError(
                f"{path / CONFIG} is damaged: it has no {key}. Save the "
                "preset again."
            )
    return manifest


def _is_preset(path):
    if not (path / CONFIG).is_file():
        return False
    try:
        return "igpt_keras" in json.loads((path / CONFIG).read_text())
    except ValueError:
        # A damaged preset of ours may be replaced, nothing else.
        return (path / WEIGHTS).is_file()


def _check_sha256(path, expected):
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


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
