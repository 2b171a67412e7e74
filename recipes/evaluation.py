"""The evaluation program: open a model, score a dataset, report."""

import json
import math
import os
import pathlib

import keras
import numpy as np
import pretraining_data
from keras import ops

import igpt_keras
from igpt_keras import presets

# The released script evaluates 8 images on each of 8 GPUs and leaves out what
# does not fill a batch.
RELEASED_BATCH = 64
TOKEN_FILES = {"train": "trX", "validation": "vaX", "test": "teX"}


def run(settings):
    """Evaluates and prints; returns the metrics that `--output` is given."""
    if settings["output"] is not None and os.path.isdir(settings["output"]):
        raise ValueError(f"--output={settings['output']} is a directory.")
    model, tokenizer = igpt_keras.open_weights(settings["model"], verbose=1)
    model = getattr(model, "igpt", model)
    bert = model.objective == "bert"
    if settings["num_masks"] > 1 and not bert:
        raise ValueError(
            f"--num_masks is for BERT, and {settings['model']} is "
            "autoregressive: nothing is hidden from it."
        )
    if bert and settings["mask_rate"] == 0:
        raise ValueError("--mask_rate=0 hides no token: no loss is left.")
    if settings["palette"] is not None:
        tokenizer = igpt_keras.PaletteTokenizer(settings["palette"])
    token_ids, source = _token_ids(settings, model, tokenizer)
    available = len(token_ids)
    token_ids = token_ids[: settings["images"]]
    print(
        f"{settings['model']}: {model.objective}, "
        f"{model.count_params():,} parameters\n"
        f"{source}: {len(token_ids):,} images of {model.sequence_length:,} "
        "tokens",
        flush=True,
    )
    is_palette = not isinstance(tokenizer, igpt_keras.VQVAETokenizer)
    scorer = build_scorer(model)
    losses = []
    for mask in range(settings["num_masks"]):
        batches = TokenBatches(
            token_ids,
            settings["batch_size"],
            settings["mask_rate"] if bert else None,
            (settings["seed"], mask),
        )
        losses.append(scorer.predict(batches).astype("float64"))
    metrics = {
        "model": str(settings["model"]),
        "dataset": source,
        "objective": model.objective,
        **summarise(np.stack(losses), is_palette),
    }
    if bert:
        for key in ("num_masks", "mask_rate", "seed"):
            metrics[key] = settings[key]
    metrics["released_nats_per_token"] = None
    if len(token_ids) == available:
        metrics["released_nats_per_token"] = _released(model, source)
    print(report(metrics))
    if settings["output"] is not None:
        path = pathlib.Path(settings["output"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


def build_scorer(model):
    """A Keras model from `model`'s inputs to nats per token, float32 `(B,)`.

    For BERT the mean over an image's hidden tokens, 0 if there are none.
    """
    token_ids = model.input
    if model.objective == "bert":
        token_ids, hidden = token_ids["token_ids"], token_ids["mask"]
    nats = ops.sparse_categorical_crossentropy(
        token_ids, model.output, from_logits=True
    )
    if model.objective == "bert":
        hidden = ops.cast(hidden, "float32")
        count = ops.maximum(ops.sum(hidden, axis=1), 1.0)
        return keras.Model(model.input, ops.sum(nats * hidden, axis=1) / count)
    return keras.Model(model.input, ops.mean(nats, axis=1))


class TokenBatches(keras.utils.PyDataset):
    """Token ids in order; with a `mask_rate`, and masks for BERT.

    Image `i` has the mask of `(*seed, i)`, whatever the batch size.
    """

    def __init__(self, token_ids, batch_size, mask_rate, seed):
        super().__init__()
        self.token_ids = token_ids
        self.batch_size = batch_size
        self.mask_rate = mask_rate
        self.seed = seed

    def __len__(self):
        return math.ceil(len(self.token_ids) / self.batch_size)

    def __getitem__(self, batch):
        start = batch * self.batch_size
        token_ids = self.token_ids[start : start + self.batch_size]
        token_ids = np.asarray(token_ids, "int32")
        if self.mask_rate is None:
            return (token_ids,)
        uniform = [
            np.random.default_rng((*self.seed, start + i)).random(len(row))
            for i, row in enumerate(token_ids)
        ]
        mask = np.stack(uniform) < self.mask_rate
        return ({"token_ids": token_ids, "mask": mask},)


def summarise(losses, is_palette=True):
    """Metrics by both averaging rules from nats `(masks, M)`."""
    metrics = {"all_images": _units(losses, is_palette)}
    whole = losses.shape[1] // RELEASED_BATCH * RELEASED_BATCH
    metrics["whole_batches"] = None
    if whole:
        # Batches are equally large, so the mean of their means is the mean.
        metrics["whole_batches"] = _units(losses[:, :whole], is_palette)
    return metrics


def _units(losses, is_palette=True):
    nats = float(losses.mean())
    units = {
        "images": losses.shape[1],
        "nats_per_token": nats,
        "bits_per_token": nats / math.log(2),
        # Infinite beyond 709 nats.
        "perplexity": float(np.exp(np.float64(nats))),
    }
    if is_palette:
        # Three colour channels a token. Not comparable with bits per dimension
        # of RGB images: the palette has thrown most of those bits away.
        units["palette_bits_per_dimension"] = nats / math.log(2) / 3
    return units


def report(metrics):
    """The metrics as a table, a column an averaging rule."""
    columns = [metrics["all_images"]]
    heads = ["all images"]
    if metrics["whole_batches"] is not None:
        columns.append(metrics["whole_batches"])
        heads.append(f"whole batches of {RELEASED_BATCH}")
    lines = ["", f"{'':28}" + "".join(f"{head:>22}" for head in heads)]
    for key, text in (
        ("images", "{:,}"),
        ("nats_per_token", "{:.4f}"),
        ("bits_per_token", "{:.4f}"),
        ("palette_bits_per_dimension", "{:.4f}"),
        ("perplexity", "{:.3f}"),
    ):
        if key not in columns[0]:
            continue
        values = "".join(f"{text.format(c[key]):>22}" for c in columns)
        lines.append(f"{key.replace('_', ' '):28}{values}")
    if metrics["whole_batches"] is None:
        lines.append(
            f"Fewer than {RELEASED_BATCH} images: the released script, which "
            "takes whole batches only, would evaluate none."
        )
    if metrics["objective"] == "bert":
        lines.append(
            f"over hidden tokens; {metrics['num_masks']} mask(s) an image, "
            f"rate {metrics['mask_rate']}, seed {metrics['seed']}; an image "
            "with nothing hidden counts as 0"
        )
    released = metrics["released_nats_per_token"]
    if released is not None:
        lines.append(
            f"released code, step 1,000,000, whole batches: {released:.4f} "
            "nats per token"
        )
    return "\n".join(lines)


def _token_ids(settings, model, tokenizer):
    """Token ids `(M, N)`, and what they are of."""
    name, split = settings["dataset"], settings["split"]
    if name.startswith("npy:"):
        path = os.path.expanduser(name.removeprefix("npy:"))
        if not path.endswith(".npy"):
            path = f"{path}_{TOKEN_FILES[split]}.npy"
        token_ids = igpt_keras.data.load_token_file(
            path, model.vocabulary_size, model.sequence_length
        )
        return token_ids, path
    if tokenizer is None:
        raise ValueError(
            f"{settings['model']} has no tokenizer with it to tokenize images "
            "with. Pass --palette; OpenAI's is fetched by `python "
            "tools/download_openai.py --palette`."
        )
    if tokenizer.vocabulary_size != model.vocabulary_size:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens and the "
            f"model a vocabulary of {model.vocabulary_size}. Pass the palette "
            "that the model was trained with."
        )
    arguments = {
        "data_dir": settings["data_dir"],
        "skip_bad_images": settings["skip_bad_images"],
    }
    resolution = math.isqrt(model.sequence_length)
    if not name.startswith("tokens:"):
        resolution = getattr(tokenizer, "input_resolution", resolution)
    opened = igpt_keras.data.open_split(name, split, resolution, **arguments)
    pretraining_data.print_skipped(opened)
    if opened.tokenizer not in (None, tokenizer.fingerprint):
        raise ValueError(
            f"{name} was made with another tokenizer than the model's: its "
            "tokens mean other pictures. Tokenize the dataset with this one."
        )
    dataset = igpt_keras.data.image_dataset(
        name, split, resolution, batch_size=256, **arguments
    )
    if settings["images"] is not None:
        dataset = dataset.take(math.ceil(settings["images"] / 256))
    dataset = pretraining_data.tokenize(dataset, tokenizer)
    token_ids = [x for x, _ in dataset.as_numpy_iterator()]
    return np.concatenate(token_ids), f"{name} {split}"


def _released(model, source):
    """The released loss, where this model and this file are what it is of."""
    if pathlib.Path(source).name != "imagenet_teX.npy":
        return None
    for name, nats in presets.RELEASED_NATS_PER_TOKEN.items():
        size = {**presets.IGPT[name], "objective": "autoregressive"}
        if all(getattr(model, key) == value for key, value in size.items()):
            return nats
    return None
