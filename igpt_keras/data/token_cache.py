import functools
import hashlib
import json
import os
import pathlib

import numpy as np

from igpt_keras.data.token_rows import TokenRows

FORMAT = 1
MANIFEST = "manifest.json"


class TokenCache:
    """One split of a dataset as token ids on disk, in shards.

    `recipes/tokenize_dataset.py` writes it. A directory holds
    `tokens-*.npy`, uint16 `(rows, N)`, `labels-*.npy`, int32 `(rows,)`, and
    `manifest.json`, which comes last and says what they are of.

    Args:
        directory: path of the split, such as `"cache/train"`.
        sequence_length: int. Tokens per image, `N`.

    Attributes:
        rows: `TokenRows` of the tokens.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        tokenizer: str, fingerprint of the tokenizer that made the tokens.

    Raises:
        ValueError: if the cache is not complete, damaged, of a newer format,
            or of another sequence length.
    """

    def __init__(self, directory, sequence_length):
        directory = pathlib.Path(directory)
        path = directory / MANIFEST
        if not path.is_file():
            raise ValueError(
                f"{directory} holds no complete token cache: {MANIFEST} is not "
                "there. Run recipes/tokenize_dataset.py, again if it was "
                "stopped; it continues."
            )
        try:
            manifest = json.loads(path.read_text())
            found = manifest["format"]
            shards = manifest["shards"]
            self.tokenizer = manifest["tokenizer"]
            self.class_names = tuple(manifest["class_names"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error!r}).") from error
        if found != FORMAT:
            raise ValueError(
                f"{path} has format {found}, and this version reads {FORMAT}. "
                "Tokenize the dataset again."
            )
        tokens, labels = [], []
        for name, digest in shards.items():
            array = _open_shard(directory / name, digest)
            (tokens if name.startswith("tokens-") else labels).append(array)
        if tokens[0].shape[1] != sequence_length:
            raise ValueError(
                f"{directory} has {tokens[0].shape[1]} tokens per image, and "
                f"{sequence_length} were asked for: it is of another "
                "input resolution."
            )
        self.rows = TokenRows(tokens)
        self.labels = np.concatenate(labels)


@functools.cache
def open_token_cache(directory, sequence_length):
    return TokenCache(directory, sequence_length)


def write_shard(path, array):
    """Writes a `.npy` whole or not at all; returns its sha256."""
    staged = path.with_name(path.name + ".tmp")
    with open(staged, "wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    digest = file_sha256(staged)
    os.replace(staged, path)
    return digest


def file_sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_shard(path, digest):
    if not path.is_file():
        raise ValueError(f"{path} is missing. Tokenize the dataset again.")
    if file_sha256(path) != digest:
        raise ValueError(
            f"{path} is damaged: its sha256 is not the one in {MANIFEST}. "
            "Remove it and tokenize the dataset again; the other files stay."
        )
    return np.load(path, mmap_mode="r", allow_pickle=False)
