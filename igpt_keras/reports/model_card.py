"""The card of a model: what it is, what it learned from, what it is not for."""

import json
import math

from igpt_keras import presets
from igpt_keras.models import preset_directory
from igpt_keras.reports.tables import markdown_table
from igpt_keras.storage.atomic_file import atomic_file
from igpt_keras.storage.card_file import CARD
from igpt_keras.storage.card_file import MARK
from igpt_keras.storage.user_path import user_path
from igpt_keras.terminal import command_line
from igpt_keras.version import software_versions

_PALETTE = "palette.npy"
_VQ_VAE = "vq_vae.json"
_NOT_FOR = """\
## What it must not be used for

The model learned from the pictures named above and carries their biases: whom
and what they show, how often and how. Many serve it, such as that brown beside
green is a branch with leaves. Others harm: where the pictures' scientists are
mostly men, so are its completions of scientists (the example is OpenAI's, of
their Image GPT). Nobody has measured these biases here.

- Not for decisions about people, or to recognise or describe them.
- Not as evidence: a completion is drawn from what such pictures have in common
  and does not show what was there.
- Not in a product before its biases are measured for that use.

## Licence

The code, igpt_keras, is under the MIT licence. What may be done with the
weights depends on the terms of the pictures too.
"""


def write_model_card(directory, config, metrics, command=None):
    """Writes the card of a preset as `README.md` in it, whole or not at all.

    What can be read from the preset is: network, tokens and resolutions.

    Args:
        directory: path of a preset, of an `IGPT`, an `IGPTClassifier` or a
            `VQVAE`.
        config: dict of what the run depends on, as in its `config.json`. Read
            are `dataset`, `steps`, `batch_size`, `learning_rate` and `seed`;
            if there, `fold_validation`, `labels_per_class` and
            `evaluation_images`.
        metrics: dict of what it came to, as in its `metrics.json`; of a VQ-VAE
            with the numbers of its quantizer.
        command: str. What was run. Defaults to this process's command.

    Raises:
        ValueError: if there is no preset.
        OSError: if it cannot be written.
    """
    path = user_path(directory)
    facts = {
        **_describe_data(config, metrics),
        **_describe_model(path),
        **_describe_training(config, metrics),
        "versions": ", ".join(
            f"{k} {v}" for k, v in software_versions().items()
        ),
    }
    parts = [
        f"---\n{MARK}\ntags:\n- image-gpt\n- keras\n---",
        f"# {_title(path)}, trained on {config['dataset']}",
        markdown_table([["", ""], *facts.items()]),
        f"```bash\n{command or command_line()}\n```",
        f"```python\n{_opening(path)}\n```",
        f"## What it came to\n\n{markdown_table(_scores(metrics))}",
        *_probes(metrics),
        _NOT_FOR,
    ]
    with atomic_file(path / CARD) as file:
        file.write("\n\n".join(parts).encode())


def _is_vq_vae(path):
    """Whether a preset is a `VQVAE` alone."""
    return not preset_directory.is_preset(path) and (path / _VQ_VAE).is_file()


def _title(path):
    if _is_vq_vae(path):
        return "VQ-VAE"
    manifest = preset_directory.read_manifest(path)
    return "Image GPT" + " with classes" * ("classifier" in manifest)


def _opening(path):
    if _is_vq_vae(path):
        return f'vq_vae = igpt_keras.VQVAE.from_preset("{path.name}")'
    return f'model, tokenizer = igpt_keras.open_weights("{path.name}")'


def _describe_data(config, metrics):
    images = {name: f"{count:,}" for name, count in metrics["images"].items()}
    splits = ", ".join(f"{count} {name}" for name, count in images.items())
    if config.get("fold_validation"):
        splits += "; trained on validation too"
    if config.get("labels_per_class"):
        splits += f"; {config['labels_per_class']:,} labels a class"
    if config.get("evaluation_images"):
        most = config["evaluation_images"]
        splits += f"; scored were at most {most:,} of validation and of test"
    return {"data": f"`{config['dataset']}`", "images": splits}


