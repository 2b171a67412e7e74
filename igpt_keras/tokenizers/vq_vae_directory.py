"""The files behind `VQVAE.save_to_preset` and `from_preset`."""

import hashlib
import json

from keras import ops
from safetensors import safe_open

from igpt_keras.layers.finite_scalar_quantizer import FiniteScalarQuantizer
from igpt_keras.layers.vector_quantizer import VectorQuantizer
from igpt_keras.storage.atomic_directory import atomic_directory
from igpt_keras.storage.card_file import replaceable_card
from igpt_keras.storage.digest import file_sha256
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.weight_file import check_finite
from igpt_keras.storage.weight_file import write_safetensors
from igpt_keras.version import __version__

FORMAT = 1
CONFIG = "vq_vae.json"
WEIGHTS = "vq_vae.safetensors"
_SIZES = ("input_resolution", "model_resolution", "vocabulary_size")
_QUANTIZERS = {
    quantizer.__name__: quantizer
    for quantizer in (VectorQuantizer, FiniteScalarQuantizer)
}


def save(vq_vae, directory):
    """Writes a preset directory of a `VQVAE` alone."""
    directory = user_path(directory)
    owned = (CONFIG, WEIGHTS, *replaceable_card(directory))
    with atomic_directory(directory, owned) as staged:
        write(vq_vae, staged)


def write(vq_vae, directory):
    """Writes the two files into a directory that is being filled."""
    kind = type(vq_vae.quantizer).__name__
    if kind not in _QUANTIZERS:
        raise ValueError(
            f"The quantizer is a {kind}; presets are for "
            f"{' and '.join(_QUANTIZERS)}. Use `save` of Keras."
        )
    check_finite(vq_vae)
    directory = user_path(directory)
    write_safetensors(
        {n: ops.convert_to_numpy(v) for n, v in _variables(vq_vae).items()},
        directory / WEIGHTS,
    )
    manifest = {
        "format": FORMAT,
        "igpt_keras": __version__,
        "vq_vae": {key: getattr(vq_vae, key) for key in _SIZES},
        "quantizer": _quantizer_config(vq_vae.quantizer),
        "sha256": file_sha256(directory / WEIGHTS),
    }
    write_json(directory / CONFIG, manifest)


def load(cls, directory):
    """A `VQVAE` of class `cls` with the weights of a directory."""
    path = user_path(directory)
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"No VQ-VAE at {path}: there is no {CONFIG} made by "
            "`VQVAE.save_to_preset`. recipes/train_vq_vae.py trains one."
        )
    try:
        manifest = json.loads((path / CONFIG).read_text())
        found, version = manifest["format"], manifest["igpt_keras"]
        sizes = {key: manifest["vq_vae"][key] for key in _SIZES}
        quantizer = dict(manifest["quantizer"])
        quantizer = _QUANTIZERS[quantizer.pop("class")](**quantizer)
        expected = manifest["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path / CONFIG} is damaged ({error!r}). Copy it again."
        ) from error
    if found != FORMAT:
        raise ValueError(
            f"{path} has VQ-VAE format {found}, and this version reads "
            f"{FORMAT}. Install the version that wrote it ({version})."
        )
    if not (path / WEIGHTS).is_file():
        raise ValueError(f"{path} holds no {WEIGHTS}: it is incomplete.")
    if file_sha256(path / WEIGHTS) != expected:
        raise ValueError(
            f"{path / WEIGHTS} is damaged: its sha256 is not the one in "
            f"{CONFIG}. Copy it again."
        )
    vq_vae = cls(**sizes, quantizer=quantizer)
    variables = _variables(vq_vae)
    with safe_open(path / WEIGHTS, framework="numpy") as file:
        shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
        if shapes != {k: tuple(v.shape) for k, v in variables.items()}:
            raise ValueError(
                f"{path / WEIGHTS} does not hold the weights of the VQ-VAE "
                f"that {CONFIG} describes. Copy it again."
            )
        for name, variable in variables.items():
            variable.assign(file.get_tensor(name))
    return vq_vae


def fingerprint(vq_vae):
    """sha256 of what a code means: sizes, quantizer and weights."""
    sizes = {key: getattr(vq_vae, key) for key in _SIZES}
    config = {**sizes, "quantizer": _quantizer_config(vq_vae.quantizer)}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, variable in sorted(_variables(vq_vae).items()):
        digest.update(name.encode())
        array = ops.convert_to_numpy(variable).astype("float32")
        digest.update(array.tobytes())
    return digest.hexdigest()


def _quantizer_config(quantizer):
    config = quantizer.get_config()
    for key in ("name", "dtype", "trainable"):
        del config[key]
    return {"class": type(quantizer).__name__, **config}


def _variables(vq_vae):
    """Weights by path, without the name scope the model was built in."""
    names = ("data_mean", "data_variance", "images_measured")
    named = {name: getattr(vq_vae, name) for name in names}
    for part in ("encoder", "decoder"):
        for layer in getattr(vq_vae, part).layers:
            for variable in layer.weights:
                inside = variable.path.split(f"{layer.name}/")[-1]
                named[f"{part}/{layer.name}/{inside}"] = variable
    for variable in vq_vae.quantizer.weights:
        named[f"quantizer/{variable.name}"] = variable
    return named
