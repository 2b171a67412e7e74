"""The runs of an IsoFLOP study: each budget spent on each of several sizes."""

import shlex

import numpy as np

from igpt_keras import presets
from igpt_keras.reproduction.run import Run
from igpt_keras.training.run_directory import RunDirectory
from igpt_keras.training.run_tokenizer import open_run_tokenizer

# What every run has its own of, or what would make budgets unequal.
_REFUSED = {
    "steps": "a run's steps follow from its budget",
    "period": "a run is validated at its end",
    "probe_every": "a run is probed at its end",
    "pictures": "nothing is drawn before a run's end",
    "patience": "a run spends its budget",
    "milestones": "a run is validated at its end",
    "fold_validation": "validation is what sizes are compared on",
    "init": "a budget is that of fresh weights",
    "num_layers": "the recipe chooses sizes",
    "num_heads": "the recipe chooses sizes",
    "hidden_dim": "the recipe chooses sizes",
    "run_dir": "each run has its own",
    "dry_run": "pass it to this recipe",
}
_OF_PALETTE = (
    *("dataset", "data_dir", "skip_bad_images", "input_resolution"),
    *("vocabulary_size", "seed"),
)
_PIXELS_PER_COLOUR = 5000
# The default of `pretrain.py`.
_COLOURS = 512
_WHOLE = ("input_resolution", "vocabulary_size", "batch_size")


def read_pretraining(command):
    """The flags of a `pretrain.py` command that is to be run at many sizes.

    Args:
        command: str, such as
            `"pretrain.py --dataset=digits --preset=igpt_nano"`.

    Returns:
        dict of str by flag, `True` for those without a value.

    Raises:
        ValueError: if it is no such command, lacks a dataset or preset, or has
            flags that the study sets.
    """
    name, *words = shlex.split(command) or [""]
    if name.split("/")[-1] != "pretrain.py":
        raise ValueError(
            f"--command begins with {name!r}, and sizes are compared of "
            "pretrain.py."
        )
    found = {}
    for word in words:
        if not word.startswith("--"):
            raise ValueError(
                f"--command has {word!r}. Write its flags as --name=value."
            )
        flag, given, value = word[2:].partition("=")
        # `Run` puts directories where there are braces.
        value = value.replace("{", "{{").replace("}", "}}")
        found[flag] = value if given else True
    for flag, reason in _REFUSED.items():
        if flag in found:
            raise ValueError(f"--command has --{flag}: {reason}. Leave it out.")
    for flag in ("dataset", "preset"):
        if found.get(flag, True) is True:
            raise ValueError(f"--command has no --{flag}=..., which runs need.")
    if found["preset"] not in presets.IGPT:
        raise ValueError(
            f"--command has --preset={found['preset']}, and there are "
            f"{', '.join(presets.IGPT)}."
        )
    for flag in _WHOLE:
        if not str(found.get(flag, 1)).isdecimal():
            raise ValueError(
                f"--command has --{flag}={found[flag]}: expected a whole "
                "number."
            )
    return found


def shared_tokens(flags, root):
    """The tokenizer that all sizes share: nats of others do not compare.

    Where none is given a palette is fitted once, by `train_palette.py`; until
    then it is taken to have all the colours that are asked for.

    Args:
        flags: dict of `read_pretraining`.
        root: path of the directory of all runs.

    Returns:
        `(needs, flags, tokens)`: a list of the palette's `Run`, empty if a
        tokenizer is given; the flags with that palette; and a dict of
        `input_resolution`, `model_resolution` and `vocabulary_size`.

    Raises:
        ValueError: as `training.open_run_tokenizer`.
    """
    resolution = flags.get("input_resolution")
    given = {
        "run": RunDirectory(None),
        "dataset": flags["dataset"],
        "tokenizer": flags.get("tokenizer"),
        "input_resolution": None if resolution is None else int(resolution),
        "vocabulary_size": int(flags.get("vocabulary_size", _COLOURS)),
    }
    opened, tokens = open_run_tokenizer(**given, palette=flags.get("palette"))
    if opened is not None:
        return [], flags, tokens
    own = {name: flags[name] for name in _OF_PALETTE if name in flags}
    own["pixels"] = _PIXELS_PER_COLOUR * given["vocabulary_size"]
    run = Run("palette", "train_palette", own)
    path = root / run.name / "palette.npy"
    if path.is_file():
        _, tokens = open_run_tokenizer(**given, palette=path)
    return [run], {**flags, "palette": "{palette}/palette.npy"}, tokens


