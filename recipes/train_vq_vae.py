"""Trains a VQ-VAE, whose codes stand for images of 96 or 192 pixels.

    python recipes/train_vq_vae.py --dataset=imagenet2012 --run_dir=runs/vq_vae
    python recipes/pretrain.py --dataset=imagenet2012 --preset=igpt_s \
        --tokenizer=vq_vae:runs/vq_vae/ema/preset --run_dir=runs/igpt_s

Paper sections 3.2 and A.2; defaults are the paper's where it gives them.
Several `--quantizers` are compared. The same command again continues the run.
"""

import functools

import keras
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json

LOSSES = {"l2": "mean_squared_error", "l1": "mean_absolute_error"}


def define_flags():
    shared_flags.define_data()
    shared_flags.define_input_resolution(96, "Side of the images.", least=2)
    for name, default, least, explanation in (
        ("model_resolution", 48, 1, "Side of the grid of codes."),
        ("vocabulary_size", 4096, 2, "Codes; fsq has 4096 always."),
        ("steps", 100_000, 1, "Training steps; the paper gives none."),
        ("batch_size", 128, 1, "Images in a batch."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=least)
    flags.DEFINE_multi_enum(
        "quantizers",
        ["ema"],
        ["ema", "ema_without_revival", "fsq"],
        "What to train; give it again for another. ema: the paper's codebook "
        "of moving averages. fsq: finite scalar quantization.",
    )
    flags.DEFINE_enum("loss", "l2", list(LOSSES), "Of the reconstructions.")
    flags.DEFINE_float(
        "commitment_cost", 0.02, "Weight of the commitment loss.", lower_bound=0
    )
    shared_flags.define_learning_rate(1e-4, "Of Adam.")
    shared_flags.define_evaluation()
    shared_flags.define_run(
        "weights, order, crops and revived codes",
        "Steps of an epoch. Default: the steps in 10 parts, 10,000 at most.",
        run_dir="runs/vq_vae",
    )


def main(args):
    devices = program.call(training.Devices, args)
    args.period = training.choose_period(args.steps, args.period, most=10)
    args.quantizers = list(dict.fromkeys(args.quantizers))
    if len(args.quantizers) > 1:
        devices.check_alone("Several --quantizers")
    # What does not fit is refused before anything is written.
    for name in args.quantizers:
        build(args, name)
    splits = program.call(data.open_splits, args)
    train, *others = splits.values()
    train.check_images()
    run = training.RunDirectory(args.run_dir, devices.is_chief)
    run.begin(vars(args), train.fingerprint)
    print(reports.describe_splits(splits))
    validation, test = (x.first(args.evaluation_images) for x in others)
    images = {name: len(split) for name, split in splits.items()}
    before = next(images_of(test, 8))
    results, after = [], {}
    for name in args.quantizers:
        print(f"\n{name}: {args.steps:,} steps.", flush=True)
        vq_vae, seconds, step = fit(args, devices, run, name, train, validation)
        vq_vae.save_to_preset(run / name / "preset")
        print(f"Measuring {name} after step {step:,} on test images.")
        quality = evaluation.reconstruction_quality(vq_vae, images_of(test, 32))
        pictures = vq_vae.decode(vq_vae.encode(before))
        after[name] = keras.ops.convert_to_numpy(pictures)
        result = {"quantizer": name, "steps": step, "train_seconds": seconds}
        results.append({**result, **quality})
        found = {"images": images, **results[-1]}
        reports.write_model_card(run / name / "preset", run.config, found)
    sizes = ("input_resolution", "model_resolution", "vocabulary_size")
    metrics = {
        **{key: vars(args)[key] for key in ("dataset", *sizes)},
        "test_images": len(test),
        "quantizers": results,
    }
    reports.draw_reconstructions(run.path, before, after, results)
    write_json(run / "metrics.json", metrics)
    print(reports.vq_vae_summary(metrics, run.path))


def build(args, name):
    """A new `VQVAE` with the quantizer of that name."""
    keras.utils.set_random_seed(args.seed)
    if name == "fsq":
        quantizer = igpt_keras.layers.FiniteScalarQuantizer((8, 8, 8, 8))
    else:
        quantizer = program.call(
            igpt_keras.layers.VectorQuantizer,
            args,
            embedding_dim=64,  # Section A.2.
            revive=name == "ema",
        )
    return program.call(igpt_keras.VQVAE, args, quantizer=quantizer)


def fit(args, devices, run, name, train, validation):
    """Trains one quantizer; the model, seconds, and the step of its weights."""
    with program.call(devices.scope, args):
        vq_vae = build(args, name)
        vq_vae.compile(program.call(training.SafeAdam, args), LOSSES[args.loss])
    validation = training.shared_evenly(validation, vq_vae)
    checkpoint = igpt_keras.TrainingCheckpoint(run / name / "checkpoints")
    progress = igpt_keras.Progress(run / name / "progress.json")
    logs = run / "logs" / name
    batches = functools.partial(train.batches, args.batch_size, True, args.seed)
    vq_vae.adapt(batches(0))
    codebook = igpt_keras.CodebookLog(logs, next(images_of(validation, 128)))
    vq_vae = program.call(
        training.fit,
        args,
        model=vq_vae,
        batches_from=batches,
        checkpoint=checkpoint,
        progress=progress,
        callbacks=[codebook],
        log_dir=logs,
        hyperparameters={**vars(args), "quantizer": name},
        validation_data=validation.batches(args.batch_size),
        config=run.config,
    )
    step = checkpoint.restore_best(vq_vae) * args.period
    return vq_vae, progress.seconds["train_seconds"], step


def images_of(split, batch_size):
    """Batches of images, once."""
    return (x for x, _ in split.batches(batch_size).as_numpy_iterator())


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
