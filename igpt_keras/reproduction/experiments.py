"""The runs that pages are made of."""

import shlex

from igpt_keras import presets
from igpt_keras.reproduction.run import Run


def pretraining(
    scale, preset, objective="autoregressive", variant=None, seed=0, **changes
):
    """A pretraining run.

    Args:
        scale: `Scale`.
        preset: str.
        objective: `"autoregressive"` or `"bert"`. Defaults to the first.
        variant: str. What to call the changes. Defaults to none.
        seed: int. Defaults to 0.
        **changes: flags of `pretrain.py` in place of the scale's.
    """
    parts = ["pretrain", preset, "bert" if objective == "bert" else None]
    flags = {"preset": preset, "objective": objective, "seed": seed}
    flags = {**scale.pretrain, **scale.sizes[preset], **flags, **changes}
    return Run(_name(*parts, variant, seed=seed), "pretrain", flags)


def pretrainings(scale, preset, seeds, **arguments):
    """`pretraining` once a seed."""
    return [
        pretraining(scale, preset, seed=seed, **arguments) for seed in seeds
    ]


def probing(scale, trained, dataset, **flags):
    """Linear probes of what a run trained, with its seed."""
    given = {"model": _preset(trained), "dataset": dataset}
    given["seed"] = trained.flags["seed"]
    return Run(
        f"probe_{trained.name}_{dataset}",
        "linear_probe",
        {**given, "concat": scale.concat, **scale.probe, **flags},
        (trained,),
    )


def probing_by_sgd(scale, trained, concat=False):
    """Probes by SGD of every layer, or of the middle ones joined."""
    seed = trained.flags["seed"]
    flags = {"model": _preset(trained), "seed": seed, **scale.sgd}
    if concat:
        last = presets.IGPT[trained.flags["preset"]]["num_layers"]
        first = max(0, (last + 1 - scale.concat) // 2)
        layers = range(first, min(first + scale.concat, last + 1))
        flags |= {"concat": True, "layers": ",".join(map(str, layers))}
    name = _name("sgd", trained.name, "joined" if concat else None)
    return Run(name, "linear_probe_sgd", flags, (trained,))


def finetuning(scale, trained, dataset, variant=None, **changes):
    """Fine-tuning of what a run trained, with its seed if no other is given."""
    name = _name("finetune", trained.name, dataset, variant)
    flags = {"model": _preset(trained), "dataset": dataset}
    flags |= {"seed": trained.flags["seed"], **scale.finetune, **changes}
    return Run(name, "finetune", flags, (trained,))


def searching(scale, preset, objective):
    """A search for the learning rate of a size."""
    pretrain = pretraining(scale, preset, objective, **scale.search)
    words = shlex.join(
        f"--{name}={value}" for name, value in pretrain.flags.items()
    )
    name = _name("search", preset, "bert" if objective == "bert" else None)
    flags = {"command": f"pretrain.py {words}"}
    return Run(name, "search_learning_rate", flags)


def _preset(trained):
    return f"{{{trained.name}}}/preset"


def _name(*parts, seed=0):
    parts = [part for part in parts if part is not None]
    return "_".join([*parts, f"seed{seed}"] if seed else parts)
