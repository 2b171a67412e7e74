import json

import numpy as np
import pytest
import recipe
import reference
import tiny
from PIL import Image

import igpt_keras

pytest.importorskip("tensorflow")


@pytest.fixture
def evaluate(tmp_path):
    def evaluate(model, dataset, **changes):
        path = tmp_path / "deep" / "output.json"
        flags = {"batch_size": 40, "output": path, **changes}
        recipe.run("evaluate", model=model, dataset=dataset, **flags)
        return json.loads(path.read_text())

    return evaluate


def numpy_losses(model, token_ids, mask=None):
    """Nats per token of each image, from the reference's logits."""
    logits, _ = reference.forward(tiny.numpy_weights(model), token_ids, mask)
    return reference.nats_per_token(logits, token_ids, mask)


@pytest.fixture
def tokens(tmp_path):
    token_ids = tiny.token_ids(batch=150)
    np.save(tmp_path / "mine_teX.npy", token_ids.astype("int64"))
    return f"npy:{tmp_path / 'mine'}", token_ids


@pytest.mark.parametrize("kind", ["keras", "huggingface", "openai"])
def test_both_averages_of_all_three_formats(evaluate, kind, tokens, tmp_path):
    dataset, token_ids = tokens
    model = tiny.model()
    path = tmp_path / "model"
    if kind == "keras":
        model.save_to_preset(path)
    elif kind == "huggingface":
        igpt_keras.save_huggingface(model, path)
    else:
        igpt_keras.save_openai_checkpoint(model, path)
    metrics = evaluate(path, dataset)
    losses = numpy_losses(model, token_ids)
    # The released script: batches of 64, the rest left out.
    means = [losses[i : i + 64].mean() for i in (0, 64)]
    for key, images, expected in (
        ("all_images", 150, losses.mean()),
        ("whole_batches", 128, np.mean(means)),
    ):
        found = metrics[key]
        assert found["images"] == images
        assert abs(found["nats_per_token"] - expected) < 1e-5
        bits = found["nats_per_token"] / np.log(2)
        assert np.isclose(found["bits_per_token"], bits)
        assert np.isclose(found["palette_bits_per_dimension"], bits / 3)
        assert np.isclose(found["perplexity"], 2**bits)
    assert losses.mean() != np.mean(means)
    assert metrics["released_nats_per_token"] is None


def test_bert_masks(evaluate, tokens, tmp_path, capsys):
    dataset, token_ids = tokens
    model = tiny.model("bert")
    model.save_to_preset(tmp_path / "model")
    arguments = {"num_masks": 3, "mask_rate": 0.4, "seed": 5}
    metrics = evaluate(tmp_path / "model", dataset, **arguments)
    assert "3 mask(s) an image, rate 0.4, seed 5" in capsys.readouterr().out
    losses = []
    for number in range(3):
        draws = [
            np.random.default_rng((5, number, image)).random(16)
            for image in range(len(token_ids))
        ]
        mask = np.stack(draws) < 0.4
        losses.append(numpy_losses(model, token_ids, mask))
    found = metrics["all_images"]["nats_per_token"]
    assert abs(found - np.mean(losses)) < 1e-5
    # Not a matter of the batch size, but of the seed.
    again = evaluate(
        tmp_path / "model", dataset, **{**arguments, "batch_size": 50}
    )
    assert abs(again["all_images"]["nats_per_token"] - found) < 1e-6
    other = evaluate(tmp_path / "model", dataset, **{**arguments, "seed": 6})
    assert abs(other["all_images"]["nats_per_token"] - found) > 1e-6


def test_oracle_loss(evaluate, shared, tmp_path):
    directory = shared / "oracle" / "ar_small"
    expected = np.load(directory / "expected.npz")
    np.save(tmp_path / "x.npy", expected["x"])
    metrics = evaluate(directory, f"npy:{tmp_path / 'x.npy'}")
    found = metrics["all_images"]["nats_per_token"]
    assert abs(found - expected["gen_loss"]) < 1e-5
    assert metrics["whole_batches"] is None


