import contextlib
import json
import math

import numpy as np

from igpt_keras.data.sources import token_cache
from igpt_keras.data.token_sets import tokenize
from igpt_keras.storage.directory_lock import directory_lock
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path

BATCH_SIZE = 256
# 33 MB of 32x32 images.
STEPS_PER_SHARD = 64


def write_token_cache(
    directory, splits, tokenizer, crops=1, seed=0, skip_bad_images=False
):
    """Tokenizes a dataset once, for training that then reads tokens alone.

    Writes shards of every split, and a manifest each, see `TokenCache`; the
    tokenizer beside them. What is there already and whole is kept, so that the
    same call continues one that was stopped. It is a generator, so that a
    caller may show progress, or stop, between shards: nothing is written
    before it is iterated.

    Args:
        directory: path to create, or to continue.
        splits: dict of `Split` by name: `"train"`, `"validation"`, `"test"`.
        tokenizer: a tokenizer of at most 65,536 tokens.
        crops: int. Random crops of each training image; 0 takes the one
            picture that evaluation sees, as other splits do. Defaults to 1.
        seed: int. Of the crops. Defaults to 0.
        skip_bad_images: bool. What `open_split` was given: noted in the cache,
            which is of other images with it. Defaults to `False`.

    Yields:
        `(split, done, rows)` before a split and after each shard: the split's
        name, and ints, how many of its rows are on disk.

    Raises:
        ValueError: if `directory` holds other files, or a cache of other
            settings or images, if another process writes there, and for splits
            of tokens, a mixture, and too large a vocabulary.
    """
    directory = user_path(directory)
    if tokenizer.vocabulary_size > 2**16:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens; a cache "
            "holds those below 65,536."
        )
    for split in splits.values():
        split.check_images()
        split.check_evaluable()
    with _locked(directory):
        _check_settings(
            directory, splits, tokenizer, crops, seed, skip_bad_images
        )
        tokenizer.save_copy(directory)
        for name, split in splits.items():
            split_crops = crops if name == "train" else 0
            for done, rows in _write_split(
                directory / name, name, split, split_crops, seed, tokenizer
            ):
                yield name, done, rows


def _write_split(directory, name, split, crops, seed, tokenizer):
    """One split; yields rows on disk and in all."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = len(split) * max(crops, 1)
    steps = math.ceil(rows / BATCH_SIZE)
    yield 0, rows
    shards = {}
    for shard, start in enumerate(range(0, steps, STEPS_PER_SHARD)):
        names = token_cache.shard_names(shard)
        paths = [directory / name for name in names]
        digests = [token_cache.whole_shard(path) for path in paths]
        if None in digests:
            # It says that all shards are there.
            (directory / token_cache.MANIFEST).unlink(missing_ok=True)
            count = min(STEPS_PER_SHARD, steps - start)
            arrays = _tokenize(split, crops, seed, tokenizer, start, count)
            # The training stream goes on; the last shard does not.
            arrays = [a[: rows - start * BATCH_SIZE] for a in arrays]
            digests = [
                token_cache.write_shard(path, array)
                for path, array in zip(paths, arrays)
            ]
        shards.update(zip(names, digests))
        yield min(rows, (start + STEPS_PER_SHARD) * BATCH_SIZE), rows
    manifest = {
        "format": token_cache.FORMAT,
        "dataset": split.name,
        "split": name,
        "input_resolution": split.input_resolution,
        "crops": crops,
        "seed": seed,
        "images": len(split),
        "fingerprint": split.fingerprint,
        "rows": rows,
        "tokenizer": tokenizer.fingerprint,
        "vocabulary_size": tokenizer.vocabulary_size,
        "class_names": list(split.class_names),
        "shards": shards,
    }
    write_json(directory / token_cache.MANIFEST, manifest)


def _tokenize(split, crops, seed, tokenizer, start, count):
    """Token ids, uint16, and labels of `count` batches from step `start`."""
    dataset = split.batches(
        BATCH_SIZE, training=crops > 0, seed=seed, start_step=start
    )
    dataset = tokenize(dataset.take(count), tokenizer)
    token_ids, labels = zip(*dataset.as_numpy_iterator())
    return np.concatenate(token_ids).astype("uint16"), np.concatenate(labels)


@contextlib.contextmanager
def _locked(directory):
    """Creates a directory and keeps other processes from writing there."""
    # A run that was killed may leave hidden files, and no settings yet.
    settings = directory / token_cache.SETTINGS
    if directory.exists() and not settings.is_file():
        if any(not path.name.startswith(".") for path in directory.iterdir()):
            raise ValueError(
                f"{directory} is not empty and holds no token cache. Choose "
                "another directory."
            )
    with directory_lock(directory):
        yield


def _check_settings(directory, splits, tokenizer, crops, seed, skip_bad_images):
    """Writes down what the cache is of, or makes sure that it is of this."""
    path = directory / token_cache.SETTINGS
    train = splits["train"]
    wanted = {
        "dataset": train.name,
        "skip_bad_images": skip_bad_images,
        "input_resolution": train.input_resolution,
        "crops": crops,
        "seed": seed,
        "tokenizer": tokenizer.fingerprint,
    }
    images = {
        name: {"images": len(split), "names": split.fingerprint}
        for name, split in splits.items()
    }
    if not path.is_file():
        write_json(path, {**wanted, "splits": images})
        return
    try:
        saved = dict(json.loads(path.read_text()))
        known = saved.pop("splits")
        counts = {name: known[name]["images"] for name in splits}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or of an older version ({error!r}), so that "
            "the cache cannot be continued. Choose another directory, or "
            f"remove {directory}."
        ) from error
    changed = sorted(
        key
        for key in set(saved) | set(wanted)
        if saved.get(key) != wanted.get(key)
    )
    if changed:
        raise ValueError(
            f"{directory} holds a cache with another {', '.join(changed)}. "
            "Use the same settings to continue it, or another directory."
        )
    for name in splits:
        if known[name] != images[name]:
            raise ValueError(
                f"The dataset changed: {directory} was started with "
                f"{counts[name]} {name} images, and these are "
                f"{images[name]['images']}, not the same. Put the dataset "
                "back to continue, or choose another directory."
            )
