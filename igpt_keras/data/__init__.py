"""Images as tf.data. Needs TensorFlow, and TFDS for its datasets, when used."""

from igpt_keras.data.altered_images import altered_images
from igpt_keras.data.draw_prefixes import draw_prefixes
from igpt_keras.data.examples import load_examples
from igpt_keras.data.image_dataset import image_dataset
from igpt_keras.data.mask_tokens import mask_tokens
from igpt_keras.data.mixture import Mixture
from igpt_keras.data.mixture_sources import mixture_sources
from igpt_keras.data.open_pictures import open_pictures
from igpt_keras.data.open_pictures import picture_files
from igpt_keras.data.open_split import DATASETS
from igpt_keras.data.open_split import SPLITS
from igpt_keras.data.open_split import open_split
from igpt_keras.data.open_split import open_splits
from igpt_keras.data.open_split import open_splits_for
from igpt_keras.data.probe_sets import OWN
from igpt_keras.data.probe_sets import ProbeSets
from igpt_keras.data.probe_sets import evaluation_sets
from igpt_keras.data.probe_sets import open_probe_splits
from igpt_keras.data.probe_sets import run_sets
from igpt_keras.data.sources.openai_tokens import load_token_file
from igpt_keras.data.split import Split
from igpt_keras.data.token_cache_writer import write_token_cache
from igpt_keras.data.token_sets import TokenSets
from igpt_keras.data.token_sets import tokenize
