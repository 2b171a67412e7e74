import glob
import pathlib
import re

from absl import logging

from igpt_keras.conversion.named_tensor import with_progress
from igpt_keras.conversion.openai_format import first_line
from igpt_keras.conversion.openai_format import import_tensorflow
from igpt_keras.conversion.openai_format import named_tensors
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.preset_directory import check_sequence_length
from igpt_keras.storage.user_path import user_path

_LAYER = re.compile(
    r"model/h(\d+)/(ln_[12]/g|attn/[qkvc]_proj|mlp/(c_fc|c_proj)/w)"
)


def load_openai_checkpoint(
    path, sequence_length=None, interpolate_positions=False, verbose=0
):
    """Opens a checkpoint of the released TensorFlow 1 code.

    Sizes, the number of heads and the objective (autoregressive if there is a
    start token) come from the checkpoint's own names and shapes. Variables are
    read one at a time: on the TensorFlow backend memory stays below 1.3 times
    the weights; JAX takes about twice their size for a moment.
    Optimizer slots and other variables that are not the network's are ignored,
    and a log line says how many. Either everything fits, or nothing is loaded.

    The released checkpoints are of 32x32 images on OpenAI's 512 colours:
    tokenize with `PaletteTokenizer("kmeans_centers.npy")`.

    Args:
        path: the checkpoint's prefix (`.../model.ckpt-1000000`), its `.index`
            file, or the directory it is in. A directory with more than one
            checkpoint must have TensorFlow's `checkpoint` file, which names
            the one to take; where there is that file, what it names must be.
        sequence_length: int. Tokens per image of the model that is wanted.
            Defaults to the checkpoint's.
        interpolate_positions: bool. Whether to resize the position table to
            another `sequence_length`, as a two-dimensional grid, bicubic.
            Defaults to `False`.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        An `IGPT`; an `IGPTClassifier` around it if the checkpoint has a class
        head (`clf/wclf`), as fine-tuned ones do.

    Raises:
        ValueError: if there is no such checkpoint, or it is ambiguous,
            damaged, incomplete, not finite or not Image GPT's.
        ImportError: if TensorFlow is not installed; its reader is used.

    Example:

    ```python
    model = igpt_keras.load_openai_checkpoint("igpt-s/model.ckpt-1000000")
    tokenizer = igpt_keras.PaletteTokenizer("kmeans_centers.npy")
    features, labels = igpt_keras.extract_features(
        model, [(tokenizer(images), labels)]
    )
    ```
    """
    tf = import_tensorflow("Reading")
    prefix = _find_prefix(tf, path)
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, IndexError) as error:
        raise ValueError(
            f"{prefix}.index is damaged ({first_line(error)}). Download or "
            "copy it again."
        ) from error

    _check_shards(prefix)
    sizes = _infer_sizes(shapes, prefix)
    check_sequence_length(
        sizes["sequence_length"], sequence_length, interpolate_positions, prefix
    )
    positions = sizes["sequence_length"]
    model = IGPT(**{**sizes, "sequence_length": sequence_length or positions})
    if "model/clf/wclf" in shapes:
        num_classes, _ = _shape(shapes, "model/clf/wclf", 2, prefix)
        if num_classes < 2:
            raise ValueError(
                f"model/clf/wclf in {prefix} is a head of one class. An "
                "IGPTClassifier has at least two."
            )
        model = IGPTClassifier(model, num_classes)
    tensors = named_tensors(model, positions)
    _check(tensors, shapes, types, prefix)
    for tensor in with_progress(tensors, verbose):
        try:
            # No name for the array: one at a time is in memory.
            tensor.read(_read_array(tf, reader, tensor))
        except ValueError as error:
            raise ValueError(f"{prefix}: {error}") from error
    return model


def _read_array(tf, reader, tensor):
    try:
        return reader.get_tensor(tensor.name).reshape(tensor.shape)
    except (tf.errors.OpError, IndexError) as error:
        raise ValueError(
            f"{tensor.name} cannot be read from the data files "
            f"({first_line(error)}). A file is missing or damaged: download or "
            "copy it again."
        ) from error


def _infer_sizes(shapes, prefix):
    (hidden_dim,) = _shape(shapes, "model/ln_f/g", 1, prefix)
    query = _shape(shapes, "model/h0/attn/q_proj", 3, prefix)
    if query[0] * query[1] != hidden_dim:
        raise ValueError(
            f"model/h0/attn/q_proj in {prefix} has shape {tuple(query)}: heads "
            f"times head width is not the {hidden_dim} of model/ln_f/g."
        )
    layers = [_LAYER.fullmatch(name) for name in shapes]
    num_layers = 1 + max((int(m[1]) for m in layers if m), default=0)
    return {
        "vocabulary_size": _shape(shapes, "model/wte", 2, prefix)[0],
        "sequence_length": _shape(shapes, "model/wpe", 2, prefix)[0],
        "num_layers": num_layers,
        "num_heads": query[0],
        "hidden_dim": hidden_dim,
        "objective": "autoregressive" if "model/sos" in shapes else "bert",
    }


