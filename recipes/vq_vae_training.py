"""The VQ-VAE program: train each quantizer, measure, compare."""

import dataclasses
import math
import pathlib

import keras
import numpy as np
import pretraining_data
import reporting
import run_setup
import vq_vae_reporting

import igpt_keras
from igpt_keras import layers

LOSSES = {"l2": "mean_squared_error", "l1": "mean_absolute_error"}
# Length of a code of the codebook (section A.2 of the paper).
EMBEDDING_DIM = 64
FSQ_LEVELS = (8, 8, 8, 8)
# Images that are encoded at a time.
CHUNK = 32


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a run depends on. Flags of `train_vq_vae.py` explain each."""

    dataset: str
    data_dir: str | None
    skip_bad_images: bool
    input_resolution: int
    model_resolution: int
    vocabulary_size: int
    quantizers: list
    loss: str
    commitment_cost: float
    learning_rate: float
    steps: int
    batch_size: int
    period: int
    evaluation_images: int | None
    seed: int
    strategy: str
    run_dir: str


def resolve(values):
    """`Settings` from flag values, with defaults filled in.

    Raises:
        ValueError: for values that do not fit together.
    """
    values = dict(values)
    if values["dataset"].startswith(("tokens:", "npy:")):
        raise ValueError(
            f"{values['dataset']} holds tokens. A VQ-VAE is trained on images."
        )
    if not math.isfinite(values["learning_rate"]):
        raise ValueError(
            f"--learning_rate must be finite, received "
            f"{values['learning_rate']}."
        )
    values["quantizers"] = list(dict.fromkeys(values["quantizers"]))
    levels = math.prod(FSQ_LEVELS)
    if "fsq" in values["quantizers"] and values["vocabulary_size"] != levels:
        raise ValueError(
            f"fsq has {levels} codes, and --vocabulary_size="
            f"{values['vocabulary_size']}. Leave it out to compare them."
        )
    values["period"] = run_setup.resolve_period(values, most=10)
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: values[name] for name in names})
    # Sizes that do not fit are refused before anything is written.
    build(settings, settings.quantizers[0])
    return settings


def build(settings, name):
    """A new `VQVAE` with the quantizer of that name."""
    if name == "fsq":
        quantizer = layers.FiniteScalarQuantizer(FSQ_LEVELS)
    else:
        quantizer = layers.VectorQuantizer(
            settings.vocabulary_size,
            EMBEDDING_DIM,
            commitment_cost=settings.commitment_cost,
            revive=name == "ema",
            seed=settings.seed,
        )
    return igpt_keras.VQVAE(
        settings.input_resolution,
        settings.model_resolution,
        settings.vocabulary_size,
        quantizer,
    )


def run(settings):
    """Trains, or continues; measures; writes everything to `run_dir`.

    Returns:
        The metrics, as written to `metrics.json`.
    """
    run_dir = pathlib.Path(settings.run_dir)
    opened = pretraining_data.open_split(settings, "train")
    run_setup.check_run_dir(settings, run_dir, opened.fingerprint)
    pretraining_data.print_skipped(opened)
    validation = load_images(settings, "validation")
    test = load_images(settings, "test")
    print(
        f"{len(opened.labels):,} training, {len(validation):,} validation and "
        f"{len(test):,} test images of {settings.dataset}, "
        f"{settings.input_resolution} pixels to "
        f"{settings.model_resolution}x{settings.model_resolution} codes"
    )
    results, pictures = [], {}
    for name in settings.quantizers:
        print(f"\n{name}: {settings.steps:,} steps.", flush=True)
        vq_vae, seconds, step = train(settings, name, run_dir, validation)
        vq_vae.save_to_preset(run_dir / name / "preset")
        print(f"Measuring {name} after step {step:,} on test images.")
        measured, pictures[name] = evaluate(vq_vae, test)
        results.append(
            {
                "quantizer": name,
                "steps": step,
                "train_seconds": seconds,
                **measured,
            }
        )
        if hasattr(vq_vae.quantizer, "revived"):
            revived = keras.ops.convert_to_numpy(vq_vae.quantizer.revived)
            results[-1]["revived_codes"] = int(revived)
    metrics = {
        "dataset": settings.dataset,
        "input_resolution": settings.input_resolution,
        "model_resolution": settings.model_resolution,
        "vocabulary_size": settings.vocabulary_size,
        "test_images": len(test),
        "quantizers": results,
    }
    vq_vae_reporting.draw_reconstructions(
        run_dir / "reconstructions.png", test, pictures, results
    )
    reporting.write_json(run_dir / "metrics.json", metrics)
    print(vq_vae_reporting.summary(metrics, run_dir))
    return metrics


def load_images(settings, split):
    """uint8 `(M, R, R, 3)`."""
    dataset = pretraining_data.image_dataset(settings, split)
    limit = settings.evaluation_images
    if limit is not None:
        dataset = dataset.unbatch().take(limit).batch(settings.batch_size)
    return np.concatenate([x for x, _ in dataset.as_numpy_iterator()])


def train(settings, name, run_dir, validation):
    """Trains one quantizer; the model, seconds, and the step of its weights."""
    keras.utils.set_random_seed(settings.seed)
    directory = run_dir / name
    directory.mkdir(exist_ok=True)
    with run_setup.strategy_scope(settings):
        vq_vae = build(settings, name)
        vq_vae.compile(
            keras.optimizers.Adam(settings.learning_rate),
            loss=LOSSES[settings.loss],
        )
    checkpoint = igpt_keras.TrainingCheckpoint(directory / "checkpoints")
    strategy = getattr(vq_vae, "distribute_strategy", None)
    if strategy is not None:
        # TensorFlow has no convolution of no images, a replica's share of a
        # last image.
        replicas = strategy.num_replicas_in_sync
        validation = validation[: len(validation) // replicas * replicas]
        if not len(validation):
            raise ValueError(
                f"Fewer validation images than {replicas} replicas. Use more "
                "--evaluation_images, or --strategy=none."
            )
    epoch = checkpoint.restore(vq_vae)
    progress = reporting.Progress(directory / "progress.json", epoch)
    if epoch:
        print(f"Continuing after step {epoch * settings.period:,}.")
    log_dir = run_dir / "logs" / name
    dataset = pretraining_data.image_dataset(
        settings,
        "train",
        training=True,
        seed=settings.seed,
        start_step=epoch * settings.period,
    )
    if epoch < settings.steps // settings.period:
        run_setup.fit(
            vq_vae,
            dataset,
            settings,
            checkpoint,
            epoch,
            validation_data=(validation, None),
            validation_batch_size=settings.batch_size,
            callbacks=[
                vq_vae_reporting.CodebookLog(log_dir, validation),
                keras.callbacks.TensorBoard(log_dir, write_graph=False),
                progress.callback([]),
            ],
        )
    best = checkpoint.restore_best(vq_vae)
    return vq_vae, progress.train_seconds, best * settings.period


def evaluate(vq_vae, images):
    """What codes keep of images.

    Args:
        vq_vae: `VQVAE`.
        images: uint8 `(M, R, R, 3)`.

    Returns:
        Metrics, and the first reconstructions. PSNR (dB) and SSIM are means
        over images. `bits_per_pixel` is of codes that all take `log2 V` bits,
        `entropy_bits_per_pixel` of codes that take what their frequency calls
        for.
    """
    import tensorflow as tf

    usage = igpt_keras.CodebookUsage(vq_vae.vocabulary_size)
    # SSIM's window of 11 pixels, where the images have as many.
    window = min(11, vq_vae.input_resolution)
    psnr, ssim = [], []
    for start in range(0, len(images), CHUNK):
        before = images[start : start + CHUNK]
        token_ids = vq_vae.encode(before)
        after = keras.ops.convert_to_numpy(vq_vae.decode(token_ids))
        usage.update_state(token_ids)
        psnr.append(tf.image.psnr(before, after, max_val=255).numpy())
        ssim.append(
            tf.image.ssim(
                before, after, max_val=255, filter_size=window
            ).numpy()
        )
        if start == 0:
            pictures = after[: vq_vae_reporting.NUM_PICTURES]
    used = {name: float(value) for name, value in usage.result().items()}
    tokens = vq_vae.model_resolution**2 / vq_vae.input_resolution**2
    # Equal images have an infinite PSNR.
    psnr = np.minimum(np.concatenate(psnr), 100)
    return {
        "psnr": float(psnr.mean()),
        "ssim": float(np.concatenate(ssim).mean()),
        "bits_per_pixel": tokens * math.log2(vq_vae.vocabulary_size),
        "entropy_bits_per_pixel": tokens * math.log2(used["perplexity"]),
        "active_codes": int(used["active_codes"]),
        "active_code_fraction": used["active_codes"] / vq_vae.vocabulary_size,
        "perplexity": used["perplexity"],
    }, pictures
