import hashlib
import json
import math
import pathlib

import numpy as np

from igpt_keras.data.sources.token_rows import TokenRows
from igpt_keras.storage.array_file import open_array
from igpt_keras.storage.array_file import write_array
from igpt_keras.storage.digest import file_sha256

FORMAT = 1
MANIFEST = "manifest.json"
SETTINGS = "settings.json"
KINDS = ("tokens", "labels")


class TokenCache:
    """One split of a dataset as token ids on disk, in shards.

    `write_token_cache` writes it. A directory holds
    `tokens-*.npy`, uint16 `(rows, N)`, `labels-*.npy`, int32 `(rows,)`, and
    `manifest.json`, which comes last and says what they are of, as
    `settings.json` beside the splits does of all three.

    Args:
        directory: path of the split, such as `"cache/train"`.
        sequence_length: int. Tokens per image, `N`.

    Attributes:
        rows: `TokenRows` of the tokens.
        fetch: its `fetch`.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.
        tokenizer: str, fingerprint of the tokenizer that made the tokens.
        fingerprint: str, sha256 of the manifest.

    Raises:
        ValueError: if the cache is not complete, damaged, of a newer format,
            or of another sequence length, and if the split is another one or
            of another cache.
    """

    default_resolution = 32

    def __init__(self, directory, sequence_length):
        directory = pathlib.Path(directory)
        path = directory / MANIFEST
        if not path.is_file():
            raise ValueError(
                f"{directory} holds no complete token cache: {MANIFEST} is not "
                "there. Run recipes/tokenize_dataset.py, again if it was "
                "stopped; it continues."
            )
        text = path.read_bytes()
        self.fingerprint = hashlib.sha256(text).hexdigest()
        try:
            manifest = json.loads(text)
            found = manifest["format"]
            if found == FORMAT:
                self.tokenizer = _checked(manifest["tokenizer"], str)
                names = _checked(manifest["class_names"], list)
                self.class_names = tuple(_checked(n, str) for n in names)
                vocabulary_size = _checked(manifest["vocabulary_size"], int)
                rows = _checked(manifest["rows"], int)
                shards = _checked(manifest["shards"], dict)
                pairs = _pairs(shards)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}). Remove it and tokenize the "
                "dataset again; the shards stay."
            ) from error
        if found != FORMAT:
            raise ValueError(
                f"{path} has format {found}, and this version reads {FORMAT}. "
                "Tokenize the dataset again."
            )
        tokens, labels = [], []
        for names in pairs:
            for name in names:
                _check_digest(directory / name, shards[name])
            tokens.append(_open_tokens(directory / names[0], vocabulary_size))
            labels.append(
                _open_labels(
                    directory / names[1],
                    len(tokens[-1]),
                    len(self.class_names),
                )
            )
            found = tokens[-1].shape[1]
            if found != sequence_length:
                raise ValueError(
                    f"{directory} has {found} tokens per image, and "
                    f"{sequence_length} were asked for: it is of another "
                    "input resolution."
                )
        self.rows = TokenRows(tokens)
        self.fetch = self.rows.fetch
        self.labels = np.concatenate(labels)
        if len(self.labels) != rows:
            raise ValueError(
                f"{path} is damaged: it counts {rows} rows, and its shards "
                f"hold {len(self.labels)}. Remove it and tokenize the dataset "
                "again; the shards stay."
            )
        _check_settings(directory, manifest)


def shard_names(shard):
    """Names of the files of the shard of a number: of tokens and of labels."""
    return [f"{kind}-{shard:05d}.npy" for kind in KINDS]


def write_shard(path, array):
    """Writes a `.npy` whole or not at all, and beside it its sha256.

    Returns:
        That.
    """
    beside = _beside(path)
    beside.unlink(missing_ok=True)
    write_array(path, array)
    digest = file_sha256(path)
    # As `sha256sum` writes and checks them.
    beside.write_text(f"{digest}  {path.name}\n")
    return digest


def whole_shard(path):
    """sha256 of a shard as `write_shard` left it, `None` of any other."""
    try:
        written = _beside(path).read_text().split()
        digest = file_sha256(path)
    except (OSError, UnicodeDecodeError):
        return None
    return digest if written[:1] == [digest] else None


def _beside(path):
    return path.with_name(path.name + ".sha256")


def _checked(value, kind):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value


def _check_settings(directory, manifest):
    """That a split is what the settings of its cache say."""
    path = directory.parent / SETTINGS
    split = directory.name
    try:
        settings = json.loads(path.read_text())
        images = settings["splits"][split]
        crops = settings["crops"] if split == "train" else 0
        expected = {
            "dataset": settings["dataset"],
            "split": split,
            "input_resolution": settings["input_resolution"],
            "crops": crops,
            "seed": settings["seed"],
            "tokenizer": settings["tokenizer"],
            "images": images["images"],
            "rows": images["images"] * max(crops, 1),
            "fingerprint": images["names"],
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is missing or damaged ({error!r}), so that nothing says "
            "what the cache is of. Tokenize the dataset again."
        ) from error
    wrong = [k for k, value in expected.items() if manifest.get(k) != value]
    if wrong:
        key = wrong[0]
        raise ValueError(
            f"{directory} is no {split} split of its cache: {key} is "
            f"{manifest.get(key)!r}, and by {path} {expected[key]!r}. Tokenize "
            "the dataset again."
        )


def _pairs(shards):
    """Names of tokens and labels of every shard, none of which is missing."""
    count = max(1, math.ceil(len(shards) / len(KINDS)))
    pairs = [shard_names(i) for i in range(count)]
    expected = {name for pair in pairs for name in pair}
    if set(shards) != expected:
        wrong = sorted(set(shards) ^ expected)
        raise ValueError(f"shards missing or unknown: {', '.join(wrong[:4])}")
    return pairs


def _check_digest(path, digest):
    if not path.is_file():
        raise ValueError(f"{path} is missing. Tokenize the dataset again.")
    if file_sha256(path) != digest:
        raise ValueError(
            f"{path} is damaged: its sha256 is not the one in {MANIFEST}. "
            "Tokenize the dataset again; the other files stay."
        )


def _open_tokens(path, vocabulary_size):
    token_ids = open_array(path)
    if token_ids.ndim != 2 or token_ids.dtype != np.uint16:
        raise _wrong(path, token_ids, "uint16 (rows, tokens)")
    largest = token_ids.max(initial=0)
    if largest >= vocabulary_size:
        raise ValueError(
            f"{path} is damaged: it holds token {largest}, and tokens are in "
            f"[0, {vocabulary_size}). Remove it and tokenize the dataset again."
        )
    return token_ids


def _open_labels(path, rows, num_classes):
    labels = open_array(path)
    if labels.shape != (rows,) or labels.dtype != np.int32:
        raise _wrong(path, labels, f"int32 ({rows},)")
    if rows and (labels.min() < -1 or labels.max() >= num_classes):
        raise ValueError(
            f"{path} is damaged: it holds labels from {labels.min()} to "
            f"{labels.max()} of {num_classes} classes. Remove it and tokenize "
            "the dataset again."
        )
    return labels


def _wrong(path, array, expected):
    return ValueError(
        f"{path} is damaged: it holds {array.dtype} {array.shape}, expected "
        f"{expected}. Remove it and tokenize the dataset again."
    )
