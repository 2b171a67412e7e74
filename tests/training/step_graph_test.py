"""How much the graph of a training step holds: counted, not timed."""

import math

import numpy as np
import pytest

import igpt_keras
from igpt_keras.layers.blocked_attention import block_size
from igpt_keras.training.train_step import train_step

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.compiled

IMAGES, HEADS, LENGTH, LAYERS = 3, 2, 256, 2
BLOCK = block_size(LENGTH)


def trace(objective):
    """A step, its batches, and the operations of its graph in order."""
    model = igpt_keras.IGPT(5, LENGTH, LAYERS, HEADS, 8, objective=objective)
    model.compile()
    token_ids = np.zeros((IMAGES, LENGTH), "int32")
    batch = (token_ids, token_ids)
    if objective == "bert":
        mask = np.ones((IMAGES, LENGTH), "int32")
        batch = ({"token_ids": token_ids, "mask": mask}, token_ids)
    model._symbolic_build(data_batch=batch)
    step = train_step(model)
    data = tf.data.Dataset.from_tensors(batch).repeat()
    batches = step.iterate(lambda start: data, 0)
    found = step._call.get_concrete_function(batches, tf.constant(0.0))
    return step, batches, found.graph.get_operations()


def ancestors(operation):
    """All operations that one waits for."""
    seen, todo = set(), [operation]
    while todo:
        place = todo.pop()
        before = [x.op for x in place.inputs] + list(place.control_inputs)
        todo += [op for op in before if op not in seen]
        seen.update(before)
    return seen


@pytest.mark.parametrize("objective", ["autoregressive", "bert"])
def test_scores_are_there_a_block_at_a_time(objective):
    step, batches, operations = trace(objective)
    most = max(
        math.prod(tensor.shape)
        for operation in operations
        for tensor in operation.outputs
        if tensor.shape.is_fully_defined()
    )
    assert most == IMAGES * HEADS * BLOCK * LENGTH
    # Forward and again backward, in every layer.
    softmaxes = [op for op in operations if op.type == "Softmax"]
    assert len(softmaxes) == 2 * LAYERS * LENGTH // BLOCK
    for before, after in zip(softmaxes, softmaxes[1:]):
        assert before in ancestors(after)
    # Of products with a batch attention has all: two forward, five backward.
    products = [op for op in operations if op.type == "BatchMatMulV2"]
    assert len(products) == 7 * LAYERS * LENGTH // BLOCK
    keys = [op.outputs[0].shape[-1] for op in softmaxes]
    seen = LENGTH if objective == "bert" else (LENGTH + BLOCK) // 2
    assert np.mean(keys) == seen


def test_is_traced_once():
    step, batches, _ = trace("autoregressive")
    for _ in range(3):
        step(batches)
    assert step._call.experimental_get_tracing_count() == 1
