"""Images as tf.data. Needs TensorFlow, and TFDS for its datasets, when used."""

from igpt_keras.data.examples import DATASETS
from igpt_keras.data.examples import load_examples
from igpt_keras.data.examples import open_split
from igpt_keras.data.image_dataset import image_dataset
from igpt_keras.data.mask_tokens import mask_tokens
from igpt_keras.data.token_file import load_token_file
