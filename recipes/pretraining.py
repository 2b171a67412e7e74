"""The pretraining program: `resolve` settings, `describe` or `run` them."""

import dataclasses
import pathlib

import keras
import numpy as np
import pretraining_data
import reporting
import run_setup

import igpt_keras
from igpt_keras import presets

# TensorFlow 1's default, which the paper trained with; Keras has 1e-7.
ADAM_EPSILON = 1e-8
# Training images that a palette is fitted on, at most.
PALETTE_IMAGES = 50_000


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a run depends on. Flags of `pretrain.py` explain each."""

    dataset: str
    data_dir: str | None
    skip_bad_images: bool
    input_resolution: int
    preset: str
    objective: str
    mask_rate: float
    vocabulary_size: int
    palette: str | None
    tokenizer: str | None
    model_resolution: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    beta_1: float
    beta_2: float
    dtype: str
    period: int
    patience: int | None
    fold_validation: bool
    probe_images: int
    evaluation_images: int | None
    seed: int
    strategy: str
    run_dir: str | None

    @property
    def architecture(self):
        return {
            **presets.IGPT[self.preset],
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.model_resolution**2,
            "objective": self.objective,
        }


def resolve(values):
    """`Settings` from flag values, with defaults filled in.

    Raises:
        ValueError: for values that do not fit together or name nothing.
    """
    values = dict(values)
    name = values["dataset"]
    default = presets.PRETRAINING[values["preset"]]
    _resolve_tokenizer(values)
    fill = {
        "steps": default["steps"],
        "batch_size": default["batch_size"],
        "learning_rate": default["learning_rate"][values["objective"]],
    }
    for key, value in fill.items():
        if values[key] is None:
            values[key] = value
    if values["warmup_steps"] is None:
        train = igpt_keras.data.open_split(
            name,
            "train",
            pretraining_data.read_resolution(values),
            values["fold_validation"],
            values["data_dir"],
            skip_bad_images=values["skip_bad_images"],
        )
        epoch = max(1, len(train.labels) // values["batch_size"])
        values["warmup_steps"] = min(epoch, values["steps"] // 10)
    if values["warmup_steps"] >= values["steps"]:
        raise ValueError(
            f"warmup_steps={values['warmup_steps']} leaves nothing of "
            f"steps={values['steps']}. Warm up for fewer steps."
        )
    values["period"] = run_setup.resolve_period(values, most=8)
    if values["fold_validation"] and values["patience"] is not None:
        raise ValueError(
            "--fold_validation trains on the validation images, so that their "
            "loss cannot say when to stop. Leave out --patience."
        )
    names = [field.name for field in dataclasses.fields(Settings)]
    return Settings(**{name: values[name] for name in names})


def _resolve_tokenizer(values):
    """Fills in what follows from the tokenizer."""
    name = values["dataset"]
    given = values["palette"], values["tokenizer"]
    if None not in given:
        raise ValueError(
            "--palette and --tokenizer are two tokenizers. Pass one of them."
        )
    if given == (None, None) and name.startswith("tokens:"):
        directory = pathlib.Path(name.removeprefix("tokens:")).expanduser()
        if (directory / "vq_vae").is_dir():
            values["tokenizer"] = f"vq_vae:{directory / 'vq_vae'}"
        else:
            values["palette"] = str(directory / "palette.npy")
    if values["tokenizer"] is not None:
        copy = pathlib.Path(values["run_dir"] or "") / "vq_vae"
        if any(copy.parent.glob("checkpoints/epoch_*.npz")) and copy.is_dir():
            # Of a run that goes on, wherever the original is by now.
            tokenizer = igpt_keras.VQVAETokenizer.from_preset(copy)
        else:
            tokenizer = pretraining_data.open_vq_vae(values)
        values["input_resolution"] = tokenizer.input_resolution
        values["model_resolution"] = tokenizer.model_resolution
        values["vocabulary_size"] = tokenizer.vocabulary_size
        return
    if values["input_resolution"] is None:
        values["input_resolution"] = 8 if name == "digits" else 32
    values["model_resolution"] = values["input_resolution"]
    if values["palette"] is not None:
        tokenizer = igpt_keras.PaletteTokenizer(values["palette"])
        values["vocabulary_size"] = tokenizer.vocabulary_size


def describe(settings):
    """Settings, size and cost of a run, as text."""
    size = settings.architecture
    matrix_size = {
        key: size[key]
        for key in (
            "vocabulary_size",
            "sequence_length",
            "num_layers",
            "hidden_dim",
        )
    }
    flops = presets.count_training_flops(
        **matrix_size, batch_size=settings.batch_size
    )
    memory = presets.estimate_training_memory(
        **matrix_size,
        num_heads=size["num_heads"],
        batch_size=settings.batch_size,
    )
    tokens = settings.batch_size * size["sequence_length"]
    rows = {**dataclasses.asdict(settings), **size}
    lines = [f"{key:24}{value}" for key, value in rows.items()]
    lines += [
        "",
        f"{'parameters':24}{presets.count_parameters(**size):,}",
        f"{'tokens per step':24}{tokens:,}",
        f"{'tokens in all':24}{tokens * settings.steps:,}",
        f"{'FLOPs per step':24}{flops:.3g}",
        f"{'FLOPs in all':24}{flops * settings.steps:.3g}",
        f"{'memory, estimated':24}{memory / 2**30:.2f} GiB for the whole batch",
    ]
    return "\n".join(lines)


def run(settings):
    """Pretrains, or continues; evaluates; writes everything to `run_dir`.

    Returns:
        The metrics, as written to `metrics.json`.
    """
    run_dir = pathlib.Path(settings.run_dir)
    splits = {
        split: pretraining_data.open_split(settings, split)
        for split in ("train", "validation", "test")
    }
    started = run_setup.check_run_dir(
        settings, run_dir, splits["train"].fingerprint
    )
    tokenizer = _tokenizer(settings, run_dir, started)
    settings = dataclasses.replace(
        settings, vocabulary_size=tokenizer.vocabulary_size
    )
    print(describe(settings), "\n", flush=True)

    sets = {
        split: pretraining_data.evaluation_set(settings, tokenizer, split)
        for split in ("validation", "test")
    }
    probe_train = pretraining_data.evaluation_set(
        settings, tokenizer, "train", settings.probe_images
    )
    sizes = {split: len(opened.labels) for split, opened in splits.items()}
    print(", ".join(f"{n:,} {split}" for split, n in sizes.items()), "images")
    if settings.fold_validation:
        print("Training on train and validation together.")
    pretraining_data.print_skipped(splits["train"])
    labelled = bool(splits["train"].class_names)
    classes = int(splits["train"].labels.max()) + 1
    if not labelled:
        print("The pictures have no labels: training without probes.")
    elif len(probe_train.labels) < classes:
        labelled = False
        print(
            f"{len(probe_train.labels)} probe images of {classes} classes are "
            "too few: training without probes."
        )

    keras.utils.set_random_seed(settings.seed)
    with run_setup.strategy_scope(settings):
        model = igpt_keras.IGPT(**settings.architecture, dtype=settings.dtype)
        model.compile(_optimizer(settings))
    checkpoint = igpt_keras.TrainingCheckpoint(
        run_dir / "checkpoints", patience=settings.patience
    )
    epoch = checkpoint.restore(model)
    progress = reporting.Progress(run_dir / "progress.json", epoch)

    probes = []
    if labelled:
        probes = [
            igpt_keras.LinearProbe(
                probe_train.tokens,
                sets["validation"].tokens,
                name="validation",
                log_dir=run_dir / "logs",
            )
        ]
    pictures = reporting.PictureLog(
        run_dir / "logs", tokenizer, sets["validation"].images
    )
    epochs = settings.steps // settings.period
    if epoch:
        print(f"Continuing {run_dir} after step {epoch * settings.period}.")
    if epoch < epochs and not checkpoint.out_of_patience(epoch):
        run_setup.fit(
            model,
            pretraining_data.training_set(
                settings, tokenizer, epoch * settings.period
            ),
            settings,
            checkpoint,
            epoch,
            validation_data=sets["validation"].inputs,
            callbacks=[
                *probes,
                pictures,
                keras.callbacks.TensorBoard(
                    run_dir / "logs", write_graph=False
                ),
                progress.callback(probes),
            ],
        )

    if settings.fold_validation:
        best = checkpoint.restore(model)
    else:
        best = checkpoint.restore_best(model)
    print(f"Evaluating the weights of step {best * settings.period}.")
    model.save_to_preset(run_dir / "preset", tokenizer=tokenizer)
    reporting.draw_pictures(
        run_dir, model, tokenizer, sets["test"].images, settings.seed
    )
    metrics = {
        "train_seconds": progress.train_seconds,
        "steps": best * settings.period,
        "images": sizes,
        "validation_nats_per_token": _loss(model, sets["validation"]),
        "test_nats_per_token": _loss(model, sets["test"]),
        # What a model reaches that knows how often each token occurs in these
        # very images, and no more.
        "test_unigram_nats_per_token": pretraining_data.unigram_entropy(
            sets["test"].tokens, settings.vocabulary_size
        ),
        "probe": [],
    }
    if labelled:
        keras.utils.set_random_seed(settings.seed)
        untrained = igpt_keras.IGPT(
            **settings.architecture, dtype=settings.dtype
        )
        metrics.update(
            reporting.probe_report(
                model,
                untrained,
                probe_train,
                sets["validation"],
                sets["test"],
                settings.seed,
            )
        )
        reporting.draw_probe_curve(
            run_dir / "probe_curve.png", progress.probes, metrics
        )
    reporting.write_json(run_dir / "metrics.json", metrics)
    print(reporting.summary(metrics, run_dir))
    return metrics


def _tokenizer(settings, run_dir, started):
    """The run's own copy of its tokenizer, made when it starts."""
    path = run_dir / "palette.npy"
    if settings.tokenizer is not None:
        path = run_dir / "vq_vae"
    if started and path.is_dir():
        return igpt_keras.VQVAETokenizer.from_preset(path)
    if started and path.is_file():
        return igpt_keras.PaletteTokenizer(path)
    if settings.tokenizer is not None:
        tokenizer = pretraining_data.open_vq_vae(vars(settings))
    elif settings.palette is not None:
        tokenizer = igpt_keras.PaletteTokenizer(settings.palette)
    else:
        if settings.dataset.startswith("npy:"):
            raise ValueError(
                f"{settings.dataset} holds tokens: pass the --palette that "
                "they were made with, so that they can be seen."
            )
        print(f"Fitting a palette of {settings.vocabulary_size} colours.")
        # In the order of a split the first images are a random sample.
        batches = -(-PALETTE_IMAGES // settings.batch_size)
        dataset = pretraining_data.image_dataset(settings, "train")
        dataset = dataset.take(batches)
        tokenizer = igpt_keras.PaletteTokenizer.fit(
            np.concatenate([x for x, _ in dataset.as_numpy_iterator()]),
            settings.vocabulary_size,
            settings.seed,
        )
    made_with = pretraining_data.open_split(settings, "train").tokenizer
    if made_with not in (None, tokenizer.fingerprint):
        raise ValueError(
            f"{settings.dataset} was made with another tokenizer than "
            f"{settings.palette or settings.tokenizer}: its tokens would mean "
            "other pictures. Leave out --palette and --tokenizer, or tokenize "
            "the dataset with this one."
        )
    if settings.tokenizer is not None:
        tokenizer.vq_vae.save_to_preset(path)
    else:
        tokenizer.save_palette(path)
    return tokenizer


def _optimizer(settings):
    if settings.warmup_steps:
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            settings.steps - settings.warmup_steps,
            warmup_target=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
        )
    else:
        schedule = keras.optimizers.schedules.CosineDecay(
            settings.learning_rate, settings.steps
        )
    return keras.optimizers.Adam(
        schedule,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=ADAM_EPSILON,
    )


def _loss(model, examples):
    return float(model.evaluate(examples.inputs, verbose=0))
