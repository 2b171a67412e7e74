"""The directory format behind `from_preset` and `save_to_preset`."""

import json
import re

from keras import ops
from safetensors import safe_open

from igpt_keras import presets
from igpt_keras.models import own_network
from igpt_keras.models.resize_positions import resize_positions
from igpt_keras.models.stable_names import stable_names
from igpt_keras.storage.atomic_directory import atomic_directory
from igpt_keras.storage.card_file import replaceable_card
from igpt_keras.storage.digest import file_sha256
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.weight_file import check_finite
from igpt_keras.storage.weight_file import write_safetensors
from igpt_keras.version import __version__

FORMAT = 2
CONFIG = "config.json"
# Not Keras' HDF5, which takes the process down with it when the disk is full.
WEIGHTS = "model.safetensors"
_TOKENIZERS = ("palette.npy", "vq_vae.json", "vq_vae.safetensors")
_POSITIONS = "embedding/position_embedding"
_ARCHITECTURE = (
    "vocabulary_size",
    "sequence_length",
    "num_layers",
    "num_heads",
    "hidden_dim",
    "objective",
)
# Written where they are not these, which files of before them mean.
_VARIANT = {
    "head": "zeros",
    "depth_scaled_mlp": False,
    "dropout": 0.0,
    "remat": False,
    "block": own_network.BLOCK,
    "order": "raster",
    "attention": None,
}
_CLASSIFIER = ("num_classes", "generative_weight")
_CLASSIFIER_VARIANT = {"classification_weight": 1.0, "head_layer": None}
# Of a user's own class: its registered name, and arguments that it adds.
_OWN = {"class", "arguments"}
# Settings of a model that are no part of its function or stand elsewhere.
_BESIDES = {"name", "trainable", "dtype", "frozen", "model"}
# What Keras' `quantize` adds to layers.
_QUANTIZED = re.compile(
    r"(kernel|embeddings|inputs|outputs_grad)_(scale|zero|amax_history)"
    r"|g_idx|awq_scales"
)


def save(model, directory, tokenizer=None, classifier=None):
    """Writes an `IGPT`, and the head of the `IGPTClassifier` around it."""
    directory = user_path(directory)
    check_place(directory, model, tokenizer)
    check_saveable(classifier or model)
    named = all_named_variables(model, classifier)
    arrays = {name: ops.convert_to_numpy(v) for name, v in named.items()}
    write(directory, arrays, describe(model, classifier), tokenizer)


def check_place(directory, model, tokenizer):
    """Raises a `ValueError` unless a preset may be there, with a tokenizer."""
    if (directory / CONFIG).is_file() and not is_preset(directory):
        raise ValueError(
            f"{directory} exists and is not a preset. Refusing to replace it; "
            "choose another directory."
        )
    if tokenizer is None:
        if any((directory / name).is_file() for name in _TOKENIZERS):
            raise ValueError(
                f"{directory} holds a tokenizer, which would be lost: pass "
                "tokenizer=..., or choose another directory."
            )
    else:
        size = getattr(tokenizer, "vocabulary_size", None)
        if size != model.vocabulary_size:
            raise ValueError(
                f"The model has {model.vocabulary_size} tokens and tokenizer, "
                f"a {type(tokenizer).__name__}, has {size}. Save the tokenizer "
                "that the model was trained with, a `PaletteTokenizer` for "
                "example."
            )


def describe(model, classifier=None):
    """What a preset's `config.json` says, but for the digest of the weights."""
    config = model.get_config()
    manifest = {
        "format": FORMAT,
        "igpt_keras": __version__,
        "model": {
            **_described(config, _ARCHITECTURE, _VARIANT),
            **_own(model, config, own_network.MODEL),
        },
    }
    frozen = frozen_names(all_named_variables(model, classifier))
    if frozen:
        manifest["frozen"] = frozen
    if classifier is not None:
        config = classifier.get_config()
        manifest["classifier"] = {
            **_described(config, _CLASSIFIER, _CLASSIFIER_VARIANT),
            **_own(classifier, config, own_network.CLASSIFIER),
        }
    return manifest


def write(directory, arrays, manifest, tokenizer=None):
    """Writes a preset whole or not at all.

    Args:
        directory: `pathlib.Path`.
        arrays: dict of arrays by name.
        manifest: dict of `describe`.
        tokenizer: optional tokenizer to save along.
    """
    owned = (CONFIG, WEIGHTS, *_TOKENIZERS, *replaceable_card(directory))
    with atomic_directory(directory, owned) as staged:
        write_safetensors(arrays, staged / WEIGHTS)
        digest = file_sha256(staged / WEIGHTS)
        write_json(staged / CONFIG, {**manifest, "sha256": digest})
        if tokenizer is not None:
            tokenizer.save_to_preset(staged)


