"""The tokenization program: every split to shards, and a manifest each."""

import contextlib
import fcntl
import json
import math
import pathlib

import interrupts
import keras
import numpy as np
import pretraining_data
import reporting

import igpt_keras
from igpt_keras.data import token_cache

BATCH_SIZE = 256
# 33 MB of 32x32 images.
STEPS_PER_SHARD = 64
SPLITS = ("train", "validation", "test")


def run(settings):
    """Writes what is missing of the cache in `settings["output"]`."""
    output = pathlib.Path(settings["output"])
    settings = dict(settings)
    if settings["tokenizer"] is not None:
        tokenizer = pretraining_data.open_vq_vae(settings)
        settings["input_resolution"] = tokenizer.input_resolution
    else:
        tokenizer = igpt_keras.PaletteTokenizer(settings["palette"])
        if settings["input_resolution"] is None:
            settings["input_resolution"] = 32
    if tokenizer.vocabulary_size > 2**16:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens; a cache "
            "holds those below 65,536."
        )
    # All before anything is written: a wrong --dataset leaves nothing behind.
    splits = {}
    for split in SPLITS:
        splits[split] = igpt_keras.data.open_split(
            settings["dataset"],
            split,
            settings["input_resolution"],
            data_dir=settings["data_dir"],
            skip_bad_images=settings["skip_bad_images"],
        )
        if splits[split].is_tokens:
            raise ValueError(f"{settings['dataset']} holds tokens already.")
    with _locked(output):
        _check_settings(settings, output, tokenizer, splits)
        if settings["tokenizer"] is not None:
            tokenizer.vq_vae.save_to_preset(output / "vq_vae")
        else:
            tokenizer.save_palette(output / "palette.npy")
        pretraining_data.print_skipped(splits["train"])
        for split, opened in splits.items():
            crops = settings["crops"] if split == "train" else 0
            tokenize_split(settings, split, opened, crops, tokenizer)
    print(f"Train on it with --dataset=tokens:{output}")


def tokenize_split(settings, split, opened, crops, tokenizer):
    """One split; whole shards that are there already are kept."""
    directory = pathlib.Path(settings["output"]) / split
    directory.mkdir(parents=True, exist_ok=True)
    rows = len(opened.labels) * max(crops, 1)
    steps = math.ceil(rows / BATCH_SIZE)
    views = f"{crops} crops of each" if crops else "as evaluation sees them"
    print(f"{split}: {len(opened.labels):,} images, {views}", flush=True)
    progress = keras.utils.Progbar(rows, unit_name="image")
    shards = {}
    for shard, start in enumerate(range(0, steps, STEPS_PER_SHARD)):
        names = token_cache.shard_names(shard)
        paths = [directory / name for name in names]
        digests = [token_cache.whole_shard(path) for path in paths]
        if None in digests:
            # It says that all shards are there.
            (directory / token_cache.MANIFEST).unlink(missing_ok=True)
            count = min(STEPS_PER_SHARD, steps - start)
            arrays = _tokenize(settings, split, crops, tokenizer, start, count)
            # The training stream goes on; the last shard does not.
            arrays = [a[: rows - start * BATCH_SIZE] for a in arrays]
            interrupts.check()
            digests = [
                token_cache.write_shard(path, array)
                for path, array in zip(paths, arrays)
            ]
        shards.update(zip(names, digests))
        progress.update(min(rows, (start + STEPS_PER_SHARD) * BATCH_SIZE))
    manifest = {
        "format": token_cache.FORMAT,
        "dataset": settings["dataset"],
        "split": split,
        "input_resolution": settings["input_resolution"],
        "crops": crops,
        "seed": settings["seed"],
        "images": len(opened.labels),
        "fingerprint": opened.fingerprint,
        "rows": rows,
        "tokenizer": tokenizer.fingerprint,
        "vocabulary_size": tokenizer.vocabulary_size,
        "class_names": list(opened.class_names),
        "shards": shards,
    }
    reporting.write_json(directory / token_cache.MANIFEST, manifest)


def _tokenize(settings, split, crops, tokenizer, start, count):
    """Token ids, uint16, and labels of `count` batches from step `start`."""
    dataset = igpt_keras.data.image_dataset(
        settings["dataset"],
        split,
        settings["input_resolution"],
        BATCH_SIZE,
        training=crops > 0,
        seed=settings["seed"],
        start_step=start,
        data_dir=settings["data_dir"],
        skip_bad_images=settings["skip_bad_images"],
    )
    dataset = pretraining_data.tokenize(dataset.take(count), tokenizer)
    token_ids, labels = zip(*dataset.as_numpy_iterator())
    return np.concatenate(token_ids).astype("uint16"), np.concatenate(labels)


@contextlib.contextmanager
def _locked(output):
    """Creates `output` and keeps other processes from writing there."""
    # A run that was killed may leave hidden files, and no settings yet.
    if output.exists() and not (output / token_cache.SETTINGS).is_file():
        if any(not path.name.startswith(".") for path in output.iterdir()):
            raise ValueError(
                f"{output} is not empty and holds no token cache. Choose "
                "another --output."
            )
    output.mkdir(parents=True, exist_ok=True)
    with open(output / ".lock", "w") as file:
        try:
            # Let go by the system however the process ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another process writes to {output}. Wait until it ends, or "
                "choose another --output."
            ) from error
        yield


def _check_settings(settings, output, tokenizer, splits):
    """Writes down what the cache is of, or makes sure that it is of this."""
    path = output / token_cache.SETTINGS
    wanted = {
        key: value
        for key, value in settings.items()
        if key not in ("output", "palette", "tokenizer", "data_dir")
    }
    wanted["tokenizer"] = tokenizer.fingerprint
    images = {
        split: {"images": len(opened.labels), "names": opened.fingerprint}
        for split, opened in splits.items()
    }
    if not path.is_file():
        reporting.write_json(path, {**wanted, "splits": images})
        return
    try:
        saved = dict(json.loads(path.read_text()))
        known = saved.pop("splits")
        counts = {split: known[split]["images"] for split in SPLITS}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or of an older version ({error!r}), so that "
            "the cache cannot be continued. Choose another --output, or remove "
            f"{output}."
        ) from error
    changed = sorted(
        key
        for key in set(saved) | set(wanted)
        if saved.get(key) != wanted.get(key)
    )
    if changed:
        raise ValueError(
            f"{output} holds a cache with another {', '.join(changed)}. "
            "Use the same flags to continue it, or another --output."
        )
    for split in SPLITS:
        if known[split] != images[split]:
            raise ValueError(
                f"The dataset changed: {output} was started with "
                f"{counts[split]} {split} images, and these are "
                f"{images[split]['images']}, not the same. Put the dataset "
                "back to continue, or choose another --output."
            )
