"""The closing lines of compressing tokens."""

import math

from igpt_keras.reports.tables import table


def compression_summary(nats, tokens, sizes):
    """A row for the model's loss and for each codec, in bits and bytes.

    Args:
        nats: float. The model's loss, summed over all tokens.
        tokens: int. How many these are.
        sizes: dict of bytes by name of the codec, the model's own first.
    """
    bits = nats / math.log(2)
    rows = [
        ["", "bits per token", "bytes"],
        ["the model's nats / ln 2", f"{bits / tokens:.4f}", f"{bits / 8:,.1f}"],
    ]
    for name, size in sizes.items():
        rows.append([name, f"{8 * size / tokens:.4f}", f"{size:,}"])
    return table(rows)
