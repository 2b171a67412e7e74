import keras
import numpy as np
from keras import ops

from igpt_keras.backend import concrete
from igpt_keras.backend import num_replicas
from igpt_keras.backend import outside_replicas
from igpt_keras.backend import sum_across_replicas
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.layers.vector_quantizer import VectorQuantizer
from igpt_keras.tokenizers import vq_vae_directory
from igpt_keras.tokenizers.autoencoder import decoder_layers
from igpt_keras.tokenizers.autoencoder import encoder_layers
from igpt_keras.tokenizers.checks import check_images
from igpt_keras.tokenizers.checks import check_token_ids
from igpt_keras.tokenizers.checks import token_ids_shape
from igpt_keras.tokenizers.codebook_usage import CodebookUsage
from igpt_keras.tokenizers.pixel_statistics import pixel_statistics
from igpt_keras.tokenizers.vq_vae_data import checked_arguments
from igpt_keras.tokenizers.vq_vae_data import refuse_weights

# Section A.2 of the paper.
_EMBEDDING_DIM = 64
_LEARNING_RATE = 1e-4


@keras.saving.register_keras_serializable(package="igpt_keras")
class VQVAE(keras.Model):
    """Autoencoder of images through a grid of discrete codes.

    Section A.2 of the paper. Encoder: a convolution of 4x4 with stride 2 for
    each halving, one of 3x3, two residual blocks with 32 hidden channels, and
    one of 1x1 to the quantizer; all others have 64 channels. The decoder is its
    mirror image, with transposed convolutions. This is the layout of the VQ-VAE
    that Sonnet has as an example; with one and two halvings a code sees 16x16
    and 34x34 pixels, the paper's numbers, and with one there are 166,531
    weights, under the paper's 200K. With two, for 192 pixels, there are
    297,731: the paper's numbers of 34 pixels and 200K weights do not go
    together with 64 channels, and we keep the receptive field.

    The mean and variance of all pixels, which `fit` measures when it is called
    first, scale the data to variance 1; reconstruction and commitment losses
    are of such data; for `train_on_batch` and `evaluate` of a new model call
    `adapt` first. Train on uint8 images, with labels or without (they are
    ignored). Weights of images are refused: the codebook would not know them.

    Args:
        input_resolution: int. Side of the images, `R`. Defaults to 96.
        model_resolution: int. Side of the grid of codes; `input_resolution`
            is 2, 4, 8, ... times as much. Defaults to 48.
        vocabulary_size: int. Codes, `V`. Defaults to 4096.
        quantizer: layer that takes the encoder's output, a `VectorQuantizer`
            or `FiniteScalarQuantizer` of `vocabulary_size`. Defaults to
            `VectorQuantizer(vocabulary_size, 64)`.
        **kwargs: Base model arguments, such as `name`. `dtype` defaults to
            float32 whatever the global policy.

    Call arguments:
        images: uint8 `(B, R, R, 3)`.
        training: bool. Whether the codebook moves.

    Returns:
        dict of `reconstructions`, float32 `(B, R, R, 3)`, of variance 1,
        `token_ids`, int32 `(B, model_resolution, model_resolution)`, and of
        each image, float32 `(B,)`, `reconstruction_error`, the mean square, and
        `commitment`, the commitment loss.

    Raises:
        ValueError: if an argument or the images are not of that form.

    Example:
    >>> vq_vae = VQVAE(input_resolution=8, model_resolution=4,
    ...     vocabulary_size=16)
    >>> images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3))
    >>> vq_vae.compile()
    >>> history = vq_vae.fit(images.astype("uint8"), verbose=0)
    >>> token_ids = vq_vae.encode(images.astype("uint8"))
    >>> tuple(token_ids.shape)
    (4, 4, 4)
    >>> tuple(vq_vae.decode(token_ids).shape)
    (4, 8, 8, 3)
    """

    def __init__(
        self,
        input_resolution=96,
        model_resolution=48,
        vocabulary_size=4096,
        quantizer=None,
        **kwargs,
    ):
        input_resolution, model_resolution, vocabulary_size = (
            check_positive_ints(
                input_resolution=input_resolution,
                model_resolution=model_resolution,
                vocabulary_size=vocabulary_size,
            )
        )
        halvings = _count_halvings(input_resolution, model_resolution)
        # Whatever the global policy, for the same tokens everywhere.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if quantizer is None:
            quantizer = VectorQuantizer(vocabulary_size, _EMBEDDING_DIM)
        if not isinstance(quantizer, keras.layers.Layer):
            raise ValueError(
                "quantizer must be a layer, a VectorQuantizer for example, "
                f"received {quantizer!r}."
            )
        if quantizer.vocabulary_size != vocabulary_size:
            raise ValueError(
                f"The quantizer has {quantizer.vocabulary_size} codes and "
                f"vocabulary_size={vocabulary_size}. Pass the same number."
            )
        self.input_resolution = input_resolution
        self.model_resolution = model_resolution
        self.vocabulary_size = vocabulary_size
        self.quantizer = quantizer
        images = (input_resolution, input_resolution, 3)
        grid = (model_resolution, model_resolution, quantizer.embedding_dim)
        self.encoder = keras.Sequential(
            [
                keras.Input(images),
                *encoder_layers(halvings, grid[-1], self.dtype_policy),
            ],
            name="encoder",
        )
        self.decoder = keras.Sequential(
            [keras.Input(grid), *decoder_layers(halvings, self.dtype_policy)],
            name="decoder",
        )
        if not quantizer.built:
            quantizer.build((None, *grid))
        self.data_mean = self._measurement("data_mean", "zeros")
        self.data_variance = self._measurement("data_variance", "ones")
        self.images_measured = self._measurement("images_measured", "zeros")
        self.error_metric = keras.metrics.Mean(name="reconstruction_error")
        self.commitment_metric = keras.metrics.Mean(name="commitment")
        self.usage_metric = CodebookUsage(vocabulary_size)
        self.built = True

    def _measurement(self, name, initializer):
        return self.add_weight(
            name=name,
            initializer=initializer,
            trainable=False,
            autocast=False,
        )

    def compile(self, optimizer=None, loss="mean_squared_error", **kwargs):
        """`keras.Model.compile` with the paper's settings.

        Args:
            optimizer: defaults to Adam with learning rate 1e-4.
            loss: of the reconstructions, in units of the data's standard
                deviation. Defaults to L2; `"mean_absolute_error"` is L1.
            **kwargs: Base arguments, without metrics: `fit` reports the
                reconstruction error (the share of the data's variance that is
                lost), the commitment loss, and perplexity and number of the
                codes in use.

        Raises:
            ValueError: for `metrics`.
        """
        if kwargs.get("metrics") or kwargs.get("weighted_metrics"):
            raise ValueError(
                "metrics are the VQ-VAE's own. Measure others on "
                "`decode(encode(images))`."
            )
        if optimizer is None:
            optimizer = keras.optimizers.Adam(_LEARNING_RATE)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config):
        # Keras skips this for models that override `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def adapt(self, images):
        """Measures the mean and variance of all pixel values.

        Args:
            images: uint8 array `(M, R, R, 3)`, or batches of them, with labels
                or without, of which the first 2,048 images are taken.

        Raises:
            ValueError: if there are none, they are all one value, or their
                range is [0, 1].
        """
        count, mean, variance = pixel_statistics(images, self.check_images)
        self.data_mean.assign(mean / 127.5 - 1)
        self.data_variance.assign(variance / 127.5**2)
        self.images_measured.assign(count)

    def fit(self, x=None, *args, **kwargs):
        arguments = checked_arguments(self, super().fit, x, args, kwargs)
        if not self._measured():
            self.adapt(arguments["x"])
        return super().fit(**arguments)

    def evaluate(self, x=None, *args, **kwargs):
        self._check_measured()
        arguments = checked_arguments(self, super().evaluate, x, args, kwargs)
        return super().evaluate(**arguments)

    def predict(self, x, *args, **kwargs):
        arguments = checked_arguments(self, super().predict, x, args, kwargs)
        return super().predict(**arguments)

    def train_on_batch(self, x, *args, **kwargs):
        self._check_measured()
        if num_replicas(self) > 1:
            raise ValueError(
                "train_on_batch gives every replica the whole batch, and the "
                "codebook would count its vectors once for each. Use `fit`."
            )
        method = super().train_on_batch
        arguments = checked_arguments(self, method, x, args, kwargs)
        return super().train_on_batch(**arguments)

    def test_on_batch(self, x, *args, **kwargs):
        self._check_measured()
        method = super().test_on_batch
        arguments = checked_arguments(self, method, x, args, kwargs)
        return super().test_on_batch(**arguments)

    def _check_measured(self):
        if not self._measured():
            raise ValueError(
                "The losses are of data of variance 1, and no images were "
                "measured. Call `adapt(images)` first."
            )

    def _measured(self):
        return ops.convert_to_numpy(self.images_measured) > 0

    def call(self, images, training=False):
        # Keras first traces the mean of the replicas' images: floats.
        if not outside_replicas():
            self.check_images(images)
        pixels = self.normalize(images)
        encodings = _convolve(self.encoder, pixels, training)
        quantized, token_ids = self.quantizer(encodings, training=training)
        reconstructions = _convolve(self.decoder, quantized, training)
        error = ops.mean(ops.square(reconstructions - pixels), axis=(1, 2, 3))
        return {
            "reconstructions": reconstructions,
            "token_ids": token_ids,
            "reconstruction_error": error,
            "commitment": self.quantizer.commitment(encodings, quantized),
        }

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if sample_weight is not None:
            refuse_weights()
        loss = super().compute_loss(
            x=x,
            y=self.normalize(x),
            y_pred=y_pred["reconstructions"],
            training=training,
        )
        commitment = y_pred["commitment"]
        count = ops.cast(ops.shape(commitment)[0], "float32")
        mean = ops.sum(commitment) / ops.maximum(count, 1.0)
        # As Keras scales the other loss, for the sum over replicas.
        replicas = num_replicas(self)
        loss = loss + mean / replicas
        if replicas == 1:
            return loss
        # Keras averages over replicas, however many images each has. The
        # gradient alone is scaled: the value is weighted where it is logged.
        share = replicas * count / sum_across_replicas(count)
        return share * loss - ops.stop_gradient((share - 1) * loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.error_metric.update_state(y_pred["reconstruction_error"])
        self.commitment_metric.update_state(y_pred["commitment"])
        self.usage_metric.update_state(y_pred["token_ids"])
        return self.get_metrics_result()

    def normalize(self, images):
        """Pixels of mean 0 and variance 1, float32."""
        pixels = ops.cast(images, "float32") / 127.5 - 1
        return (pixels - self.data_mean) / ops.sqrt(self.data_variance)

    def encode(self, images):
        """Codes of images, uint8 `(B, R, R, 3)`.

        Returns:
            int32 `(B, model_resolution, model_resolution)`.
        """
        self.check_images(images)
        encodings = _convolve(self.encoder, self.normalize(images))
        return self.quantizer(encodings, training=False)[1]

    def decode(self, token_ids):
        """Images of codes, int `(B, model_resolution, model_resolution)`.

        Returns:
            uint8 `(B, R, R, 3)`.

        Raises:
            ValueError: for another shape or dtype, and for ids out of range
                where their values are at hand.
        """
        grid = (self.model_resolution, self.model_resolution)
        shape = token_ids_shape(token_ids)
        if len(shape) != 3 or shape[1:] != grid:
            raise ValueError(
                f"token_ids must have shape (B, {grid[0]}, {grid[1]}), "
                f"received {shape}."
            )
        check_token_ids(token_ids, self.vocabulary_size)
        codes = self.quantizer.lookup(ops.cast(token_ids, "int32"))
        pixels = _convolve(self.decoder, codes)
        pixels = pixels * ops.sqrt(self.data_variance) + self.data_mean
        pixels = ops.clip(ops.round(127.5 * (pixels + 1)), 0, 255)
        return ops.cast(pixels, "uint8")

    def check_images(self, images):
        """Raises a `ValueError` unless images are uint8 `(B, R, R, 3)`."""
        if "float" in str(getattr(images, "dtype", "")):
            values = concrete(images)
            if values is not None and not np.isfinite(values).all():
                raise ValueError(
                    "images hold NaN or infinity, expected uint8, 0 to 255. "
                    "Look at where they come from."
                )
        check_images(images)
        side = self.input_resolution
        if images.shape[1] != side:
            raise ValueError(
                f"images are {images.shape[1]}x{images.shape[2]} and this "
                f"VQ-VAE takes {side}x{side}. Resize them first."
            )

    def save_to_preset(self, directory):
        """Writes the model to a directory, whole or not at all.

        Args:
            directory: path; an older preset there is replaced.

        Raises:
            ValueError: if the directory holds something else, or a weight is
                not finite.
        """
        vq_vae_directory.save(self, directory)

    @classmethod
    def from_preset(cls, directory):
        """Opens what `save_to_preset` wrote.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        return vq_vae_directory.load(cls, directory)

    def get_config(self):
        return {
            "name": self.name,
            "input_resolution": self.input_resolution,
            "model_resolution": self.model_resolution,
            "vocabulary_size": self.vocabulary_size,
            "quantizer": keras.saving.serialize_keras_object(self.quantizer),
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in ("quantizer", "dtype"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        return cls(**config)


def _convolve(network, inputs, training=False):
    """Output in float32, of no images too, which TensorFlow cannot convolve.

    A replica's share of the last batch may be none.
    """
    count = ops.shape(inputs)[0]
    if isinstance(count, int) and count > 0:
        return ops.cast(network(inputs, training=training), "float32")
    extra = ops.cast(ops.equal(count, 0), "int32")
    padded = ops.pad(inputs, [[0, extra], [0, 0], [0, 0], [0, 0]])
    outputs = network(padded, training=training)
    return ops.cast(outputs, "float32")[:count]


def _count_halvings(input_resolution, model_resolution):
    ratio, rest = divmod(input_resolution, model_resolution)
    if rest or ratio < 2 or ratio & (ratio - 1):
        raise ValueError(
            f"input_resolution={input_resolution} is not 2, 4, 8, ... times "
            f"model_resolution={model_resolution}: the encoder halves images. "
            "The paper has 96 to 48 and 192 to 48."
        )
    return ratio.bit_length() - 1
