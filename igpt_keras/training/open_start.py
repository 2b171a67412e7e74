import math
import sys

from igpt_keras import presets
from igpt_keras.models import own_network
from igpt_keras.models.attention_pattern import read_attention
from igpt_keras.training.resized import check_codes
from igpt_keras.training.resized import check_positions
from igpt_keras.training.resized import resized_weights
from igpt_keras.training.run_tokenizer import open_run_tokenizer

_SHAPE = ("num_layers", "num_heads", "hidden_dim")
# What a run that goes on was begun with, where its flags leave it out.
_KEPT = ("preset", "input_resolution", "model_resolution", "vocabulary_size")


def open_start(
    run,
    start,
    dataset,
    preset=None,
    objective="autoregressive",
    head="zeros",
    order="raster",
    attention=None,
    palette=None,
    tokenizer=None,
    input_resolution=None,
    vocabulary_size=512,
    interpolate_positions=False,
):
    """What a pretraining run starts from: tokenizer, sizes and weights.

    Without weights to start from that is `open_run_tokenizer`, and fresh ones.
    Otherwise the tokenizer, the shape and, where none is said, the resolution
    are those of the weights. A run that goes on has its own weights and
    tokenizer, wherever those are by now.

    Args:
        run: `RunDirectory`.
        start: `StartingWeights`, or `None`.
        dataset: str, as `image_dataset` takes it.
        preset: key of `presets.IGPT`. Defaults to the weights'.
        objective: `"autoregressive"` or `"bert"`.
        head: see `IGPT`.
        order: see there.
        attention: see there.
        palette: path of a palette, or `None`.
        tokenizer: `"vq_vae:DIRECTORY"`, or `None`.
        input_resolution: int. Side of the images, see above.
        vocabulary_size: int. Colours of a palette that is still to be fitted.
        interpolate_positions: bool. Whether positions are resized to another
            resolution, as a two-dimensional grid. Defaults to `False`.

    Returns:
        `(opened, values, weights)`: the first two as `open_run_tokenizer`, with
        `preset` and `init_sha256` (`None` without `start`) among the values;
        and a list of arrays for `build_igpt`, or `None`.

    Raises:
        ValueError: if the weights are of another shape, objective, head,
            tokenizer or resolution, and as `open_run_tokenizer`.
    """

    def open_given(input_resolution):
        return open_run_tokenizer(
            run,
            dataset,
            palette,
            tokenizer,
            input_resolution,
            vocabulary_size,
        )

    if start is None:
        opened, values = open_given(input_resolution)
        return opened, {**values, "preset": preset, "init_sha256": None}, None
    if run.started:
        begun = run.begun_with()
        opened, values = open_given(input_resolution)
        kept = {key: begun[key] for key in _KEPT if key in begun}
        if preset is not None:
            kept["preset"] = preset
        if input_resolution is not None:
            kept["input_resolution"] = input_resolution
        # Gone, it is what it was; else `begin` says that it is another.
        digest = start.sha256 or begun.get("init_sha256")
        return opened, {**values, **kept, "init_sha256": digest}, None

    model = getattr(start.model, "igpt", start.model)
    preset = _check_network(start.source, model, preset)
    pattern, _ = read_attention(attention, objective)
    given = {"objective": objective, "head": head, "order": order}
    _check_variant(start.source, model, {**given, "attention": pattern})
    side = math.isqrt(model.sequence_length)
    opened, values = open_given(input_resolution or side)
    opened = start.own_tokenizer(opened)
    values = {
        **values,
        "vocabulary_size": opened.vocabulary_size,
        "preset": preset,
        "init_sha256": start.sha256,
    }
    if hasattr(opened, "model_resolution"):
        check_codes(opened, input_resolution)
        values["input_resolution"] = opened.input_resolution
        values["model_resolution"] = opened.model_resolution
    wanted = values["model_resolution"]
    check_positions(start.source, side, wanted, interpolate_positions)
    sys.stdout.write(
        f"Starting from the weights in {start.source}, {start.sha256[:12]}...\n"
    )
    return opened, values, resized_weights(model, wanted**2)


def _check_network(source, model, preset):
    """The preset of a model's shape."""
    names = (own_network.shown_name(x) for x in (type(model), model.block))
    own = [x for x in names if x not in (own_network.MODEL, own_network.BLOCK)]
    if own:
        raise ValueError(
            f"The weights in {source} are of a model built from {own[0]}, and "
            "pretraining builds the plain network. Train it with "
            "`training.fit`."
        )
    shape = {key: getattr(model, key) for key in _SHAPE}
    names = [
        name
        for name, size in presets.IGPT.items()
        if all(size[key] == value for key, value in shape.items())
    ]
    said = ", ".join(f"{key}={value}" for key, value in shape.items())
    if not names:
        raise ValueError(
            f"The weights in {source} have {said}, which is no --preset: "
            f"{', '.join(presets.IGPT)}. Train them with `training.fit`."
        )
    if preset not in (None, *names):
        raise ValueError(
            f"--preset={preset} is another shape than that of the weights in "
            f"{source}, {said}. Leave it out, or pass --preset={names[0]}."
        )
    return preset or names[0]


def _check_variant(source, model, given):
    """Refuses flags that the weights are not of."""
    for flag, value in given.items():
        found = getattr(model, "head_kind" if flag == "head" else flag)
        if value != found:
            raise ValueError(
                f"--{flag}={value}, and the weights in {source} have {found}. "
                f"Pass --{flag}={found}."
            )
