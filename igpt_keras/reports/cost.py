from igpt_keras import presets
from igpt_keras.reports.memory import describe_memory

_SIZE = ("num_layers", "num_heads", "hidden_dim")


def describe_run(config):
    """What a pretraining run depends on, its size and its cost, as text.

    Args:
        config: dict of everything it depends on, as in its `config.json`; all
            of it is shown. Read are `preset`, `objective`, `input_resolution`,
            `model_resolution`, `vocabulary_size`, `steps`, `batch_size`,
            `learning_rate` and `head`; if there, `num_layers`, `num_heads`,
            `hidden_dim`, `dtype`, `remat`, `micro_batches`, `num_devices` and
            `device_memory`.
    """
    architecture = presets.architecture(
        config["preset"],
        config["vocabulary_size"],
        config["model_resolution"],
        config["objective"],
        **{key: config.get(key) for key in _SIZE},
    )
    matrices = {
        key: architecture[key]
        for key in (
            "vocabulary_size",
            "sequence_length",
            "num_layers",
            "hidden_dim",
        )
    }
    batch_size, steps = config["batch_size"], config["steps"]
    flops = presets.count_training_flops(**matrices, batch_size=batch_size)
    known = ("device_memory", "remat", "micro_batches", "dtype", "head")
    memory = describe_memory(
        **architecture,
        num_devices=config.get("num_devices") or 1,
        batch_size=batch_size,
        **{key: config[key] for key in known if key in config},
    )
    tokens = batch_size * architecture["sequence_length"]
    parameters = presets.count_parameters(**architecture, head=config["head"])
    rate, source = presets.choose_learning_rate(
        config["preset"], config["objective"], config["input_resolution"]
    )
    rows = {
        **config,
        **architecture,
        "": "",
        "parameters": f"{parameters:,}",
        "tokens per step": f"{tokens:,}",
        "tokens in all": f"{tokens * steps:,}",
        "FLOPs per step": f"{flops:.3g}",
        "FLOPs in all": f"{flops * steps:.3g}",
        **memory,
    }
    if config["learning_rate"] == rate:
        rows["learning rate from"] = source
    lines = [f"{key:24}{value}".rstrip() for key, value in rows.items()]
    return "\n".join(lines)
