import copy

import events
import numpy as np
import pytest
import tiny
from tiny import array

import igpt_keras

pytest.importorskip("tensorflow")

PALETTE = np.linspace(-1, 1, 33).reshape(11, 3)


def fit(model, callback, inputs, targets):
    model.compile("adam")
    model.fit(
        inputs,
        targets,
        batch_size=4,
        epochs=2,
        callbacks=[callback],
        verbose=0,
    )


def test_samples_and_completions_in_anybodys_fit(tmp_path):
    tokenizer = igpt_keras.PaletteTokenizer(PALETTE)
    token_ids = tiny.token_ids(batch=8)
    images = array(tokenizer.detokenize(token_ids))
    log = igpt_keras.PictureLog(tmp_path, tokenizer, images, num_samples=5)
    fit(tiny.model(), log, token_ids, token_ids)
    found = events.read(tmp_path / "pictures")
    for name in ("samples", "completions"):
        # Optimizer steps: two batches an epoch.
        assert [step for step, _ in found[name]] == [2, 4]
        for _, value in found[name]:
            assert value[2].startswith(b"\x89PNG")


def test_of_a_classifier_and_copied_after_a_fit(tmp_path):
    """As searches copy callbacks that were used."""
    tokenizer = igpt_keras.PaletteTokenizer(PALETTE)
    token_ids = tiny.token_ids(batch=8)
    images = array(tokenizer.detokenize(token_ids))
    log = igpt_keras.PictureLog(tmp_path, tokenizer, images, num_samples=2)
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 3)
    fit(classifier, log, token_ids, np.arange(8) % 3)
    found = events.read(tmp_path / "pictures")
    assert [step for step, _ in found["samples"]] == [2, 4]
    copied = copy.deepcopy(log)
    assert copied.num_samples == 2
    np.testing.assert_array_equal(copied.images, images[:4])


def test_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images is empty"):
        igpt_keras.PictureLog(tmp_path, None, np.zeros((0, 4, 4, 3)))


@pytest.mark.parametrize("every, steps", [(2, [4]), (0, [])])
def test_a_period_of_its_own(every, steps, tmp_path, capsys):
    tokenizer = igpt_keras.PaletteTokenizer(PALETTE)
    token_ids = tiny.token_ids(batch=8)
    images = array(tokenizer.detokenize(token_ids))
    log = igpt_keras.PictureLog(
        tmp_path, tokenizer, images, num_samples=2, every=every
    )
    fit(tiny.model(), log, token_ids, token_ids)
    found = events.read(tmp_path / "pictures")
    assert [step for step, _ in found.get("samples", [])] == steps
    # It says so, and how long it took.
    lines = [f"Sampling pictures after step {step}." for step in steps]
    assert capsys.readouterr().out.split("\n") == [*lines, ""]
    assert (log.seconds > 0) == bool(steps)


@pytest.mark.large
def test_its_line_does_not_follow_the_progress_bar(tmp_path, capsys):
    """Nor is there an empty one behind a probe's lines."""
    tokenizer = igpt_keras.PaletteTokenizer(PALETTE)
    token_ids = tiny.token_ids(batch=24)
    labels = np.arange(24) % 3
    images = array(tokenizer.detokenize(token_ids))
    model = tiny.model()
    model.compile("adam")
    model.fit(
        token_ids,
        token_ids,
        callbacks=[
            igpt_keras.LinearProbe(*[[(token_ids, labels)]] * 2, layers=1),
            igpt_keras.PictureLog(tmp_path, tokenizer, images, num_samples=2),
        ],
        verbose=1,
    )
    lines = capsys.readouterr().out.replace("\b", "").split("\n")
    (at,) = [i for i, line in enumerate(lines) if "Sampling" in line]
    assert lines[at] == "Sampling pictures after step 1."
    assert lines[at - 1].strip()


def test_bert_has_no_order_to_sample_in(tmp_path):
    token_ids, mask = tiny.token_ids(batch=8), tiny.mask(batch=8)
    log = igpt_keras.PictureLog(tmp_path, None, np.zeros((1, 4, 4, 3)))
    inputs = {"token_ids": token_ids, "mask": mask}
    fit(tiny.model("bert"), log, inputs, token_ids)
    assert events.read(tmp_path / "pictures") == {}
