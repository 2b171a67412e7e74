from igpt_keras.probes.centered_kernel_alignment import (
    centered_kernel_alignment,
)
from igpt_keras.probes.check_layers import check_layers
from igpt_keras.probes.features import stream_features


def layer_alignment(model, examples, layers=None):
    """How alike a model's layers are, see `centered_kernel_alignment`.

    Args:
        model: an `IGPT`.
        examples: `EvaluationSet`, whose features are not kept.
        layers: sequence of int, 0 to L. Defaults to all.

    Returns:
        dict of `layers`, `images` (how many) and `alignment`, a list of lists.

    Raises:
        ValueError: as `centered_kernel_alignment`, and for layers that there
            are not.
    """
    layers = check_layers(model, layers)
    batches = stream_features(model, examples.probe_inputs)
    alignment = centered_kernel_alignment(
        features[layers] for features, _ in batches
    )
    return {
        "layers": layers,
        "images": len(examples.labels),
        "alignment": alignment.tolist(),
    }
