"""The tokenization program: every split to shards, and a manifest each."""

import json
import math
import pathlib

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
    _check_output(settings, output, tokenizer)
    if settings["tokenizer"] is not None:
        tokenizer.vq_vae.save_to_preset(output / "vq_vae")
    else:
        tokenizer.save_palette(output / "palette.npy")
    for split in SPLITS:
        crops = settings["crops"] if split == "train" else 0
        opened = igpt_keras.data.open_split(
            settings["dataset"],
            split,
            settings["input_resolution"],
            data_dir=settings["data_dir"],
            skip_bad_images=settings["skip_bad_images"],
        )
        if opened.is_tokens:
            raise ValueError(f"{settings['dataset']} holds tokens already.")
        if split == "train":
            pretraining_data.print_skipped(opened)
        tokenize_split(settings, split, opened, crops, tokenizer)
    print(f"Train on it with --dataset=tokens:{output}")


def tokenize_split(settings, split, opened, crops, tokenizer):
    """One split; shards that are there already are kept."""
    directory = pathlib.Path(settings["output"]) / split
    if (directory / token_cache.MANIFEST).is_file():
        print(f"{split}: already here")
        return
    directory.mkdir(parents=True, exist_ok=True)
    rows = len(opened.labels) * max(crops, 1)
    steps = math.ceil(rows / BATCH_SIZE)
    views = f"{crops} crops of each" if crops else "as evaluation sees them"
    print(f"{split}: {len(opened.labels):,} images, {views}", flush=True)
    progress = keras.utils.Progbar(rows, unit_name="image")
    shards = {}
    for shard, start in enumerate(range(0, steps, STEPS_PER_SHARD)):
        names = [f"{kind}-{shard:05d}.npy" for kind in ("tokens", "labels")]
        paths = [directory / name for name in names]
        if not all(path.is_file() for path in paths):
            count = min(STEPS_PER_SHARD, steps - start)
            arrays = _tokenize(settings, split, crops, tokenizer, start, count)
            # The training stream goes on; the last shard does not.
            arrays = [a[: rows - start * BATCH_SIZE] for a in arrays]
            for path, array in zip(paths, arrays):
                token_cache.write_shard(path, array)
        for name, path in zip(names, paths):
            shards[name] = token_cache.file_sha256(path)
        progress.update(min(rows, (start + STEPS_PER_SHARD) * BATCH_SIZE))
    manifest = {
        "format": token_cache.FORMAT,
        "dataset": settings["dataset"],
        "split": split,
        "input_resolution": settings["input_resolution"],
        "crops": crops,
        "seed": settings["seed"],
        "images": len(opened.labels),
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


def _check_output(settings, output, tokenizer):
    """Creates `output`, or makes sure that it is of these very settings."""
    path = output / "settings.json"
    wanted = {
        key: value
        for key, value in settings.items()
        if key not in ("output", "palette", "tokenizer", "data_dir")
    }
    wanted["tokenizer"] = tokenizer.fingerprint
    if path.is_file():
        saved = json.loads(path.read_text())
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
        return
    if output.exists() and any(output.iterdir()):
        raise ValueError(
            f"{output} is not empty and holds no token cache. Choose another "
            "--output."
        )
    output.mkdir(parents=True, exist_ok=True)
    reporting.write_json(path, wanted)
