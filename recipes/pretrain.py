"""Pretrains an Image GPT and probes every layer as it trains.

    python recipes/pretrain.py --dataset=digits --preset=igpt_nano \
        --run_dir=runs/digits

Ctrl-C and the same command again continue the run. Paper sections 3.1 to 3.4;
defaults are the paper's for its presets, ours for the others. What the run
leaves in `--run_dir` is listed at its end; curves: `tensorboard
--logdir=RUN_DIR`. Meanwhile other recipes open its best weights by
`--model=RUN_DIR`. `--init` starts from weights instead of fresh ones.
"""

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import presets
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json


def define_flags():
    shared_flags.define_data(shared_flags.EVERY_DATASET)
    shared_flags.define_input_resolution(
        explanation="Side of the images. Defaults to that of --init or "
        "--tokenizer, or else to 8 for digits, 12 for placed_digits and 32.",
        least=2,
    )
    program.model_flags.define_model(presets.IGPT, presets.BERT_MASK_RATE)
    shared_flags.define_tokenizer()
    shared_flags.define_schedule(presets.ADAM_BETA_1, presets.ADAM_BETA_2)
    shared_flags.define_selection(
        "Stop after so many periods without a lower validation loss. Defaults "
        "to never. The best weights are kept either way."
    )
    shared_flags.define_milestones()
    shared_flags.define_probes()
    shared_flags.define_pictures()
    shared_flags.define_evaluation()
    shared_flags.define_run(
        "weights, palette, order, augmentation, masks and samples"
    )
    program.run_flags.define_dry_run()


def main(args):
    devices = program.call(training.Devices, args)
    run = training.RunDirectory(args.run_dir, devices.is_chief)
    args.num_devices = args.num_devices or devices.num_replicas
    given, weights, splits, probe_splits = open_start(args, run)
    print(reports.describe_splits(splits), flush=True)
    if args.dry_run:
        note = "" if given else "\nThe fitted palette may have fewer colours."
        print(reports.describe_run(vars(args)) + note)
        return
    train = splits["train"]
    if not run.begin(vars(args), train.fingerprint) and given is None:
        print(f"Fitting a palette of {args.vocabulary_size} colours.")
    tokenizer = program.call(
        training.keep_run_tokenizer, args, run=run, train=train, tokenizer=given
    )
    args.vocabulary_size = tokenizer.vocabulary_size
    print(reports.describe_run(vars(args)), flush=True)
    sets = program.call(data.TokenSets, args, tokenizer=tokenizer)
    own, probe_sets = program.call(
        data.run_sets, args, sets=sets, splits=splits, probe_splits=probe_splits
    )
    if args.fold_validation:
        print("Training on train and validation together.")
        train = train.with_validation()

    with program.call(devices.scope, args):
        model = program.call(training.build_igpt, args, weights=weights)
        model.compile(program.call(training.paper_adam, args))
    checkpoint = igpt_keras.TrainingCheckpoint(
        run / "checkpoints",
        patience=args.patience,
        keep=program.call(training.milestone_epochs, args),
    )
    logs, every = run / "logs", args.probe_every // args.period
    probe_sets, probes = training.linear_probes(
        probe_sets, logs, every, args.probe_layers, args.probe_neighbors
    )
    images, every = own.validation.first_images(4), args.pictures // args.period
    pictures = igpt_keras.PictureLog(logs, tokenizer, images, every=every)
    progress = igpt_keras.Progress(run / "progress.json", probes, [pictures])
    model = program.call(
        training.fit,
        args,
        model=model,
        batches_from=sets.training_from(train),
        checkpoint=checkpoint,
        progress=progress,
        callbacks=[*probes, pictures],
        log_dir=logs,
        hyperparameters=vars(args),
        validation_data=own.validation.inputs,
        examples_of=sets.describe_batch(train),
        config=run.config,
        write_best=igpt_keras.PresetWriter(model, run / "preset", tokenizer),
    )

    best = checkpoint.restore_best
    restore = checkpoint.restore if args.fold_validation else best
    step = restore(model) * args.period
    print(f"Evaluating the weights of step {step}.")
    model.save_to_preset(run / "preset", tokenizer=tokenizer)
    metrics = {
        **progress.seconds,
        "steps": step,
        "images": {name: len(split) for name, split in splits.items()},
        **evaluation.dataset_loss(model, own.validation, own.test),
    }
    if args.objective == "autoregressive":
        print("Sampling.", flush=True)
        images = own.test.first_images(6)
        reports.draw_samples(run.path, model, tokenizer, images, args.seed)
    untrained = program.call(training.build_igpt, args) if probe_sets else None
    metrics |= evaluation.probe_reports(
        model, untrained, probe_sets, data.OWN, args.seed, verbose=1
    )
    reports.draw_probe_curves(run.path, progress.probes, metrics, data.OWN)
    write_json(run / "metrics.json", metrics)
    reports.write_model_card(run / "preset", run.config, metrics)
    print(reports.pretraining_summary(metrics, run.path, args.fold_validation))


def open_start(args, run):
    """Tokenizer and weights, if given, and all splits; fills in defaults."""
    start = igpt_keras.open_starting_weights(args.init, goes_on=run.started)
    given, sizes, weights = program.call(
        training.open_start, args, run=run, start=start
    )
    vars(args).update(sizes)
    splits = program.call(data.open_splits, args)
    probe_splits = program.call(data.open_probe_splits, args, splits=splits)
    images = len(splits["train"])
    vars(args).update(
        program.call(training.pretraining_schedule, args, images=images)
    )
    if args.probe_layers is not None:
        args.probe_layers = [int(layer) for layer in args.probe_layers]
    return given, weights, splits, probe_splits


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
