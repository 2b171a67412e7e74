import keras

from igpt_keras import presets
from igpt_keras.models.igpt import IGPT


def build_igpt(
    preset,
    vocabulary_size,
    model_resolution,
    objective="autoregressive",
    head="zeros",
    depth_scaled_mlp=False,
    dropout=0.0,
    order="raster",
    attention=None,
    remat=False,
    dtype=None,
    seed=0,
    weights=None,
    num_layers=None,
    num_heads=None,
    hidden_dim=None,
):
    """A network of a run's shape, always with the same fresh weights.

    Args:
        preset: key of `presets.IGPT`.
        vocabulary_size: int. Tokens.
        model_resolution: int. Side of the grid of tokens.
        objective: `"autoregressive"` or `"bert"`.
        head: see `IGPT`, as the next six.
        depth_scaled_mlp: bool.
        dropout: float.
        order: str.
        attention: str.
        remat: bool.
        dtype: dtype policy.
        seed: int. Of the weights. Defaults to 0.
        weights: list of arrays of `open_start`, in place of these. Defaults to
            none.
        num_layers: int. In place of the preset's, as the next two; see
            `presets.architecture`.
        num_heads: int.
        hidden_dim: int.

    Returns:
        An `IGPT`.
    """
    keras.utils.set_random_seed(seed)
    size = presets.architecture(
        preset,
        vocabulary_size,
        model_resolution,
        objective,
        num_layers,
        num_heads,
        hidden_dim,
    )
    model = IGPT(
        **size,
        head=head,
        depth_scaled_mlp=depth_scaled_mlp,
        dropout=dropout,
        order=order,
        attention=attention,
        remat=remat,
        dtype=dtype,
    )
    if weights is not None:
        model.set_weights(weights)
    return model
