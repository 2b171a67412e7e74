import keras
from keras import ops

from igpt_keras.storage.user_path import user_path
from igpt_keras.tokenizers import vq_vae_directory
from igpt_keras.tokenizers.checks import token_ids_shape
from igpt_keras.tokenizers.vq_vae import VQVAE


@keras.saving.register_keras_serializable(package="igpt_keras")
class VQVAETokenizer(keras.layers.Layer):
    """Turns images into the codes of a trained `VQVAE`, and back.

    Sections 3.2 and A.2 of the paper: images of 96 or 192 pixels become a grid
    of 48x48 tokens. Has the interface of `PaletteTokenizer`.

    Args:
        vq_vae: a trained `VQVAE`.
        **kwargs: Base layer arguments, such as `name`.

    Attributes:
        vocabulary_size: int. Codes, `V`.
        input_resolution: int. Side of the images, `R`.
        model_resolution: int. Side of the grid; `N` is its square.

    Call arguments:
        images: uint8 `(B, R, R, 3)`.

    Returns:
        int32 `(B, N)` token ids in `[0, V)`, row by row.

    Raises:
        ValueError: if `vq_vae` is none, or the images are not of that form.

    Example:
    >>> import numpy as np
    >>> vq_vae = VQVAE(input_resolution=8, model_resolution=4,
    ...     vocabulary_size=16)
    >>> tokenizer = VQVAETokenizer(vq_vae)
    >>> token_ids = tokenizer(np.zeros((2, 8, 8, 3), "uint8"))
    >>> tuple(token_ids.shape)
    (2, 16)
    >>> tuple(tokenizer.detokenize(token_ids).shape)
    (2, 8, 8, 3)
    """

    # One call fills all cores by itself, and much memory.
    is_parallel = True

    def __init__(self, vq_vae, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(vq_vae, VQVAE):
            raise ValueError(
                f"vq_vae must be a VQVAE, received a {type(vq_vae).__name__}. "
                "Open a saved one with `VQVAE.from_preset(directory)`."
            )
        self.vq_vae = vq_vae
        self.vocabulary_size = vq_vae.vocabulary_size
        self.input_resolution = vq_vae.input_resolution
        self.model_resolution = vq_vae.model_resolution
        self.built = True

    def call(self, images):
        token_ids = self.vq_vae.encode(images)
        return ops.reshape(token_ids, (-1, self.model_resolution**2))

    def detokenize(self, token_ids):
        """Images of token ids.

        Args:
            token_ids: int `(B, N)` in `[0, V)`.

        Returns:
            uint8 `(B, R, R, 3)`.

        Raises:
            ValueError: for another shape or dtype, and for ids out of range
                where their values are at hand.
        """
        side = self.model_resolution
        shape = token_ids_shape(token_ids)
        if len(shape) != 2 or shape[1] != side**2:
            raise ValueError(
                f"token_ids must have shape (B, {side**2}), received {shape}."
            )
        return self.vq_vae.decode(ops.reshape(token_ids, (-1, side, side)))

    def compute_output_shape(self, images_shape):
        return (images_shape[0], self.model_resolution**2)

    def compute_output_spec(self, images):
        return keras.KerasTensor(
            self.compute_output_shape(images.shape), "int32"
        )

    @property
    def fingerprint(self):
        """sha256 of sizes and weights: tokens of equal ones mean the same."""
        return vq_vae_directory.fingerprint(self.vq_vae)

    def save_to_preset(self, directory):
        """Writes the VQ-VAE beside a model's preset."""
        vq_vae_directory.write(self.vq_vae, directory)

    def save_copy(self, directory):
        """Writes the VQ-VAE of a run, or of tokens, as `vq_vae` beside them."""
        self.vq_vae.save_to_preset(user_path(directory) / "vq_vae")

    @classmethod
    def from_preset(cls, directory):
        """Opens the VQ-VAE in a preset directory.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        return cls(VQVAE.from_preset(directory))

    def get_config(self):
        return {
            "name": self.name,
            "vq_vae": keras.saving.serialize_keras_object(self.vq_vae),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["vq_vae"] = keras.saving.deserialize_keras_object(
            config["vq_vae"]
        )
        return cls(**config)
