import pathlib
import re

from setuptools import find_packages
from setuptools import setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "igpt_keras/version.py").read_text()
).group(1)
TEST = [
    "jax",
    "pytest>=8",
    "pytest-xdist",
    "ruff>=0.6",
    # A test builds the distributions with what is installed, and no network.
    "build",
    "setuptools",
    "wheel",
]

setup(
    name="igpt_keras",
    version=VERSION,
    description="Image GPT (Generative Pretraining from Pixels) on Keras 3",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["igpt_keras", "igpt_keras.*"]),
    # Trained weights, each with its tokenizer and card.
    package_data={"igpt_keras": ["pretrained/*/*"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        # The range coder of igpt_keras.codec.
        "constriction>=0.5",
        # 3.15.1 fixes what a malicious weights file could do.
        "keras>=3.15.1",
        "keras-cv>=0.9",
        "joblib",
        "matplotlib",
        "numpy>=1.26",
        "pillow>=10.1",
        "requests",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        # scikit-learn's own; 1.11 lets a callback end an optimisation.
        "scipy>=1.11",
        "tensorboard>=2.18",
        "tensorflow>=2.19,<2.22",
        "tensorflow-datasets>=4.9.9",
        # tensorflow-datasets 4.9.10 imports it and does not ask for it.
        "importlib_resources",
        "threadpoolctl",
        "tqdm",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.19,<2.22"],
        "jax": ["jax"],
        "huggingface": ["transformers>=5", "torch"],
        "docs": ["jupytext", "mkdocs-material", "mkdocstrings[python]"],
        # What tools/benchmark.py measures beside.
        "benchmark": ["transformers>=5", "torch"],
        "test": TEST,
        "dev": [*TEST, "pre-commit"],
    },
)
