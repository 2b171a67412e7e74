# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First run
#
# A small Image GPT learns handwritten digits of 8x8 pixels, a linear probe of
# every layer says what it learned to see, and it completes digits of which it
# is given the upper half. `jupytext --to ipynb docs/first_run.py` makes a
# notebook of this text.

# %%
import keras
import matplotlib.pyplot as plt
from PIL import Image

import igpt_keras

epochs = 15  # of 21 steps
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Digits as tokens
#
# Each pixel becomes the nearest of 17 greys. The model never sees test images.

# %%
train = igpt_keras.data.load_examples("digits", "train", input_resolution=8)
validation = igpt_keras.data.load_examples(
    "digits", "validation", input_resolution=8
)
test = igpt_keras.data.load_examples("digits", "test", input_resolution=8)
tokenizer = igpt_keras.PaletteTokenizer.fit(train.images, vocabulary_size=17)
token_ids, validation_ids = (
    keras.ops.convert_to_numpy(tokenizer(examples.images))
    for examples in (train, validation)
)
Image.fromarray(
    igpt_keras.reports.enlarge(igpt_keras.reports.tile(train.images[:16], 8))
)

# %% [markdown]
# ## Pretraining
#
# Tokens are inputs and targets: the model shifts them by itself. The labels are
# for the probe alone, which fits a classifier on each layer after every fifth
# epoch and changes nothing of the training.

# %%
model = igpt_keras.IGPT(
    vocabulary_size=17,
    sequence_length=64,
    num_layers=4,
    num_heads=4,
    hidden_dim=32,
)
model.compile(keras.optimizers.Adam(3e-3, beta_2=0.95))
probe = igpt_keras.LinearProbe(
    [(token_ids, train.labels)],
    [(validation_ids, validation.labels)],
    name="digits",
    every=5,
)
history = model.fit(
    token_ids,
    batch_size=64,
    epochs=epochs,
    validation_data=(validation_ids, validation_ids),
    callbacks=[probe],
    verbose=2,
)

# %% [markdown]
# ## The curves
#
# On the left nats per token, on the right the accuracy of the probe against the
# layer, a line a probe.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for name in ("loss", "val_loss"):
    left.plot(history.history[name], label=name)
left.set(xlabel="epoch", ylabel="nats per token")
left.legend()
for record in probe.history:
    right.plot(
        record["layers"], record["accuracy"], label=f"step {record['step']}"
    )
right.set(xlabel="layer", ylabel="accuracy on validation")
right.legend()

# %% [markdown]
# ## Half a digit, completed
#
# What is given, four completions, of which none was chosen, and the original,
# as the tokenizer shows it.

# %%
originals = tokenizer.detokenize(tokenizer(test.images[:4]))
originals = keras.ops.convert_to_numpy(originals)
completions = igpt_keras.complete(model, tokenizer, test.images[:4], keep="top")
rows = igpt_keras.reports.completion_rows(originals, completions)
completed = Image.fromarray(
    igpt_keras.reports.enlarge(igpt_keras.reports.tile(rows, 6))
)
completed
