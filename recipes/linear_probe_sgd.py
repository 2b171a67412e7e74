"""Linear probes of any weights by SGD, for datasets of ImageNet's size.

    python recipes/linear_probe_sgd.py --model=runs/demo/preset \
        --dataset=digits --run_dir=runs/linear_probe_sgd

Paper section 3.1: momentum 0.9, a cosine decay, and learning rates of 30, 10, 3
and less. All rates and layers are trained on one pass of the network an epoch;
features are never kept. Learning rate and layer are chosen on validation.
Ctrl-C and the same command again continue the run.
"""

from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import presets
from igpt_keras import probes
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json


def define_flags():
    shared_flags.define_weights()
    shared_flags.define_data("What pretrain.py takes, with labels.")
    shared_flags.define_model_palette()
    shared_flags.define_layers()
    flags.DEFINE_bool(
        "concat", False, "One probe of all these layers' features joined."
    )
    shared_flags.define_learning_rates(
        [str(rate) for rate in probes.LEARNING_RATES],
        "Peak learning rates, all of which are tried at once.",
    )
    flags.DEFINE_integer(
        "steps", None, "Training steps. Defaults to 20 epochs.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
    shared_flags.define_evaluation()
    shared_flags.define_masks_of_evaluation(
        evaluation.NUM_MASKS, presets.BERT_MASK_RATE
    )
    shared_flags.define_run("order, augmentation and masks")


def main(args):
    devices = program.call(training.Devices, args)
    devices.check_alone("Probes by SGD")
    model, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    model = getattr(model, "igpt", model)
    igpt_keras.check_tokenizer(tokenizer, model)
    splits = program.call(
        data.open_splits_for,
        args,
        tokenizer=tokenizer,
        sequence_length=model.sequence_length,
    )
    training.check_classes(splits)
    train = splits["train"]
    print(reports.describe_splits(splits), flush=True)
    args.steps = args.steps or 20 * max(1, len(train) // args.batch_size)
    args.period = program.call(training.choose_period, args)
    run = training.RunDirectory(args.run_dir, devices.is_chief)
    run.begin(vars(args), train.fingerprint)
    sets = program.call(
        data.TokenSets, args, tokenizer=tokenizer, objective=model.objective
    )
    validation, test = sets.evaluations(splits, args.evaluation_images)

    with program.call(devices.scope, args):
        grid = probes.ProbeGrid(
            training.rebuilt(model),
            train.num_classes,
            shared_flags.layer_numbers(args.layers),
            [float(rate) for rate in args.learning_rates],
            args.concat,
        )
        grid.compile(args.steps)
    grid.check_features(sets.evaluation(splits["validation"], 1).token_ids)
    # The last weights count, at the end of the learning rate's schedule.
    checkpoint = igpt_keras.TrainingCheckpoint(
        run / "checkpoints", monitor=None
    )
    progress = igpt_keras.Progress(run / "progress.json")
    grid = program.call(
        training.fit,
        args,
        model=grid,
        batches_from=sets.training_from(train, labels=True),
        checkpoint=checkpoint,
        progress=progress,
        log_dir=run / "logs",
        hyperparameters=vars(args),
        validation_data=validation.probe_inputs,
        config=run.config,
    )
    metrics = {
        "model": args.model,
        "dataset": args.dataset,
        "steps": args.steps,
        "images": {name: len(split) for name, split in splits.items()},
        **progress.seconds,
        **program.call(
            evaluation.grid_report,
            args,
            grid=grid,
            validation=validation,
            test=test,
        ),
        "peak_memory_bytes": program.peak_memory(),
        # What keeping float32 features of these layers would take.
        "feature_bytes": 4
        * len(train)
        * len(grid.layer_numbers)
        * model.hidden_dim,
    }
    write_json(run / "metrics.json", metrics)
    print(reports.grid_summary(metrics, run.path))


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
