"""Makes `tests/conversion/huggingface_tiny` with Hugging Face transformers.

    pip install -e ".[huggingface]"
    python tools/make_huggingface_fixture.py

A tiny model that transformers saved, and what transformers computes with it,
for the tests to compare with where transformers is not installed.
"""

import pathlib

import numpy as np
import torch
import transformers
from absl import app

DIRECTORY = (
    pathlib.Path(__file__).parent.parent / "tests/conversion/huggingface_tiny"
)
VOCABULARY = 11


def main(argv):
    del argv
    torch.manual_seed(0)
    # Three heads of width five: a transposed head axis cannot go unnoticed.
    config = transformers.ImageGPTConfig(
        vocab_size=VOCABULARY + 1,
        n_positions=16,
        n_embd=15,
        n_layer=3,
        n_head=3,
    )
    model = transformers.ImageGPTForCausalImageModeling(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("bias"):
                noise = 0.3 * torch.randn_like(parameter)
                parameter.copy_(noise + (1 if ".ln_" in name else 0))
    model.save_pretrained(DIRECTORY)
    (DIRECTORY / "generation_config.json").unlink()

    generator = np.random.default_rng(0)
    palette = generator.uniform(-1, 1, (VOCABULARY, 3)).astype("float32")
    processor = transformers.ImageGPTImageProcessorPil(
        clusters=palette, size={"height": 4, "width": 4}
    )
    processor.save_pretrained(DIRECTORY)
    images = generator.integers(0, 256, (5, 4, 4, 3), "uint8")
    encoded = processor(list(images), input_data_format="channels_last")
    token_ids = np.asarray(encoded["input_ids"])

    start = np.full((len(token_ids), 1), VOCABULARY)
    prefixed = np.concatenate([start, token_ids[:, :-1]], axis=1)
    with torch.no_grad():
        logits = model(torch.tensor(prefixed)).logits.numpy()
    np.savez(
        DIRECTORY / "expected.npz",
        images=images,
        token_ids=token_ids.astype("int32"),
        logits=logits,
    )
    print(f"Wrote {DIRECTORY} with transformers {transformers.__version__}.")


if __name__ == "__main__":
    app.run(main)
