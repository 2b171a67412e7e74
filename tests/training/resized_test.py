import keras
import numpy as np
import pytest
import tiny

import igpt_keras
from igpt_keras import training
from igpt_keras.models.resize_positions import resize_positions


def test_positions_are_resized_and_all_else_is_kept():
    model = tiny.model(order="columns")
    found = training.rebuilt(model, sequence_length=36)
    assert found.sequence_length == 36 and found.order == "columns"
    for one, two in zip(model.weights, found.weights, strict=True):
        array = tiny.array(one)
        if one is model.embedding.position_embedding:
            array = resize_positions(array, 36)
        np.testing.assert_array_equal(tiny.array(two), array)


def test_a_class_head_is_kept():
    classifier = igpt_keras.IGPTClassifier(tiny.model(), 5, head_layer=2)
    kernel = classifier.class_head.kernel
    kernel.assign(keras.random.normal(kernel.shape))
    found = training.build_classifier(classifier, 5, sequence_length=4)
    assert found.igpt.sequence_length == 4 and found.head_layer == 2
    np.testing.assert_array_equal(
        tiny.array(found.class_head.kernel), tiny.array(kernel)
    )


@pytest.mark.parametrize("side", [None, 4])
@pytest.mark.parametrize("interpolate", [False, True])
def test_a_model_of_that_size_has_its_own_positions(side, interpolate):
    model, palette = tiny.model(), tiny.grey_palette()
    given = (model, palette, "there", side, interpolate)
    assert training.finetuning_positions(*given) == 16
    for one, two in zip(
        model.weights, training.rebuilt(model).weights, strict=True
    ):
        np.testing.assert_array_equal(tiny.array(two), tiny.array(one))


def test_only_on_request():
    with pytest.raises(ValueError, match="there have positions of 4x4 tokens"):
        training.finetuning_positions(
            tiny.model(), tiny.grey_palette(), "there", 6
        )
    given = (tiny.model(), tiny.grey_palette(), "there", 6, True)
    assert training.finetuning_positions(*given) == 36


def test_a_vq_vae_is_for_images_of_one_size():
    codes = type("", (), {"model_resolution": 4, "input_resolution": 16})
    model = tiny.model()
    assert training.finetuning_positions(model, codes, "there", 16) == 16
    with pytest.raises(ValueError, match="is for images of 16x16"):
        training.finetuning_positions(model, codes, "there", 32, True)