def load(cls, directory, interpolate_positions, overrides):
    """The model of a preset directory, of class `cls` or a subclass."""
    path = user_path(directory)
    manifest = read_manifest(path)
    config = dict(manifest["model"])
    name = config.pop("class", own_network.MODEL)
    cls = own_network.find_class(name, cls, path)
    arguments = config.pop("arguments", {})
    length = overrides.pop("sequence_length", config["sequence_length"])
    check_sequence_length(
        config["sequence_length"], length, interpolate_positions, path
    )
    fixed = {*_ARCHITECTURE, *_VARIANT, *arguments} - {"dropout", "remat"}
    fixed &= set(overrides)
    if fixed:
        raise ValueError(
            f"{sorted(fixed)} cannot be changed: the weights in {path} fit "
            "one architecture. Leave them out, or start from a named preset."
        )
    _check_sha256(path, manifest["sha256"])
    _check_sizes(path, config)
    config = {**config, "sequence_length": length, **arguments, **overrides}
    try:
        model = cls.from_config(config)
    except TypeError as error:
        raise ValueError(
            f"{path} holds weights of {own_network.shown_name(cls)}, which "
            f"cannot be built of the arguments saved with them ({error}). What "
            "its `__init__` sets itself, such as `block`, take as an argument "
            "with that default."
        ) from error
    others = {"class_head/kernel"} if "classifier" in manifest else set()
    named = named_variables(model)
    _read_weights(named, path, others)
    freeze(named, set(manifest.get("frozen", ())) - others)
    return model


def load_classifier(cls, model, directory):
    """The classifier around `model`, of class `cls` or a subclass."""
    path = user_path(directory)
    settings = read_manifest(path).get("classifier")
    if settings is None:
        raise ValueError(
            f"{path} holds no class head: it was saved from an IGPT. Use "
            "`IGPTClassifier(IGPT.from_preset(directory), num_classes)`."
        )
    settings = dict(settings)
    name = settings.pop("class", own_network.CLASSIFIER)
    cls = own_network.find_class(name, cls, path)
    arguments = settings.pop("arguments", {})
    classifier = cls(model, **settings, **arguments)
    head = {"class_head/kernel": classifier.class_head.kernel}
    _read_weights(head, path, others=set(named_variables(model)))
    freeze(head, set(head) & set(read_manifest(path).get("frozen", ())))
    return classifier


def check_sequence_length(found, wanted, interpolate, source):
    """Raises a `ValueError` unless positions fit or may be interpolated."""
    if wanted is not None and wanted != found and not interpolate:
        raise ValueError(
            f"{source} has {found} positions and sequence_length={wanted} was "
            "asked for. Its position table fits one image size; pass "
            "interpolate_positions=True to resize it as a two-dimensional "
            "grid, and train on."
        )


def is_preset(path):
    """Whether a directory has the configuration of a preset."""
    try:
        manifest = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "igpt_keras" in manifest


