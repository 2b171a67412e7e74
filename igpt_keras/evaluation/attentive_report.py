import sys

from igpt_keras.evaluation.grid_report import grid_report
from igpt_keras.probes.attentive_probe import ATTENTIVE_LEARNING_RATES
from igpt_keras.probes.attentive_probe import AttentiveProbe
from igpt_keras.terminal import verbosity

ATTENTIVE_EPOCHS = 20


def attentive_report(
    model,
    sets,
    layers,
    learning_rates=ATTENTIVE_LEARNING_RATES,
    epochs=ATTENTIVE_EPOCHS,
    batch_size=64,
    seed=0,
    verbose=0,
):
    """Attentive probes of some layers of a model, see `AttentiveProbe`.

    All rates and layers are trained on one pass of the network an epoch, on
    train alone; learning rate and layer are chosen on validation; test chooses
    nothing. The model's weights are frozen from then on.

    Args:
        model: an `IGPT`.
        sets: `ProbeSets`.
        layers: sequence of int, 0 to L.
        learning_rates: sequence of float. Defaults to 0.1, 0.03, 0.01, 0.003
            and 0.001.
        epochs: int. Passes over train. Defaults to 20.
        batch_size: int. Images a step. Defaults to 64.
        seed: int. Of initial weights and of the order. Defaults to 0.
        verbose: 0 or 1. Whether to show progress. Defaults to 0.

    Returns:
        dict of `grid_report`, and `epochs` and `num_heads`.

    Raises:
        ValueError: as `AttentiveProbe`.
    """
    num_images = len(sets.train.labels)
    steps = -(-num_images // batch_size)
    every = (sets.train, sets.validation, sets.test)
    num_classes = 1 + max(int(examples.labels.max()) for examples in every)
    probe = AttentiveProbe(
        model, num_classes, layers, learning_rates, seed=seed
    )
    probe.compile(steps=epochs * steps)
    if verbose:
        names = ", ".join(map(str, probe.layer_numbers))
        sys.stdout.write(f"Training attentive probes of layers {names}.\n")
        sys.stdout.flush()
    images = sets.train.probe_inputs.unbatch()
    probe.fit(
        # Token ids, which are in memory already.
        images.shuffle(num_images, seed=seed).batch(batch_size).repeat(),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=verbosity(verbose),
    )
    report = grid_report(probe, sets.validation, sets.test)
    heads = probe.query.shape[-2]
    return {**report, "epochs": epochs, "num_heads": heads}
