import contextlib

import numpy as np
from safetensors import SafetensorError
from safetensors import safe_open

from igpt_keras.conversion import huggingface_format
from igpt_keras.conversion.huggingface_format import INDEX
from igpt_keras.conversion.huggingface_format import PROCESSOR
from igpt_keras.conversion.huggingface_format import WEIGHTS
from igpt_keras.conversion.named_tensor import with_progress
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.preset_directory import check_sequence_length
from igpt_keras.storage.user_path import user_path
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer


def load_huggingface(
    directory, sequence_length=None, interpolate_positions=False, verbose=0
):
    """Opens a Hugging Face Image GPT directory; needs neither torch nor them.

    Reads what `ImageGPTForCausalImageModeling.save_pretrained` and
    `save_huggingface` write, in one or several safetensors files. Hugging
    Face's model has no shift inside: its logits on
    `[start token, x_0, ..., x_(N-2)]` are this model's on `x`. Its
    `labels=` loss and its documented usage leave the start token out; this
    model never does.

    Args:
        directory: path with `config.json` and `model.safetensors`.
        sequence_length: int. Tokens per image of the model that is wanted.
            Defaults to the directory's.
        interpolate_positions: bool. Whether to resize the position table to
            another `sequence_length`, as a two-dimensional grid, bicubic.
            Defaults to `False`.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        An autoregressive `IGPT`; an `IGPTClassifier` around it if the
        directory has a class head (`score.weight`).

    Raises:
        ValueError: if the directory is not whole, not Image GPT's, its sizes
            contradict each other, or it has biases that are not zero.

    Example:

    ```python
    model = igpt_keras.load_huggingface("imagegpt-small")
    tokenizer = igpt_keras.load_huggingface_palette("imagegpt-small")
    ```
    """
    directory = user_path(directory)
    sizes = huggingface_format.read_sizes(directory)
    positions = sizes["sequence_length"]
    check_sequence_length(
        positions, sequence_length, interpolate_positions, directory
    )
    if (directory / PROCESSOR).is_file():
        load_huggingface_palette(directory, sizes["vocabulary_size"])
    with contextlib.ExitStack() as stack:
        files = _open_files(directory, stack)
        _check_sizes(sizes, files, directory)
        model = IGPT(
            **{**sizes, "sequence_length": sequence_length or positions}
        )
        if "score.weight" in files:
            model = IGPTClassifier(model, _shape(files, "score.weight")[0])
        tensors = huggingface_format.named_tensors(model, positions)
        _check_names(tensors, files, directory)
        for tensor in with_progress(tensors, verbose):
            try:
                tensor.read(files[tensor.name].get_tensor(tensor.name))
            except (ValueError, TypeError, SafetensorError) as error:
                raise ValueError(f"{directory}: {error}") from error
    return model


def load_huggingface_palette(directory, vocabulary_size=None):
    """Opens the palette of a Hugging Face Image GPT directory.

    Args:
        directory: path with a `preprocessor_config.json`.
        vocabulary_size: int. Number of colours it must have. Defaults to any.

    Returns:
        A `PaletteTokenizer`.

    Raises:
        ValueError: if there is no palette, or one of another size.
    """
    path = user_path(directory) / PROCESSOR
    clusters = huggingface_format.read_json(path).get("clusters")
    if clusters is None:
        raise ValueError(f"{path} has no clusters: no palette is in it.")
    try:
        tokenizer = PaletteTokenizer(np.asarray(clusters, "float32"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has no palette: {error}") from error
    if vocabulary_size not in (None, tokenizer.vocabulary_size):
        raise ValueError(
            f"{path} has a palette of {tokenizer.vocabulary_size} colours, and "
            f"the model a vocabulary of {vocabulary_size}."
        )
    return tokenizer


def _open_files(directory, stack):
    """The open safetensors file of each tensor, by the tensor's name."""
    if (directory / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (directory / INDEX).is_file():
        index = huggingface_format.read_json(directory / INDEX)
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(name, str) for name in weight_map.values()
        ):
            raise ValueError(
                f"{directory / INDEX} is damaged: no weight_map of file names "
                "is in it. Copy the directory again."
            )
        names = sorted(set(weight_map.values()))
    elif (directory / "pytorch_model.bin").is_file():
        raise ValueError(
            f"{directory} has its weights in pytorch_model.bin, a pickle, "
            "which can run code when it is opened. Convert it where you trust "
            "it: ImageGPTForCausalImageModeling.from_pretrained(directory)"
            ".save_pretrained(directory) of transformers writes safetensors."
        )
    else:
        raise ValueError(f"{directory} holds no {WEIGHTS}.")
    files = {}
    for name in names:
        path = directory / name
        if path.parent != directory or not path.is_file():
            raise ValueError(
                f"{directory / INDEX} names {name}, which is not there. Copy "
                "the directory again."
            )
        try:
            file = stack.enter_context(safe_open(path, framework="numpy"))
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged ({error}). Download or copy it again."
            ) from error
        files.update(dict.fromkeys(file.keys(), file))
    return files


def _check_sizes(sizes, files, directory):
    """That the configuration is of these weights, before they get memory."""
    if "wte.weight" in files:
        raise ValueError(
            f"{directory} was saved from transformers' ImageGPTModel, which "
            "has no output head to predict tokens with: its tensors begin "
            "without `transformer.`, and lm_head.weight is not among them. "
            "Save an ImageGPTForCausalImageModeling."
        )
    width, vocabulary = sizes["hidden_dim"], sizes["vocabulary_size"]
    expected = {
        "transformer.wte.weight": (vocabulary + 1, width),
        "transformer.wpe.weight": (sizes["sequence_length"], width),
        "lm_head.weight": (vocabulary, width),
    }
    if "score.weight" in files and len(_shape(files, "score.weight")) != 2:
        raise ValueError(f"{directory}: score.weight is no matrix.")
    if "score.weight" in files and _shape(files, "score.weight")[0] < 2:
        raise ValueError(
            f"{directory}: score.weight is a head of one class (num_labels=1). "
            "An IGPTClassifier has at least two."
        )
    for name, shape in expected.items():
        if name in files and _shape(files, name) != shape:
            raise ValueError(
                f"{directory}: {name} has shape {_shape(files, name)}, "
                f"expected {shape} by {huggingface_format.CONFIG}."
            )
    last = f"transformer.h.{sizes['num_layers'] - 1}."
    if not any(name.startswith(last) for name in files):
        raise ValueError(
            f"{directory} has no tensors {last}*, and "
            f"{huggingface_format.CONFIG} says that there are "
            f"{sizes['num_layers']} layers."
        )


def _shape(files, name):
    return tuple(files[name].get_slice(name).get_shape())


def _check_names(tensors, files, directory):
    # Masks, which old versions of transformers saved with the weights.
    buffers = (".attn.bias", ".attn.masked_bias")
    expected = {tensor.name for tensor in tensors}
    found = {name for name in files if not name.endswith(buffers)}
    if expected == found:
        return
    missing, extra = sorted(expected - found), sorted(found - expected)
    reason = ""
    if "lm_head.weight" in missing:
        reason = (
            " A directory without lm_head is ImageGPTModel's or a "
            "classifier's, which has no output head to predict tokens with."
        )
    raise ValueError(
        f"{directory} does not hold Image GPT's tensors: {len(missing)} are "
        f"missing ({', '.join(missing[:5]) or 'none'}), {len(extra)} are not "
        f"known ({', '.join(extra[:5]) or 'none'}).{reason}"
    )
