"""A file of token ids, coded by a model's own conditionals."""

import hashlib
import struct

import keras
import numpy as np
from keras import ops
from threadpoolctl import threadpool_limits

from igpt_keras.codec.exact_network import ExactNetwork
from igpt_keras.models import preset_directory
from igpt_keras.terminal import verbosity

_MAGIC = b"iGPT"
# Of the layout and of how `ExactNetwork` rounds.
_VERSION = 1
# Magic, version, images, tokens of an image, fingerprint.
_HEADER = struct.Struct("<4sHII16s")
# Of the token ids, then of all bytes before it.
_CHECKSUM = 8
HEADER_BYTES = _HEADER.size + 2 * _CHECKSUM
# What keys and values of the images at a time may take, and how many these
# are at most. A part of the format: images at a time are coded together.
_CACHE_BYTES = 2**30
_MOST = 256
# Products of networks that are narrower take less time than threads that wait
# for each other. No number depends on it.
_THREADED_WIDTH = 256


def compress(model, tokenizer, token_ids, verbose=0):
    """Codes token ids in as many bits as the model has them cost.

    A range coder (constriction) takes `p(x_i | x_<i)` of `ExactNetwork`, whose
    bits do not depend on threads, processor or batch size. The file is the
    model's nats, divided by ln 2, and `HEADER_BYTES` and up to 8 more.

    Args:
        model: an autoregressive `IGPT`, or an `IGPTClassifier` around one.
        tokenizer: what the tokens are of, for its `fingerprint`.
        token_ids: int array `(M, N)` in `[0, V)`, `M` one at least.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        bytes: header, coded tokens, checksums.

    Raises:
        ValueError: for other tokens, and as `ExactNetwork`.
    """
    import constriction

    model = getattr(model, "igpt", model)
    network = ExactNetwork(model)
    token_ids = np.asarray(token_ids)
    inputs = token_ids
    if model.takes_prefix:
        lengths = np.zeros(token_ids.shape[:1], "int32")
        inputs = {"token_ids": token_ids, "prefix_length": lengths}
    model.check_inputs(inputs)
    token_ids = token_ids.astype("int32")
    if not len(token_ids):
        raise ValueError("token_ids are of no image. Pass one at least.")
    encoder = constriction.stream.queue.RangeEncoder()
    family = constriction.stream.model.Categorical(perfect=False)
    with _threads(model):
        for rows in _batches(model, token_ids, verbose):
            network.begin(len(rows))
            previous = None
            for token in rows[:, model.embedding.permutation].T:
                encoder.encode(token, family, network.next(previous))
                previous = token
    header = _HEADER.pack(
        _MAGIC, _VERSION, *token_ids.shape, _fingerprint(model, tokenizer)
    )
    coded = encoder.get_compressed().astype("<u4").tobytes()
    content = header + coded + _digest(token_ids.astype("<i4").tobytes())
    return content + _digest(content)


def decompress(model, tokenizer, content, verbose=0):
    """The token ids of a file of `compress`.

    Args:
        model: the model that it was written with.
        tokenizer: its tokenizer.
        content: bytes of the file.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        int32 array `(M, N)`, those that were compressed.

    Raises:
        ValueError: as `check_file` and `ExactNetwork`, and if other tokens
            come out than went in, by their checksum.
    """
    import constriction

    model = getattr(model, "igpt", model)
    network = ExactNetwork(model)
    count = check_file(model, tokenizer, content)
    coded = content[_HEADER.size : -2 * _CHECKSUM]
    decoder = constriction.stream.queue.RangeDecoder(
        np.frombuffer(coded, "<u4").astype("uint32")
    )
    family = constriction.stream.model.Categorical(perfect=False)
    token_ids = np.zeros((count, model.sequence_length), "int32")
    with _threads(model):
        for rows in _batches(model, token_ids, verbose):
            network.begin(len(rows))
            previous = None
            for i in model.embedding.permutation:
                conditionals = network.next(previous)
                try:
                    previous = decoder.decode(family, conditionals)
                except AssertionError as error:  # constriction's own
                    raise _other_tokens() from error
                rows[:, i] = previous
    expected = content[-2 * _CHECKSUM : -_CHECKSUM]
    if _digest(token_ids.astype("<i4").tobytes()) != expected:
        raise _other_tokens()
    return token_ids


def check_file(model, tokenizer, content):
    """How many images a file of `compress` is of.

    Args:
        model: the model that it was written with.
        tokenizer: its tokenizer.
        content: bytes of the file.

    Raises:
        ValueError: for what is no such file, is damaged or cut short, or was
            written by another model or version.
    """
    model = getattr(model, "igpt", model)
    if content[:4] != _MAGIC:
        raise ValueError(
            "This is no file of recipes/compress.py: it does not begin with "
            f"{_MAGIC!r}. Pass one that ends in .igpt."
        )
    if (
        len(content) < HEADER_BYTES
        or _digest(content[:-_CHECKSUM]) != content[-_CHECKSUM:]
        or (len(content) - HEADER_BYTES) % 4
    ):
        raise ValueError(
            f"The compressed file is damaged or cut short: its {len(content)} "
            "bytes are not those that their checksum is of. Copy it again."
        )
    _, version, count, length, found = _HEADER.unpack_from(content)
    if version != _VERSION:
        raise ValueError(
            f"The compressed file has version {version}, and this program "
            f"reads {_VERSION}. Use the igpt_keras that wrote it."
        )
    expected = _fingerprint(model, tokenizer)
    if found != expected or length != model.sequence_length:
        raise ValueError(
            "The compressed file was written with another model or tokenizer: "
            f"its fingerprint is {found.hex()[:12]}..., and that of what is "
            f"given {expected.hex()[:12]}.... Pass the model that wrote it."
        )
    return count


def _fingerprint(model, tokenizer):
    """16 bytes of the sha256 of weights, architecture and tokenizer."""
    config = model.get_config()
    names = ("sequence_length", "num_heads", "head")
    told = [str(config[name]) for name in names]
    if model.order != "raster":
        told.append(model.order)
    digest = hashlib.sha256(" ".join([*told, tokenizer.fingerprint]).encode())
    for name, variable in sorted(
        preset_directory.named_variables(model).items()
    ):
        array = ops.convert_to_numpy(variable).astype("<f4")
        digest.update(f" {name} {array.shape} ".encode() + array.tobytes())
    return digest.digest()[:16]


def _batches(model, token_ids, verbose):
    """Rows of `token_ids` that are coded together, as views."""
    floats = 2 * model.num_layers * model.sequence_length * model.hidden_dim
    size = int(min(_MOST, max(1, _CACHE_BYTES // (8 * floats))))
    progress = keras.utils.Progbar(
        len(token_ids), unit_name="image", verbose=verbosity(verbose)
    )
    for first in range(0, len(token_ids), size):
        rows = token_ids[first : first + size]
        yield rows
        progress.add(len(rows))


def _threads(model):
    limit = 1 if model.hidden_dim < _THREADED_WIDTH else None
    return threadpool_limits(limit, "blas")


def _digest(content):
    return hashlib.sha256(content).digest()[:_CHECKSUM]


def _other_tokens():
    return ValueError(
        "The compressed file decodes to other tokens than it was written of, "
        "by their checksum: this machine, or its version of NumPy or "
        "constriction, computes other numbers. Decode it where it was written."
    )