def _describe_model(path):
    """Network, tokens and resolutions, from the files of the preset."""
    codes = None
    if (path / _VQ_VAE).is_file():
        codes = json.loads((path / _VQ_VAE).read_text())
    if _is_vq_vae(path):
        return _describe_codes(codes)
    manifest = preset_directory.read_manifest(path)
    model = manifest["model"]
    side = math.isqrt(model["sequence_length"])
    network = (
        f"{model['num_layers']} layers, {model['num_heads']} heads, width "
        f"{model['hidden_dim']}"
    )
    names = model.get("class"), model.get("block")
    if any(names):
        own = " and ".join(f"`{name}`" for name in names if name)
        network += f"; of its own: {own}"
    else:
        known = ("head", "objective", *presets.IGPT["igpt_s"])
        size = {key: model[key] for key in known if key in model}
        network += f", {presets.count_parameters(**size):,} weights"
    if "classifier" in manifest:
        network += f", {manifest['classifier']['num_classes']:,} classes"
    objective = {
        "autoregressive": "autoregressive: each token from those before it",
        "bert": "BERT: hidden tokens from the others",
    }[model["objective"]]
    # Only where they are not the usual ones.
    variant = {k: model[k] for k in ("order", "attention") if model.get(k)}
    found = {"network": network, "objective": objective, **variant}
    if codes is None:
        found["image resolution"] = f"{side}x{side} pixels"
        found["tokens"] = f"{model['vocabulary_size']:,} colours of a palette"
        if not (path / _PALETTE).is_file():
            found["tokens"] += ", which is not here"
    else:
        found |= _describe_codes(codes)
    return {**found, "model resolution": f"{side}x{side} tokens"}


def _describe_codes(manifest):
    sizes = manifest["vq_vae"]
    side, grid = sizes["input_resolution"], sizes["model_resolution"]
    return {
        "image resolution": f"{side}x{side} pixels",
        "model resolution": f"{grid}x{grid} tokens",
        "tokens": f"{sizes['vocabulary_size']:,} codes of a VQ-VAE, "
        f"{manifest['quantizer']['class']}",
    }


def _describe_training(config, metrics):
    found = {}
    if "from_scratch" in metrics:
        start = f"`{metrics.get('model')}`"
        if metrics["from_scratch"]:
            start = "fresh weights"
        found["started from"] = start
    return {
        **found,
        "training": f"weights of step {metrics['steps']:,} of "
        f"{config['steps']:,}, {config['batch_size']:,} images a step, "
        f"learning rate {config['learning_rate']:g}, seed {config['seed']}",
    }


def _scores(metrics):
    """Rows of what was measured, on validation and test where it was."""
    rows = [["", "validation", "test"]]
    for name, key, text in (
        ("nats per token", "nats_per_token", "{:.4f}"),
        (
            "entropy of the tokens' frequencies",
            "unigram_nats_per_token",
            "{:.4f}",
        ),
        ("accuracy", "accuracy", "{:.1%}"),
        ("nats of the class", "class_nats", "{:.4f}"),
    ):
        found = [metrics.get(f"{split}_{key}") for split in rows[0][1:]]
        if any(value is not None for value in found):
            cells = ["" if x is None else text.format(x) for x in found]
            rows.append([name, *cells])
    single = {
        "standard error of the accuracy": ("test_standard_error", "{:.1%}"),
        "largest class": ("chance", "{:.1%}"),
        "PSNR, dB": ("psnr", "{:.2f}"),
        "SSIM": ("ssim", "{:.3f}"),
        "bits per pixel": ("bits_per_pixel", "{:.2f}"),
        "bits per pixel by entropy": ("entropy_bits_per_pixel", "{:.2f}"),
        "active codes": ("active_codes", "{:,}"),
    }
    if "test_accuracy" not in metrics:
        # They are of the probe, whose section has them.
        del single["standard error of the accuracy"], single["largest class"]
    for name, (key, text) in single.items():
        if key in metrics:
            rows.append([name, "", text.format(metrics[key])])
    return rows


def _probes(metrics):
    """A section for each dataset that was probed."""
    reports = {"its own images": metrics, **metrics.get("probes", {})}
    return [
        f"## Linear probes of {name}\n\n"
        f"{markdown_table(_probe_rows(report))}\n\n"
        f"Layer {report['chosen_layer']} was chosen on training images, of "
        f"which there were {report['probe_images']:,}. Standard error on test "
        f"{report['test_standard_error']:.1%}; the largest class is "
        f"{report['chance']:.1%}."
        for name, report in reports.items()
        if report.get("probe")
    ]


def _probe_rows(report):
    rows = [["layer", "validation", "test"]]
    for row in report["probe"]:
        found = (row["validation_accuracy"], row["test_accuracy"])
        rows.append([str(row["layer"]), *(f"{x:.1%}" for x in found)])
    for name in ("raw_pixels", "untrained"):
        accuracy = report[f"{name}_test_accuracy"]
        rows.append([name.replace("_", " "), "", f"{accuracy:.1%}"])
    return rows
