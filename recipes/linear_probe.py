"""Linear probes of every layer of any weights, and other ways to read them.

    python recipes/linear_probe.py --model=runs/demo/preset --dataset=digits
    python recipes/linear_probe.py --dataset=cifar10 --concat=11 \
        --model=openai:openai/checkpoints/igpt-l/1000000 \
        --palette=openai/color-clusters/kmeans_centers.npy

Paper sections 2.4, 4.2 and 4.4: logistic regression by L-BFGS to convergence;
regularisation and layer are chosen on validation, test chooses nothing. Beside
it stand the raw pixels and an untrained network of the same shape, and if
asked for nearest neighbours, attentive probes and the alignment of layers: see
docs/reading_features.md.
"""

import contextlib
import pathlib
import tempfile

import keras
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import presets
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.probes import why_no_probe
from igpt_keras.probes.check_layers import check_layers
from igpt_keras.program import shared_flags
from igpt_keras.storage.json_file import write_json


def define_flags():
    shared_flags.define_weights()
    shared_flags.define_data("What pretrain.py takes, with labels.")
    shared_flags.define_model_palette()
    shared_flags.define_layers()
    program.reading_flags.define_readings(evaluation.ATTENTIVE_EPOCHS)
    shared_flags.define_numbers(
        "low_data",
        "Labels a class for probes of the chosen layer, such as 4,25,400, five "
        "subsets each (Table 4).",
        "labels a class, such as --low_data=4,25,400",
    )
    for name, default, explanation in (
        ("concat", None, "Also join so many layers around the chosen one."),
        ("probe_images", None, "Training images at most. Defaults to all."),
        ("batch_size", 64, "Images at a time; the result is the same."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=1)
    flags.DEFINE_bool(
        "features_on_disk", False, "Keep features in --run_dir meanwhile."
    )
    shared_flags.define_evaluation()
    shared_flags.define_masks_of_evaluation(
        evaluation.NUM_MASKS, presets.BERT_MASK_RATE
    )
    shared_flags.define_seed("untrained network, masks, low-data subsets")
    flags.DEFINE_string("run_dir", "runs/linear_probe", "Where results go.")


def main(args):
    model, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    model = getattr(model, "igpt", model)
    igpt_keras.check_tokenizer(tokenizer, model)
    splits = program.call(
        data.open_splits_for,
        args,
        tokenizer=tokenizer,
        sequence_length=model.sequence_length,
    )
    print(reports.describe_splits(splits), flush=True)
    sets = program.call(
        data.TokenSets, args, tokenizer=tokenizer, objective=model.objective
    )
    sets = program.call(
        data.evaluation_sets, args, sets=sets, splits=splits, name=args.dataset
    )
    attentive = [int(layer) for layer in args.attentive]
    check_layers(model, attentive or None)
    obstacle = why_no_probe(sets.train.labels, sets.test.labels)
    if obstacle:
        raise ValueError(obstacle)
    if args.alignment and len(sets.validation.labels) < 2:
        raise ValueError(
            "--alignment needs two validation images or more, and there is "
            "one. Raise --evaluation_images, or leave out --alignment."
        )
    run = training.RunDirectory(args.run_dir)
    run.make_for_results()

    keras.utils.set_random_seed(args.seed)
    untrained = type(model).from_config(model.get_config())
    with contextlib.ExitStack() as stack:
        directory = None
        if args.features_on_disk:
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="features-", dir=run.path)
            )
        metrics = program.call(
            evaluation.probe_weights,
            args,
            model=model,
            untrained=untrained,
            sets=sets,
            layers=shared_flags.layer_numbers(args.layers),
            low_data=[int(number) for number in args.low_data],
            neighbors=[int(number) for number in args.neighbors],
            directory=directory and pathlib.Path(directory),
            verbose=1,
        )
    metrics = {"model": args.model, "dataset": args.dataset, **metrics}
    metrics["alignment"] = metrics["attentive"] = None
    # What follows may fail, and the probes took long.
    write_json(run / "metrics.json", metrics)
    if args.alignment:
        metrics["alignment"] = evaluation.layer_alignment(
            model, sets.validation, shared_flags.layer_numbers(args.layers)
        )
        reports.draw_alignment(run / "alignment.png", metrics["alignment"])
    if attentive:
        metrics["attentive"] = program.call(
            evaluation.attentive_report,
            args,
            model=model,
            sets=sets,
            layers=attentive,
            epochs=args.attentive_epochs,
            verbose=1,
        )
    reports.draw_probe_curve(run / "probe_curve.png", [], metrics)
    write_json(run / "metrics.json", metrics)
    print(reports.linear_probe_summary(metrics, run.path))


if __name__ == "__main__":
    program.start(main, define_flags)