def isoflop_sizes(count, min_layers, max_layers, aspect_ratio):
    """Networks from small to large, all of one shape.

    One number says how large a network is, as the depth of GPT-2 small and of
    the larger GPT-3 does: width is `aspect_ratio` times the depth, and there
    are as many heads as layers, each `aspect_ratio` wide. Parameters grow with
    the depth's third power. Depths are the whole numbers next to even steps of
    the logarithm, no two the same.

    Args:
        count: int. Sizes, 2 at least.
        min_layers: int.
        max_layers: int.
        aspect_ratio: int. Width over depth; 64 for GPT-2 small, 21 for iGPT-S,
            32 for iGPT-L.

    Returns:
        list of dicts of `num_layers`, `num_heads` and `hidden_dim`.

    Raises:
        ValueError: if there are fewer depths between the bounds.
    """
    if max_layers - min_layers + 1 < count:
        raise ValueError(
            f"{count} sizes of {min_layers} to {max_layers} layers cannot all "
            "differ. Ask for fewer --sizes, or raise --max_layers."
        )
    depths = []
    for depth in np.geomspace(min_layers, max_layers, count):
        # What is pushed up here is caught up with, as steps only grow.
        least = depths[-1] + 1 if depths else min_layers
        depths.append(max(round(depth), least))
    return [
        {
            "num_layers": depth,
            "num_heads": depth,
            "hidden_dim": aspect_ratio * depth,
        }
        for depth in depths
    ]


def plan_isoflop(
    budgets, sizes, flags, vocabulary_size, model_resolution, needs=()
):
    """The runs, and what each spends.

    Steps are as many whole ones as the budget pays for, of
    `presets.count_training_flops`; validation and probes are not counted.

    Args:
        budgets: sequence of float. FLOPs.
        sizes: list of dicts of `isoflop_sizes`.
        flags: dict of `read_pretraining`, with what the runs need.
        vocabulary_size: int. Tokens of the tokenizer.
        model_resolution: int. Side of the grid of tokens.
        needs: tuple of `Run` that come first.

    Returns:
        list of dicts, by budget and size: `run`, the `Run`; `budget`,
        `num_layers`, `hidden_dim`, `parameters`, `steps`, `tokens` (trained
        on) and `flops`.

    Raises:
        ValueError: if a budget does not pay for a step.
    """
    batch_size = int(
        flags.get(
            "batch_size", presets.PRETRAINING[flags["preset"]]["batch_size"]
        )
    )
    plan = []
    for budget in sorted(budgets):
        for size in sizes:
            whole = presets.architecture(
                flags["preset"],
                vocabulary_size,
                model_resolution,
                flags.get("objective", "autoregressive"),
                **size,
            )
            flops = presets.count_training_flops(
                vocabulary_size=vocabulary_size,
                sequence_length=whole["sequence_length"],
                num_layers=size["num_layers"],
                hidden_dim=size["hidden_dim"],
                batch_size=batch_size,
            )
            steps = int(budget / flops)
            if not steps:
                raise ValueError(
                    f"{budget:g} FLOPs pay for no step of {flops:.3g}, of "
                    f"{size['num_layers']} layers. Raise --budgets, or lower "
                    "--max_layers or --batch_size."
                )
            own = {"steps": steps, "period": steps, "pictures": 0}
            plan.append(
                {
                    "run": Run(
                        f"budget_{budget:g}_layers_{size['num_layers']}",
                        "pretrain",
                        {**flags, **size, **own},
                        tuple(needs),
                    ),
                    "budget": float(budget),
                    "num_layers": size["num_layers"],
                    "hidden_dim": size["hidden_dim"],
                    "parameters": presets.count_parameters(
                        **whole, head=flags.get("head", "zeros")
                    ),
                    "steps": steps,
                    "tokens": steps * batch_size * model_resolution**2,
                    "flops": steps * flops,
                }
            )
    return plan


def isoflop_points(plan, results):
    """What the runs of a plan reached.

    Sizes are compared on validation. It chose no weights, since a run is
    validated at its end alone, and no layer, which held-out training images
    did; test is left for what is chosen.

    Args:
        plan: list of dicts of `plan_isoflop`.
        results: dict of `read_results`.

    Returns:
        list of dicts: those of the plan, `run` being the name, with `state`
        ("over", "diverged" or "not over") and, `None` where there is none,
        `validation_nats`, `test_nats` (per token), `chosen_layer`,
        `validation_accuracy`, `test_accuracy` and `seconds`.
    """
    points = []
    for member in plan:
        name = member["run"].name
        left = results.get(name)
        record = {} if left is None else left["record"]
        state = "not over" if left is None else "over"
        if record.get("diverged"):
            left, state = None, "diverged"
        left = left or {}
        # With --probe_datasets, of the first of these.
        probe = [*left.get("probes", {}).values(), left][0]
        rows = {row["layer"]: row for row in probe.get("probe", [])}
        layer = probe.get("chosen_layer")
        chosen = rows.get(layer, {})
        points.append(
            {
                **member,
                "run": name,
                "state": state,
                "validation_nats": left.get("validation_nats_per_token"),
                "test_nats": left.get("test_nats_per_token"),
                "chosen_layer": layer,
                "validation_accuracy": chosen.get("validation_accuracy"),
                "test_accuracy": chosen.get("test_accuracy"),
                "seconds": record.get("seconds"),
            }
        )
    return points
