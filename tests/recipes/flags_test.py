"""Every flag is read, and reaches the object that it is named after."""

import ast
import importlib
import inspect
import pathlib

import keras
import numpy as np
import pytest
import recipe
import tiny
from absl.flags import IllegalFlagValueError
from conftest import ROOT
from PIL import Image

pytest.importorskip("tensorflow")

import igpt_keras  # noqa: E402
from igpt_keras import data  # noqa: E402
from igpt_keras import program  # noqa: E402
from igpt_keras import training  # noqa: E402

# The variants of `pretrain` read none of their own.
VARIANTS = {"pretrain_tpu", "pretrain_jax"}
RECIPES = sorted(
    {path.stem for path in (ROOT / "recipes").glob("*.py")} - VARIANTS
)
REQUIRED = {
    "compress": {"model": "x", "dataset": "x", "output": "x"},
    "detect_outliers": {"model": "x", "dataset": "x", "output": "x"},
    "evaluate": {"model": "x", "dataset": "x"},
    "finetune": {"model": "x", "dataset": "x"},
    "isoflop": {"command": "x", "budgets": "1e9"},
    "linear_probe": {"model": "x", "dataset": "x"},
    "linear_probe_sgd": {"model": "x", "dataset": "x"},
    "pretrain": {"dataset": "x", "preset": "igpt_s"},
    "reproduce": {"figure": "2"},
    "sample": {"model": "x", "output": "x"},
    "search_learning_rate": {"command": "x", "run_dir": "x"},
    "tokenize_dataset": {"dataset": "x", "palette": "x", "output": "x"},
    "train_palette": {"dataset": "x"},
    "train_vq_vae": {"dataset": "x"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_is_read(name):
    """By the script, or by a function of which it is a parameter."""
    script = importlib.import_module(name)
    tree = ast.parse(pathlib.Path(script.__file__).read_text())
    read = set()
    for node in ast.walk(tree):
        words = ast.unparse(node).split("(")[0]
        if isinstance(node, ast.Attribute) and words.startswith("args."):
            read.add(node.attr)
        if isinstance(node, ast.Call) and words == "program.call":
            names = {**vars(script), "devices": training.Devices}
            function = eval(ast.unparse(node.args[0]), names)
            read |= set(inspect.signature(function).parameters)
        if words == "run.begin":
            read.add("allow_config_change")
        if words == "reports.describe_run":
            read |= {"device_memory", "num_devices"}
    flags = vars(recipe.parse(name, **REQUIRED[name]))
    assert flags.keys() <= read


def test_defaults_of_the_paper():
    args = recipe.parse("pretrain", **REQUIRED["pretrain"])
    assert (args.beta_1, args.beta_2, args.mask_rate) == (0.9, 0.95, 0.15)
    assert args.vocabulary_size == 512 and args.objective == "autoregressive"
    args = recipe.parse("train_vq_vae", **REQUIRED["train_vq_vae"])
    # Section A.2: 48x48 of 4096 codes, and the loss of van den Oord et al.
    assert (args.model_resolution, args.vocabulary_size) == (48, 4096)
    assert (args.loss, args.quantizers) == ("l2", ["ema"])
    args = recipe.parse("train_palette", **REQUIRED["train_palette"])
    assert args.vocabulary_size == 512


class Stop(Exception):
    pass


@pytest.fixture
def fitted(monkeypatch):
    """What a recipe would have had `training.fit` do."""

    def run(name, **flags):
        found = {}

        def fit(*arguments, **others):
            names = inspect.signature(original).bind(*arguments, **others)
            found.update(names.arguments)
            raise Stop

        original = training.fit
        # `program.call` reads the names of its parameters.
        fit.__signature__ = inspect.signature(original)
        with monkeypatch.context() as patch:
            patch.setattr(training, "fit", fit)
            with pytest.raises(Stop):
                recipe.run(name, **flags)
        return found

    return run


PRETRAIN = {
    "dataset": "digits",
    "input_resolution": 4,
    "preset": "igpt_micro",
    "num_layers": 4,
    "num_heads": 3,
    "hidden_dim": 24,
    "objective": "bert",
    "mask_rate": 0.6,
    "head": "normal",
    "depth_scaled_mlp": True,
    "dropout": 0.3,
    "order": "random:3",
    "weight_decay": 0.2,
    "dtype": "mixed_bfloat16",
    "remat": True,
    "vocabulary_size": 5,
    "steps": 60,
    "batch_size": 48,
    "learning_rate": 0.25,
    "warmup_steps": 7,
    "beta_1": 0.7,
    "beta_2": 0.8,
    "patience": 3,
    "milestones": "20,60",
    "probe_images": 130,
    "probe_every": 60,
    "probe_layers": "1,4",
    "pictures": 40,
    "evaluation_images": 70,
    "period": 20,
    "seed": 5,
}


def test_flags_of_pretrain(fitted, tmp_path):
    found = fitted("pretrain", **PRETRAIN, run_dir=tmp_path / "run")
    model = found["model"]
    config = model.get_config()
    for key, value in {
        "num_layers": 4,
        "num_heads": 3,
        "hidden_dim": 24,
        "sequence_length": 16,
        "vocabulary_size": 5,
        "objective": "bert",
        "head": "normal",
        "depth_scaled_mlp": True,
        "dropout": 0.3,
        "order": "random:3",
        "attention": None,
        "remat": True,
    }.items():
        assert config[key] == value, key
    assert model.dtype_policy.name == "mixed_bfloat16"
    optimizer = model.optimizer
    assert (optimizer.beta_1, optimizer.beta_2) == (0.7, 0.8)
    assert optimizer.weight_decay == 0.2
    rates = [float(optimizer._learning_rate(step)) for step in (0, 7, 60)]
    np.testing.assert_allclose(rates, [0, 0.25, 0], atol=1e-6)
    assert (found["steps"], found["period"]) == (60, 20)
    checkpoint = found["checkpoint"]
    assert checkpoint.patience == 3 and checkpoint.keep == {1, 3}
    assert checkpoint.directory == tmp_path / "run" / "checkpoints"
    probe, pictures = found["callbacks"]
    probed = [y for _, y in probe.train.as_numpy_iterator()]
    assert len(np.concatenate(probed)) == 130
    assert (probe.name, probe.every, probe.layers) == ("validation", 3, [1, 4])
    # Followed on validation, which chooses nothing; test is for the end.
    scored = [y for _, y in probe.test.as_numpy_iterator()]
    labels = igpt_keras.data.open_split("digits", "validation", 4).labels
    np.testing.assert_array_equal(np.concatenate(scored), labels[:70])
    assert pictures.every == 2 and len(pictures.images) == 4
    validation = list(found["validation_data"].as_numpy_iterator())
    assert sum(len(y) for _, y in validation) == 70
    inputs, token_ids = next(iter(found["batches_from"](0)))
    assert token_ids.shape == (48, 16)
    hidden = np.mean(
        [x["mask"].numpy().mean() for x, _ in found["batches_from"](0).take(10)]
    )
    assert abs(hidden - 0.6) < 4 * np.sqrt(0.24 / 7680)
    # The seed is of the weights, the order, and the masks.
    flags = {**PRETRAIN, "seed": 6}
    other = fitted("pretrain", **flags, run_dir=tmp_path / "x")
    again, other_ids = next(iter(other["batches_from"](0)))
    assert (again["mask"].numpy() != inputs["mask"].numpy()).any()
    assert (other_ids.numpy() != token_ids.numpy()).any()
    kernels = [
        keras.ops.convert_to_numpy(m.blocks[0].mlp_up.kernel)
        for m in (model, other["model"])
    ]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


def test_order_and_attention_of_pretrain():
    flags = {**REQUIRED["pretrain"], "preset": "igpt_nano"}
    flags |= {"order": "spiral", "attention": "block_causal:4"}
    args = recipe.parse("pretrain", **flags)
    args.model_resolution = 8
    model = program.call(training.build_igpt, args)
    assert (model.order, model.attention) == ("spiral", "block_causal:4")
    args = recipe.parse("pretrain", **{**flags, "attention": "prefix_causal"})
    sets = program.call(data.TokenSets, args, tokenizer=None, batch_size=8)
    assert sets.takes_prefix
    with pytest.raises(
        IllegalFlagValueError, match="expected an order, such as"
    ):
        recipe.parse("pretrain", **{**flags, "order": "diagonal"})


@pytest.mark.parametrize("name", ["num_layers", "num_heads", "hidden_dim"])
def test_weights_to_start_from_have_their_own_size(name):
    flags = {"dataset": "digits", "init": "x", name: 8}
    with pytest.raises(IllegalFlagValueError, match=f"--{name} is of fresh"):
        recipe.parse("pretrain", **flags)


@pytest.mark.parametrize("name", ["search_learning_rate", "linear_probe_sgd"])
@pytest.mark.parametrize(
    "rates", ["0.01,foo", "0.01,", "", "0", "-0.1", "nan", "inf"]
)
def test_learning_rates_are_numbers_above_0(name, rates):
    flags = {**REQUIRED[name], "learning_rates": rates}
    with pytest.raises(
        IllegalFlagValueError, match="--learning_rates=.*expected numbers above"
    ):
        recipe.parse(name, **flags)


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_strategy_of_pretrain(strategy, fitted, tmp_path):
    flags = {**PRETRAIN, "strategy": strategy}
    model = fitted("pretrain", **flags, run_dir=tmp_path / "run")["model"]
    found = type(model.distribute_strategy).__name__
    assert (found == "MirroredStrategy") == (strategy == "mirrored")


FINETUNE = {
    "dataset": "digits",
    "from_scratch": True,
    "dropout": 0.3,
    "dtype": "mixed_bfloat16",
    "remat": True,
    "generative_weight": 0.5,
    "classification_weight": 0.75,
    "head_layer": 2,
    "labels_per_class": 7,
    "learning_rate": 0.25,
    "beta_1": 0.7,
    "beta_2": 0.8,
    "weight_decay": 0.2,
    "mask_rate": 0.6,
    "steps": 60,
    "batch_size": 48,
    "patience": 3,
    "evaluation_images": 70,
    "period": 20,
    "seed": 5,
}


def test_flags_of_finetune(fitted, tmp_path):
    model = tiny.save_preset(tmp_path / "preset", "bert")
    flags = {**FINETUNE, "model": model}
    found = fitted("finetune", **flags, run_dir=tmp_path / "run")
    classifier = found["model"]
    assert classifier.num_classes == 10 and classifier.head_layer == 2
    assert classifier.generative_weight == 0.5
    assert classifier.classification_weight == 0.75
    assert classifier.igpt.dropout == 0.3
    assert classifier.igpt.remat is True
    assert classifier.igpt.dtype_policy.name == "mixed_bfloat16"
    optimizer = classifier.optimizer
    assert (optimizer.beta_1, optimizer.beta_2) == (0.7, 0.8)
    assert optimizer.weight_decay == 0.2
    assert float(optimizer.learning_rate) == 0.25
    assert (found["steps"], found["period"]) == (60, 20)
    checkpoint = found["checkpoint"]
    assert (checkpoint.patience, checkpoint.sign) == (3, -1)
    assert checkpoint.monitor == "val_class_logits_accuracy"
    batches = [y.numpy() for _, y in found["batches_from"](0).take(35)]
    assert batches[0].shape == (48,)
    # 24 times 70 images, of each class as many.
    counts = np.bincount(np.concatenate(batches))
    np.testing.assert_array_equal(counts, [24 * 7] * 10)
    hidden = np.mean(
        [x["mask"].numpy().mean() for x, _ in found["batches_from"](0).take(10)]
    )
    assert abs(hidden - 0.6) < 4 * np.sqrt(0.24 / 7680)
    # Stopped by validation, and not by test.
    labels = igpt_keras.data.open_split("digits", "validation", 4).labels
    scored = [y for _, y in found["validation_data"].as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(scored), labels[:70])


VQ_VAE = {
    "dataset": "digits",
    "input_resolution": 8,
    "model_resolution": 2,
    "vocabulary_size": 9,
    "steps": 12,
    "batch_size": 20,
    "quantizers": "ema_without_revival",
    "loss": "l1",
    "commitment_cost": 0.75,
    "learning_rate": 0.125,
    "evaluation_images": 30,
    "period": 6,
    "seed": 3,
}


def test_flags_of_train_vq_vae(fitted, tmp_path):
    found = fitted("train_vq_vae", **VQ_VAE, run_dir=tmp_path / "run")
    vq_vae = found["model"]
    assert (vq_vae.input_resolution, vq_vae.model_resolution) == (8, 2)
    assert vq_vae.vocabulary_size == 9
    assert not vq_vae.quantizer.revive
    assert vq_vae.quantizer.commitment_cost == 0.75
    assert vq_vae.loss == "mean_absolute_error"
    assert abs(float(vq_vae.optimizer.learning_rate) - 0.125) < 1e-6
    assert (found["steps"], found["period"]) == (12, 6)
    assert sum(len(x) for x, _ in found["validation_data"]) == 30
    assert next(iter(found["batches_from"](0)))[0].shape == (20, 8, 8, 3)
    flags = {**VQ_VAE, "seed": 4}
    other = fitted("train_vq_vae", **flags, run_dir=tmp_path / "x")
    images = [next(iter(f["batches_from"](0)))[0] for f in (found, other)]
    assert (images[0].numpy() != images[1].numpy()).any()


@pytest.fixture(scope="module")
def colours_of_splits(tmp_path_factory):
    """A folder whose training pictures are red and whose others are not."""
    directory = tmp_path_factory.mktemp("colours")
    generator = np.random.default_rng(0)
    for channel, split in enumerate(("train", "val", "test")):
        (directory / split).mkdir()
        for i in range(12):
            pixels = np.zeros((8, 8, 3), "uint8")
            pixels[..., channel] = generator.integers(50, 256, (8, 8))
            Image.fromarray(pixels).save(directory / split / f"{i}.png")
    return f"folder:{directory}"


def red_alone(colours):
    return colours[:, 0].max() > 200 and not colours[:, 1:].any()


def test_palettes_are_of_training_images(colours_of_splits, fitted, tmp_path):
    flags = {"dataset": colours_of_splits, "vocabulary_size": 4}
    fitted(
        "pretrain",
        **flags,
        input_resolution=8,
        preset="igpt_nano",
        steps=2,
        run_dir=tmp_path / "run",
    )
    own = igpt_keras.PaletteTokenizer(tmp_path / "run" / "palette.npy")
    assert red_alone(own.colours)
    metrics = recipe.run(
        "train_palette",
        **flags,
        input_resolution=8,
        pixels=2000,
        prior_images=0,
        evaluation_images=8,
        evaluation_split="test",
        run_dir=tmp_path / "palette",
    )
    trained = igpt_keras.PaletteTokenizer(tmp_path / "palette" / "palette.npy")
    assert red_alone(trained.colours)
    # Blue is as far from red as that; measured on training it would be small.
    (measured,) = metrics["palettes"]
    assert measured["mean_squared_error"] > 5000
