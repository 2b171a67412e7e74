import numpy as np
import pytest
import reference
import tiny
from tiny import array

import igpt_keras
from igpt_keras.evaluation import class_scores

LABELS = np.arange(30) % 3


def classifier(objective="autoregressive"):
    built = igpt_keras.IGPTClassifier(tiny.model(objective), 3)
    kernel = np.random.default_rng(4).normal(size=(15, 3))
    built.class_head.kernel.assign(kernel)
    return built


@pytest.mark.parametrize("batch_size", [7, 64])
def test_scores_of_all_images(batch_size):
    model, token_ids = classifier(), tiny.token_ids(30)
    found = class_scores(model, token_ids, LABELS, batch_size=batch_size)
    logits = array(model(token_ids)["class_logits"]).astype("float64")
    accuracy = (logits.argmax(axis=1) == LABELS).mean()
    assert found["accuracy"] == accuracy
    error = np.sqrt(accuracy * (1 - accuracy) / 30)
    np.testing.assert_allclose(found["standard_error"], error)
    nats = reference.nats(logits, LABELS).mean()
    np.testing.assert_allclose(found["class_nats"], nats, rtol=1e-5)
    assert found["images"] == 30 and found["masks"] is None


def test_masks_of_bert():
    model, token_ids = classifier("bert"), tiny.token_ids(30)
    arguments = {"num_masks": 4, "mask_rate": 0.5, "seed": 3}
    found = class_scores(model, token_ids, LABELS, batch_size=7, **arguments)
    again = class_scores(model, token_ids, LABELS, batch_size=30, **arguments)
    assert found["masks"] == again["masks"]
    masks = found["masks"]
    assert masks["num_masks"] == 4 and masks["one_mask_deviation"] > 0
    nothing = np.zeros(token_ids.shape, "bool")
    unmasked = model({"token_ids": token_ids, "mask": nothing})["class_logits"]
    right = (array(unmasked).argmax(axis=1) == LABELS).mean()
    assert masks["no_mask_accuracy"] == right
    # Nothing hidden by any mask: the ensemble is what one mask is.
    masks = class_scores(model, token_ids, LABELS, mask_rate=0.0)["masks"]
    assert masks["one_mask_deviation"] == 0 and masks["num_masks"] == 5
    assert masks["ensemble_accuracy"] == right


def test_refuses_labels_of_other_classes():
    with pytest.raises(ValueError, match="classifies 3 classes"):
        class_scores(classifier(), tiny.token_ids(30), LABELS + 1)
    with pytest.raises(ValueError, match=r"must have shape \(30,\)"):
        class_scores(classifier(), tiny.token_ids(30), LABELS[:9])