def test_images_of_a_dataset(evaluate, tmp_path):
    """Digits through the palette that was saved with the model."""
    palette = np.linspace(-1, 1, 33).reshape(11, 3).astype("float32")
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    model = tiny.model(sequence_length=64)
    model.save_to_preset(tmp_path / "model", tokenizer)
    metrics = evaluate(tmp_path / "model", "digits", images=20)
    test = igpt_keras.data.load_examples("digits", "test", 8)
    token_ids = tiny.array(tokenizer(test.images[:20]))
    expected = numpy_losses(model, token_ids).mean()
    assert abs(metrics["all_images"]["nats_per_token"] - expected) < 1e-5
    igpt_keras.save_huggingface(model, tmp_path / "huggingface", tokenizer)
    theirs = evaluate(tmp_path / "huggingface", "digits", images=20)
    assert theirs["all_images"] == metrics["all_images"]


def test_token_cache_gives_the_loss_of_its_images(evaluate, tmp_path):
    palette = np.repeat(np.linspace(-1, 1, 11)[:, None], 3, axis=1)
    tokenizer = igpt_keras.PaletteTokenizer(palette)
    tiny.model(sequence_length=64).save_to_preset(tmp_path / "model", tokenizer)
    tokenizer.save_palette(tmp_path / "palette.npy")
    recipe.run(
        "tokenize_dataset",
        dataset="digits",
        input_resolution=8,
        palette=tmp_path / "palette.npy",
        output=tmp_path / "cache",
    )
    cache = f"tokens:{tmp_path / 'cache'}"
    found = evaluate(tmp_path / "model", cache, images=20)
    expected = evaluate(tmp_path / "model", "digits", images=20)
    assert found["all_images"] == expected["all_images"]
    np.save(tmp_path / "other.npy", palette[::-1] * 0.5)
    with pytest.raises(ValueError, match="was made with another tokenizer"):
        evaluate(tmp_path / "model", cache, palette=tmp_path / "other.npy")


def test_bad_pictures_are_left_out_and_listed(evaluate, tmp_path, capsys):
    generator = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for i in range(40):
        image = generator.integers(0, 256, (4, 4, 3)).astype("uint8")
        Image.fromarray(image).save(tmp_path / "mine" / f"{i}.png")
    (tmp_path / "mine" / "7.png").write_bytes(b"")
    tokenizer = igpt_keras.PaletteTokenizer(generator.uniform(-1, 1, (11, 3)))
    tiny.model(sequence_length=16).save_to_preset(tmp_path / "model", tokenizer)
    folder = f"folder:{tmp_path / 'mine'}"
    with pytest.raises(ValueError, match="7.png"):
        evaluate(tmp_path / "model", folder)
    metrics = evaluate(tmp_path / "model", folder, skip_bad_images=True)
    assert metrics["all_images"]["images"] == 8
    printed = capsys.readouterr().out
    assert "Left out 1 pictures:" in printed and "7.png" in printed


def test_the_released_loss_is_of_all_images(evaluate, tmp_path, monkeypatch):
    tiny.model().save_to_preset(tmp_path / "model")
    np.save(tmp_path / "imagenet_teX.npy", tiny.token_ids(batch=70))
    monkeypatch.setitem(
        igpt_keras.presets.IGPT, "igpt_s", {**tiny.SIZE, "num_heads": 3}
    )
    for images, expected in ((None, 2.0895), (70, 2.0895), (65, None)):
        metrics = evaluate(
            tmp_path / "model", f"npy:{tmp_path / 'imagenet'}", images=images
        )
        assert metrics["released_nats_per_token"] == expected


