import keras


def batch_loss(model, batch):
    """The loss of a batch in training, which the model's metrics count too.

    Args:
        model: compiled Keras model.
        batch: `(x, y)` or `(x, y, sample_weight)`.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = model(x, training=True)
    loss = model.compute_loss(
        x=x, y=y, y_pred=outputs, sample_weight=weight, training=True
    )
    model.compute_metrics(x, y, outputs, sample_weight=weight)
    return loss
