"""Fine-tunes weights on labels, with the joint loss L_GEN + L_CLF.

    python recipes/finetune.py --model=runs/demo/preset --dataset=digits \
        --run_dir=runs/finetuned

With `--from_scratch --beside=runs/finetuned` it is the baseline, in one plot.
Paper sections 2.3, 3.4 and 4.3: all weights are trained, without a schedule of
the learning rate, until validation accuracy is at its best. Ctrl-C and the same
command again continue the run. `recipes/evaluate.py` scores what it leaves.
"""

import keras
from absl import flags

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
    shared_flags.define_weights()
    shared_flags.define_data("What pretrain.py takes, with labels.")
    shared_flags.define_model_palette()
    flags.DEFINE_bool(
        "from_scratch", False, "Fresh weights in place of those of --model."
    )
    program.model_flags.define_dropout()
    program.model_flags.define_dtype()
    for name, loss in (("generative", "L_GEN"), ("classification", "L_CLF")):
        text = f"Weight of {loss}."
        flags.DEFINE_float(f"{name}_weight", 1.0, text, lower_bound=0)
    for name, least, explanation in (
        ("head_layer", 0, "Layer to classify by. Default: --model's or last."),
        ("labels_per_class", 1, "Train on so many images of each class."),
    ):
        flags.DEFINE_integer(name, None, explanation, lower_bound=least)
    shared_flags.define_learning_rate(1e-3, "Learning rate, without schedule.")
    shared_flags.define_adam(presets.ADAM_BETA_1, presets.ADAM_BETA_2)
    shared_flags.define_finetuning()
    shared_flags.define_evaluation()
    shared_flags.define_masks_of_evaluation(
        evaluation.NUM_MASKS, presets.BERT_MASK_RATE
    )
    flags.DEFINE_multi_string(
        "beside", [], "Run of this recipe whose curve to draw too; repeatable."
    )
    shared_flags.define_run(
        "fresh weights, order, augmentation, masks and labels",
        "Steps between validations. Defaults to an epoch or 20, see --steps.",
    )


def main(args):
    devices = program.call(training.Devices, args)
    opened, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    igpt = getattr(opened, "igpt", opened)
    igpt_keras.check_tokenizer(tokenizer, igpt)
    given = {"igpt": igpt, "tokenizer": tokenizer, "source": args.model}
    length = program.call(training.finetuning_positions, args, **given)
    evaluation.check_masks(igpt, 1, args.mask_rate)
    curves = {path: training.read_accuracy_curve(path) for path in args.beside}
    run = training.RunDirectory(args.run_dir, devices.is_chief)
    splits, train = open_data(args, length, tokenizer)
    print(reports.describe_splits(splits), flush=True)
    run.begin(vars(args), splits["train"].fingerprint)
    known = {k: getattr(igpt, k) for k in ("objective", "attention")}
    sets = program.call(data.TokenSets, args, tokenizer=tokenizer, **known)
    validation, test = sets.evaluations(splits, args.evaluation_images)

    with program.call(devices.scope, args):
        keras.utils.set_random_seed(args.seed)
        given = {"opened": opened, "sequence_length": length}
        given["num_classes"] = splits["train"].num_classes
        classifier = program.call(training.build_classifier, args, **given)
        classifier.compile(program.call(training.paper_adam, args, steps=None))
    preset = run / "preset"
    checkpoint = igpt_keras.TrainingCheckpoint(
        run / "checkpoints", training.ACCURACY, args.patience, mode="max"
    )
    progress = igpt_keras.Progress(run / "progress.json")
    classifier = program.call(
        training.fit,
        args,
        model=classifier,
        batches_from=sets.training_from(train, labels=True),
        checkpoint=checkpoint,
        progress=progress,
        log_dir=run / "logs",
        hyperparameters=vars(args),
        validation_data=validation.classified,
        examples_of=sets.describe_batch(train),
        config=run.config,
        write_best=igpt_keras.PresetWriter(classifier, preset, tokenizer),
    )
    best = checkpoint.restore_best
    restore = checkpoint.restore if args.fold_validation else best
    step = restore(classifier) * args.period
    print(f"Evaluating the weights of step {step}.", flush=True)
    classifier.save_to_preset(preset, tokenizer=tokenizer)
    curve = training.accuracy_curve(
        progress.epochs, args.batch_size, len(train)
    )
    metrics = {
        **{k: vars(args)[k] for k in ("model", "dataset", "from_scratch")},
        "steps": step,
        "images": {k: len(v) for k, v in {**splits, "train": train}.items()},
        **progress.seconds,
        **program.call(
            evaluation.finetuning_scores,
            args,
            classifier=classifier,
            validation=validation,
            test=test,
        ),
        "curve": curve,
    }
    reports.draw_accuracy_curves(
        run / "accuracy.png", {**curves, str(run): curve}, metrics["chance"]
    )
    write_json(run / "metrics.json", metrics)
    reports.write_model_card(preset, run.config, metrics)
    print(reports.finetuning_summary(metrics, run.path, args.fold_validation))


def open_data(args, sequence_length, tokenizer):
    """All splits, and what to train on; fills in defaults."""
    splits = program.call(
        data.open_splits_for,
        args,
        tokenizer=tokenizer,
        sequence_length=sequence_length,
    )
    training.check_classes(splits)
    train = program.call(
        training.finetuning_images, args, train=splits["train"]
    )
    vars(args).update(
        program.call(training.finetuning_schedule, args, images=len(train))
    )
    return splits, train


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