def _shape(shapes, name, rank, prefix):
    """The last `rank` dimensions of a variable."""
    if name not in shapes:
        raise ValueError(
            f"{prefix} has no variable {name}: the checkpoint is not whole, "
            f"or not Image GPT's. It has {_some(shapes)}."
        )
    if len(shapes[name]) < rank:
        raise ValueError(
            f"{name} in {prefix} has shape {tuple(shapes[name])}, expected "
            f"{rank} dimensions."
        )
    return shapes[name][-rank:]


def _check(tensors, shapes, types, prefix):
    """Names, shapes and types, before anything is read."""
    expected = {tensor.name: tensor.shape for tensor in tensors}
    missing = sorted(set(expected) - set(shapes))
    if missing:
        raise ValueError(
            f"{prefix} has no variable {_some(missing)}. The checkpoint is not "
            "whole, or not Image GPT's."
        )
    for name, shape in expected.items():
        # Older GPT-2 code stored matrices with leading unit dimensions.
        found = tuple(shapes[name])
        if found[-len(shape) :] != shape or set(found[: -len(shape)]) - {1}:
            raise ValueError(
                f"{name} in {prefix} has shape {found}, expected {shape}."
            )
        if not types[name].is_floating:
            raise ValueError(
                f"{name} in {prefix} is {types[name].name}, expected float32."
            )
    ignored = sorted(set(shapes) - set(expected))
    if ignored:
        logging.warning(
            "Ignored %d variables of %s that are not the network's: %s",
            len(ignored),
            prefix,
            _some(ignored),
        )


def weight_files(path):
    """The files of a checkpoint that hold its weights, `pathlib.Path`s.

    Args:
        path: as `load_openai_checkpoint` takes it.
    """
    prefix = pathlib.Path(_find_prefix(import_tensorflow("Reading"), path))
    stem = glob.escape(prefix.name)
    return sorted(prefix.parent.glob(f"{stem}.data-*")) + [
        prefix.with_name(prefix.name + ".index")
    ]


def _find_prefix(tf, path):
    path = user_path(path)
    if path.is_dir():
        return str(_in_directory(tf, path))
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise ValueError(
            f"No checkpoint at {path}: {prefix.name}.index is not there. Pass "
            "the prefix, the .index file, or the directory of a checkpoint."
        )
    return str(prefix)


def _in_directory(tf, directory):
    found = sorted(p.with_suffix("") for p in directory.glob("*.index"))
    if not found:
        raise ValueError(f"{directory} holds no checkpoint: no .index file.")
    if (directory / "checkpoint").is_file():
        try:
            state = tf.train.get_checkpoint_state(str(directory))
        except UnicodeDecodeError:
            state = None
        if state is None:
            raise ValueError(
                f"{directory / 'checkpoint'} is damaged. Pass the path of "
                f"{_some([p.name for p in found])} itself."
            )
        # The path in it may be of the machine that it was written on.
        named = directory / pathlib.Path(state.model_checkpoint_path).name
        if named not in found:
            raise ValueError(
                f"{directory / 'checkpoint'} names {named.name}, which is not "
                f"there. Pass the path of {_some([p.name for p in found])}."
            )
        return named
    if len(found) > 1:
        raise ValueError(
            f"{directory} holds {len(found)} checkpoints and nothing says "
            f"which to load: pass the path of {_some([p.name for p in found])}."
        )
    return found[0]


def _check_shards(prefix):
    """That of `N` data files none is missing."""
    prefix = pathlib.Path(prefix)
    stem = f"{prefix.name}.data-"
    found = {p.name for p in prefix.parent.glob(f"{glob.escape(stem)}*")}
    counts = {name[-5:] for name in found if re.search(r"-of-\d{5}$", name)}
    if len(counts) != 1:
        # None at all, or those of several writes: the reader knows which.
        return
    (count,) = counts
    missing = {f"{stem}{i:05d}-of-{count}" for i in range(int(count))} - found
    if missing:
        raise ValueError(
            f"{prefix.parent} lacks {_some(missing)} of {int(count)} data "
            "files. Download or copy it again."
        )


def _some(names, most=5):
    names = sorted(names)
    rest = len(names) - most
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(names[:most]) + more