def test_command(tokens, tmp_path):
    tiny.model().save_to_preset(tmp_path / "model")
    flags = [f"--model={tmp_path / 'model'}", f"--dataset={tokens[0]}"]
    output = f"--output={tmp_path / 'deep' / 'metrics.json'}"
    result = recipe.command("evaluate", *flags, output)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "deep" / "metrics.json").read_text())
    nats = f"{metrics['all_images']['nats_per_token']:.4f}"
    line = next(x for x in result.stdout.splitlines() if "nats" in x)
    assert line.split()[-2] == nats
    assert "palette bits per dimension" in result.stdout


@pytest.mark.parametrize(
    "model, dataset, message",
    [
        ("nothing", "digits", "No model at"),
        ("model", "digits --num_masks=2", "--num_masks is for BERT"),
        ("model", "digits", "no tokenizer with it"),
        ("model", "npy:nowhere", "No token file at nowhere_teX.npy"),
    ],
)
def test_bad_input_is_a_sentence(evaluate, model, dataset, message, tmp_path):
    tiny.model().save_to_preset(tmp_path / "model")
    dataset, *flags = dataset.split()
    changes = {"num_masks": 2} if flags else {}
    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path / model, dataset, **changes)


def test_bad_input_ends_in_one_line(tmp_path):
    flags = [f"--model={tmp_path / 'nothing'}", "--dataset=digits"]
    result = recipe.command("evaluate", *flags)
    assert result.returncode == 1
    assert "evaluate.py: No model at" in result.stderr
    assert "Traceback" not in result.stderr


def test_classes_of_openais_tokens_are_scored(evaluate, tokens, tmp_path):
    """Where their labels are, one-hot, beside them."""
    dataset, token_ids = tokens
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 2)
    head = classifier.class_head.kernel
    head.assign(np.random.default_rng(0).normal(size=head.shape))
    logits = classifier.predict(token_ids, verbose=0)["class_logits"]
    right = logits.argmax(-1)
    right[:30] = 1 - right[:30]
    np.save(tmp_path / "mine_teY.npy", np.eye(2, dtype="int64")[right])
    classifier.save_to_preset(tmp_path / "model", tokenizer=tiny.grey_palette())
    for images, accuracy in ((None, 120 / 150), (60, 30 / 60)):
        found = evaluate(tmp_path / "model", dataset, images=images)
        assert found["classes"]["accuracy"] == pytest.approx(accuracy)
    # Of a file alone nothing says which labels are its own.
    path = f"npy:{tmp_path / 'mine_teX.npy'}"
    assert evaluate(tmp_path / "model", path)["classes"] is None


@pytest.mark.parametrize("classes", [3, 20])
def test_classes_of_another_dataset_are_not_scored(
    classes, evaluate, tmp_path, capsys
):
    classifier = igpt_keras.IGPTClassifier(tiny.model(), classes)
    classifier.save_to_preset(tmp_path / "model", tokenizer=tiny.grey_palette())
    metrics = evaluate(tmp_path / "model", "digits", images=30)
    assert metrics["classes"] is None
    assert metrics["all_images"]["images"] == 30
    printed = capsys.readouterr().out
    assert f"the head knows {classes}, and the images have 10" in printed


def test_surprise(evaluate, tmp_path):
    """A picture's tokens cost its loss; they are drawn beside it."""
    preset = tiny.save_preset(tmp_path / "preset")
    token_ids = tiny.token_ids()
    nats = igpt_keras.evaluation.token_surprise(tiny.model(), token_ids)
    logits, _ = reference.forward(tiny.numpy_weights(tiny.model()), token_ids)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, token_ids[..., None], axis=-1)
    expected = np.log(np.exp(shifted).sum(axis=-1)) - chosen[..., 0]
    np.testing.assert_allclose(nats, expected, atol=1e-4)
    path = tmp_path / "surprise.png"
    evaluate(preset, "digits", images=3, surprise=path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    # Heat beside greys.
    assert (pixels.max(axis=1) - pixels.min(axis=1)).max() > 100
    bert = tiny.save_preset(tmp_path / "bert", "bert")
    with pytest.raises(ValueError, match="of an autoregressive model"):
        evaluate(bert, "digits", images=3, surprise=path)
