import keras
import numpy as np
from keras import ops

from igpt_keras.backend import current_strategy
from igpt_keras.probes.grid_adam import GridAdam
from igpt_keras.probes.probe_grid import ProbeGrid

# Ours: after 8 epochs of 3,000 images of CIFAR-10 the first three were alike,
# and less was worse.
ATTENTIVE_LEARNING_RATES = (0.1, 0.03, 0.01, 0.003, 0.001)


class AttentiveProbe(ProbeGrid):
    """Classifiers of all tokens' features, pooled by a learned query.

    The attentive probe of AIM (El-Nouby et al. 2024, "Scalable Pre-training of
    Large Autoregressive Image Models", "Downstream adaptation" in section 3)
    and of its released code: each unit is normalised by batch norm without a
    gain; in each of `H` heads of width `K` one learned query attends to all
    positions with weights `softmax(q_h . W_h^k x_i / sqrt(K))`; the weighted
    means of `W_h^v x_i` are joined and classified linearly. What a network
    knows of an image need not be in the plain mean over positions, which is all
    that a linear probe sees.

    As in `ProbeGrid` probes of several layers and learning rates are trained
    at once, each as if alone, on features that are made batch by batch and
    never kept; the network's weights are frozen, its dropout is off. They are
    trained by Adam with a cosine decay to zero, on one device.

    Args:
        model: an `IGPT`, or an `IGPTClassifier`, whose `IGPT` it is of.
        num_classes: int. Number of classes, `C`.
        layers: sequence of int in [0, L], see `extract_features`, `P` of them.
            Defaults to all.
        learning_rates: sequence of float > 0, `R` of them, the peaks. Defaults
            to 0.1, 0.03, 0.01, 0.003 and 0.001.
        num_heads: int that divides `D`. Defaults to the model's.
        seed: int. Of the probes' initial weights, which all rates and layers
            share. Defaults to 0.

    Call arguments:
        inputs: what `model` takes.
        training: bool. Whether features are normalised by their own batch.
            Defaults to `False`.

    Returns:
        Logits, float32 `(B, R, P, C)`.

    Raises:
        ValueError: for layers that there are not, for rates that are none, for
            heads that do not divide the width, and on several replicas.

    Example:

        probe = AttentiveProbe(model, num_classes=10, layers=[10, 12, 14])
        probe.compile(steps=10_000)
        probe.fit(train, steps_per_epoch=1000, epochs=10)
        probe.evaluate(validation)
        probe.accuracies  # (R, P)
    """

    def __init__(
        self,
        model,
        num_classes,
        layers=None,
        learning_rates=ATTENTIVE_LEARNING_RATES,
        num_heads=None,
        seed=0,
    ):
        _check_one_device()
        super().__init__(model, num_classes, layers, learning_rates)
        model = getattr(model, "igpt", model)
        width = model.hidden_dim
        if num_heads is None:
            num_heads = getattr(model, "num_heads", None)
        if num_heads is None:
            raise ValueError(
                f"This {type(model).__name__} has no `num_heads`. Pass "
                "num_heads, a number that divides its width."
            )
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide the features' width "
                f"{width}. Choose one that does."
            )
        # Rates are the optimizer's.
        self.loss_weights = np.ones_like(self.learning_rates)
        grid = len(self.learning_rates), len(self.layer_numbers)
        head = num_heads, width // num_heads

        def add(name, shape, initializer):
            def same(shape, dtype=None):
                one = initializer(shape[2:], dtype)
                return ops.broadcast_to(one, shape)

            return self.add_weight(
                shape=(*grid, *shape), initializer=same, name=name
            )

        initializers = keras.initializers
        # Those of the released code, whose linear layers are PyTorch's.
        limit = width**-0.5
        uniform = [
            initializers.RandomUniform(-limit, limit, seed=(3 * seed + i))
            for i in range(2)
        ]
        normal = initializers.RandomNormal(stddev=0.02, seed=3 * seed + 2)
        self.query = add("query", head, normal)
        self.key_kernel = add("key", (width, *head), uniform[0])
        self.value_kernel = add("value", (width, *head), uniform[1])
        self.normalization = keras.layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-6,
            center=False,
            scale=False,
            dtype="float32",
        )
        self.normalization.build((None, None, grid[1] * width))

    def grid_optimizer(self, schedule):
        return GridAdam(self.learning_rates, schedule)

    def call(self, inputs, training=False):
        layers = self.feature_model.token_features(self._whole(inputs))
        tokens = [layers[layer] for layer in self.layer_numbers]
        x = ops.stop_gradient(ops.stack(tokens, axis=2))  # (B, N, P, D)
        shape = x.shape[1:]
        x = ops.reshape(x, (-1, shape[0], shape[1] * shape[2]))
        x = self.normalization(x, training=training)
        x = ops.reshape(x, (-1, *shape))
        # The query and the mean go through the projections in place of the
        # tokens: the same numbers, without a key and a value of each token.
        scale = self.query.shape[-1] ** -0.5
        query = ops.einsum("rpdhk,rphk->rpdh", self.key_kernel, self.query)
        scores = ops.einsum("bnpd,rpdh->brphn", x, query * scale)
        weights = ops.softmax(scores, axis=-1)
        pooled = ops.einsum("brphn,bnpd->brphd", weights, x)
        values = ops.einsum("brphd,rpdhk->brphk", pooled, self.value_kernel)
        values = ops.reshape(values, (-1, *self.kernel.shape[:3]))
        logits = ops.einsum("brpd,rpdc->brpc", values, self.kernel)
        return logits + self.bias


def _check_one_device():
    strategy = current_strategy()
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "AttentiveProbe trains on one device, and is made in the scope of "
            f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} "
            "replicas. Make it outside; `ProbeGrid` trains on all."
        )