def read_manifest(path):
    """The checked content of a preset's `config.json`."""
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"Unknown preset {str(path)!r}: it is none of "
            f"{', '.join([*presets.IGPT, *presets.PRETRAINED])}, and no "
            f"directory with a {CONFIG} made by `save_to_preset`."
        )
    try:
        manifest = json.loads((path / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(
            f"{path / CONFIG} is damaged ({error}). Save the preset again."
        ) from error
    if isinstance(manifest, dict) and manifest.get("model_type") == "imagegpt":
        raise ValueError(
            f"{path} is a Hugging Face directory; open it with "
            "`igpt_keras.load_huggingface`."
        )
    if not isinstance(manifest, dict) or "igpt_keras" not in manifest:
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
    wanted = {"model": (_ARCHITECTURE, _VARIANT)}
    if "classifier" in manifest:
        wanted["classifier"] = (_CLASSIFIER, _CLASSIFIER_VARIANT)
    frozen = manifest.get("frozen", [])
    if not isinstance(frozen, list) or not all(
        isinstance(name, str) for name in frozen
    ):
        raise ValueError(
            f"{path / CONFIG} is damaged: `frozen` is {frozen!r}, expected "
            "a list of names."
        )
    for key, (names, variant) in wanted.items():
        found = manifest.get(key)
        others = {*variant, *_OWN}
        if not isinstance(found, dict) or set(found) - others != {*names}:
            raise ValueError(
                f"{path / CONFIG} is damaged: `{key}` is {found!r}, expected "
                f"the keys {sorted(names)}."
            )
    return manifest


def _described(config, names, variant):
    """What of a configuration goes into a manifest."""
    changed = [key for key, usual in variant.items() if config[key] != usual]
    return {key: config[key] for key in (*names, *changed)}


def _own(model, config, plain):
    """What a manifest says of a class that is not the plain one."""
    name = own_network.registered_name(type(model))
    if name == plain:
        return {}
    own_network.check_arguments(type(model), config)
    known = {*_ARCHITECTURE, *_VARIANT, *_CLASSIFIER, *_CLASSIFIER_VARIANT}
    arguments = {k: config[k] for k in set(config) - known - _BESIDES}
    try:
        json.dumps(arguments)
    except TypeError as error:
        raise ValueError(
            f"The configuration of a {name} holds what JSON cannot ({error}). "
            "Let its `get_config` give numbers, text, lists and dicts."
        ) from error
    return {"class": name, **({"arguments": arguments} if arguments else {})}


def check_saveable(model):
    """Raises a `ValueError` unless a model opens again as the same function."""
    check_finite(model)
    check_describable(model)


def check_describable(model):
    """`check_saveable`, whatever the values of the weights."""
    if is_quantized(model):
        raise ValueError(
            "The model is quantized, and only weights in floating point are "
            "saved. Save it before `quantize`, and quantize what is opened."
        )
    own_network.check_parts(getattr(model, "igpt", model))
    if any(v.name.startswith("lora_") for v in model.weights):
        raise ValueError(
            "The model has LoRA weights, which no preset and no other format "
            "knows. `model.save('model.keras')` and "
            "`keras.saving.load_model` add them to the kernels; save that "
            "model."
        )


def check_exportable(model):
    """`check_saveable`, for formats of the plain network's weights alone.

    Their class head reads the final norm.
    """
    own_network.check_plain(model)
    check_saveable(model)
    layer = getattr(model, "head_layer", None)
    if layer not in (None, getattr(model, "igpt", model).num_layers):
        raise ValueError(
            f"The class head reads layer {layer}, and in this format it reads "
            "the final norm. Use `save_to_preset`, or save `model.igpt`."
        )


def is_quantized(model):
    """Whether Keras' `quantize` was called on a model or a part of it."""
    return any(
        _QUANTIZED.fullmatch(v.name)
        or (v.name in ("kernel", "embeddings") and "int" in v.dtype)
        for v in model.weights
    )


def frozen_names(named):
    """Names of variables that are not trained; LoRA's kernels are meant to."""
    return [
        name
        for name, variable in named.items()
        if not variable.trainable
        and f"{name.rpartition('/')[0]}/lora_kernel_a" not in named
    ]


def freeze(named, names):
    """Takes variables by name out of training.

    Raises:
        ValueError: if there is no such variable.
    """
    for name in sorted(names):
        if name not in named:
            raise ValueError(
                f"{name!r} should be frozen, and the model has no such weight."
            )
        named[name].trainable = False


def named_variables(model):
    """Variables by path, without the name scope the model was built in.

    The same in every process, also where a block's layers have no names.
    """
    scope = model.embedding.position_embedding.path.removesuffix(_POSITIONS)
    paths = [v.path.removeprefix(scope) for v in model.weights]
    return dict(zip(stable_names(paths), model.weights))


def all_named_variables(model, classifier=None):
    """`named_variables`, and the class head's of the classifier around them."""
    named = named_variables(model)
    if classifier is not None:
        named["class_head/kernel"] = classifier.class_head.kernel
    return named


def _check_sizes(path, config):
    """That the configuration is of these weights, before they get memory."""
    expected = {
        "embedding/token_embedding": ("vocabulary_size", "hidden_dim"),
        _POSITIONS: ("sequence_length", "hidden_dim"),
    }
    if "block" not in config:
        last = f"block_{config['num_layers'] - 1}/mlp_norm/scale"
        expected[last] = ("hidden_dim",)
    with safe_open(path / WEIGHTS, framework="numpy") as file:
        for name, sizes in expected.items():
            if name not in file.keys():
                raise _misfit(path)
            shape = list(file.get_slice(name).get_shape())
            if shape != [config[size] for size in sizes]:
                raise _misfit(path)


def _read_weights(named, path, others):
    """Assigns variables by name; `others` are in the file besides."""
    with safe_open(path / WEIGHTS, framework="numpy") as file:
        if set(file.keys()) - others != set(named):
            raise _misfit(path)
        for name, variable in named.items():
            array = file.get_tensor(name)
            if name == _POSITIONS:
                array = resize_positions(array, variable.shape[0])
            if array.shape != tuple(variable.shape):
                raise _misfit(path)
            variable.assign(array)


def _misfit(path):
    return ValueError(
        f"{path / WEIGHTS} does not hold the weights of the model that "
        f"{CONFIG} describes. Copy the preset again."
    )


def _check_sha256(path, expected):
    if not (path / WEIGHTS).is_file():
        raise ValueError(
            f"{path} holds no {WEIGHTS}: the preset is incomplete."
        )
    found = file_sha256(path / WEIGHTS)
    if found != expected:
        raise ValueError(
            f"{path / WEIGHTS} is damaged: its sha256 is {found[:12]}..., and "
            f"{CONFIG} says {str(expected)[:12]}.... Copy the preset again."
        )
