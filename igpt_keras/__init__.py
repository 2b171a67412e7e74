"""Image GPT ("Generative Pretraining from Pixels", Chen et al. 2020) on Keras.

Shapes in all docstrings: `B` images in a batch, `N` tokens per image,
`D` hidden_dim, `H` heads, `K` head width, `V` vocabulary_size, `L` layers,
`M` images in a probe set, `R` input resolution.
"""

from igpt_keras import codec
from igpt_keras import data
from igpt_keras import evaluation
from igpt_keras import generation
from igpt_keras import presets
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import training
from igpt_keras.callbacks.codebook_log import CodebookLog
from igpt_keras.callbacks.curve_log import CurveLog
from igpt_keras.callbacks.linear_probe import LinearProbe
from igpt_keras.callbacks.picture_log import PictureLog
from igpt_keras.callbacks.progress import Progress
from igpt_keras.callbacks.training_checkpoint import TrainingCheckpoint
from igpt_keras.conversion.load_huggingface import load_huggingface
from igpt_keras.conversion.load_huggingface import load_huggingface_palette
from igpt_keras.conversion.load_openai_checkpoint import load_openai_checkpoint
from igpt_keras.conversion.open_weights import check_tokenizer
from igpt_keras.conversion.open_weights import open_weights
from igpt_keras.conversion.save_huggingface import save_huggingface
from igpt_keras.conversion.save_openai_checkpoint import save_openai_checkpoint
from igpt_keras.conversion.starting_weights import open_starting_weights
from igpt_keras.generation.complete import complete
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.models.preset_writer import PresetWriter
from igpt_keras.models.sampling import sample
from igpt_keras.probes.concatenation import concatenate_layers
from igpt_keras.probes.features import extract_features
from igpt_keras.probes.logistic_regression import fit_logistic_regression
from igpt_keras.probes.low_data import low_data_accuracy
from igpt_keras.tokenizers.codebook_usage import CodebookUsage
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer
from igpt_keras.tokenizers.vq_vae import VQVAE
from igpt_keras.tokenizers.vq_vae_tokenizer import VQVAETokenizer
from igpt_keras.version import __version__
