"""A plain GPT in PyTorch, of the shape of an `IGPT`, to measure beside.

What one would write there today: fused attention, one product for queries,
keys and values, no biases, `torch.compile` and fused Adam.
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-5)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):  # (B, N, D)
        projected = self.project(self.attention_norm(x))
        projected = projected.unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (B, H, N, K)
        attended = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True
        )
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        hidden = self.up(self.mlp_norm(x))
        return x + self.down(hidden * torch.sigmoid(1.702 * hidden))


class GPT(nn.Module):
    def __init__(self, colours, tokens, layers, heads, width):
        super().__init__()
        self.token = nn.Embedding(colours + 1, width)
        self.position = nn.Parameter(0.01 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(
            *[Block(width, heads) for _ in range(layers)]
        )
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, colours, bias=False)

    def forward(self, token_ids):
        """Logits of token ids behind a start token, which is the last id."""
        x = self.token(token_ids) + self.position
        return self.head(self.norm(self.blocks(x)))
