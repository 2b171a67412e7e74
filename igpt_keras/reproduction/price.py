import shlex

from igpt_keras import presets
from igpt_keras.reports.tables import duration
from igpt_keras.reports.tables import table
from igpt_keras.training import finetuning_schedule

# Images of a dataset, and those that are trained on.
_IMAGES = {
    "digits": (1_797, 1_295),
    "cifar10": (60_000, 45_000),
    "cifar100": (60_000, 45_000),
    "stl10": (13_000, 4_500),
    "imagenet2012": (1_331_167, 1_229_920),
}
_BATCH = 128
# Flags that change a preset's network.
_SIZES = ("num_layers", "num_heads", "hidden_dim", "vocabulary_size")
# That a search takes.
_TRIALS = 3
# Of weights and two moments in float32: two checkpoints; where one is chosen,
# the best; of pretraining those of powers of two of a thousand steps up to a
# million.
_BYTES_OF_CHECKPOINT = 12
_CHECKPOINTS = {"pretrain": 13, "finetune": 3, "linear_probe_sgd": 2}


def price(run):
    """What a run costs, before it is begun.

    Forward passes count a third of training steps; what probes, validation and
    pictures take beside pretraining is left out.

    Args:
        run: `Run`.

    Returns:
        dict of `steps` (0 where nothing is trained by steps), `flops` and
        `disk_bytes`.
    """
    flags = run.flags
    if run.recipe == "search_learning_rate":
        words = dict(
            word.removeprefix("--").split("=", 1)
            for word in shlex.split(flags["command"])[1:]
        )
        one = _price("pretrain", words, words)
        return {key: _TRIALS * value for key, value in one.items()}
    source = run.needs[0].flags if run.needs else flags
    return _price(run.recipe, flags, source)


def describe_prices(runs, root, others, throughput):
    """Commands and what they cost, as text.

    Args:
        runs: list of `Run`.
        root: path of the directory of all runs.
        others: dict of flags that every recipe takes.
        throughput: float. FLOPs a second of an accelerator.
    """
    rows, total = [["run", "steps", "FLOPs", "time", "disk"]], [0.0, 0.0]
    for run in runs:
        cost = price(run)
        total[0] += cost["flops"]
        total[1] += cost["disk_bytes"]
        rows.append([run.name, f"{cost['steps']:,}", *_cells(cost, throughput)])
    whole = {"flops": total[0], "disk_bytes": total[1]}
    rows.append(["all", "", *_cells(whole, throughput)])
    commands = "\n".join(run.command(root, **others) for run in runs)
    return (
        f"{commands}\n\n{table(rows)}\n\ntime of one device that does "
        f"{throughput:.3g} FLOPs a second (--throughput); validation and "
        "probes while training are not counted"
    )


def _cells(cost, throughput):
    gib = cost["disk_bytes"] / 2**30
    time = duration(cost["flops"] / throughput)
    return [f"{cost['flops']:.3g}", time, f"{gib:,.1f} GiB"]


def _price(recipe, flags, source):
    """Of a run with `flags` on what a run with `source` trained."""
    given = {key: int(source[key]) for key in _SIZES if key in source}
    size = {**presets.IGPT[source["preset"]], **given}
    if "input_resolution" in source:
        size["sequence_length"] = int(source["input_resolution"]) ** 2
    parameters = presets.count_parameters(**size)
    matrices = {k: v for k, v in size.items() if k != "num_heads"}
    image = presets.count_training_flops(**matrices, batch_size=1)
    images, trained_on = _IMAGES[flags["dataset"]]
    steps, seen = 0, 0
    if recipe == "pretrain":
        usual = presets.PRETRAINING[source["preset"]]
        steps = int(flags.get("steps", usual["steps"]))
        seen = steps * int(flags.get("batch_size", usual["batch_size"]))
    elif recipe == "finetune":
        if "labels_per_class" in flags:
            # Of ten classes.
            trained_on = 10 * flags["labels_per_class"]
        schedule = finetuning_schedule(trained_on, flags.get("steps"))
        steps = schedule["steps"]
        seen = steps * schedule["batch_size"]
    elif recipe == "linear_probe_sgd":
        steps = int(flags["steps"])
        seen = steps * _BATCH / 3
    else:
        # The network and an untrained one.
        seen = 2 * images / 3
        if "attentive" in flags:
            seen += flags["attentive_epochs"] * trained_on / 3
    checkpoints = _CHECKPOINTS.get(recipe, 0)
    return {
        "steps": steps,
        "flops": image * seen,
        "disk_bytes": checkpoints * _BYTES_OF_CHECKPOINT * parameters
        + (4 * parameters if checkpoints else 0),
    }
