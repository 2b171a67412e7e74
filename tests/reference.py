"""Image GPT in NumPy, written from the formulas of the released code."""

import numpy as np


def rms_norm(x, gain):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5) * gain


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(x, q, k, v, out, causal):
    """x (B, N, D); q, k, v (D, H, K); out (H, K, D).

    `causal` may be a number, that of neighbours that see each other, or bool
    (B, N, N), what each position sees.
    """
    query, key, value = (np.einsum("bnd,dhk->bhnk", x, w) for w in (q, k, v))
    scores = np.einsum("bhnk,bhmk->bhnm", query, key) / np.sqrt(q.shape[-1])
    if isinstance(causal, np.ndarray):
        scores = np.where(causal[:, None], scores, -1e10)
    elif causal:
        groups = np.arange(x.shape[1]) // int(causal)
        scores = np.where(groups[:, None] >= groups, scores, -1e10)
    attended = np.einsum("bhnm,bhmk->bhnk", softmax(scores), value)
    return np.einsum("bhnk,hkd->bnd", attended, out)


def block(x, w, causal):
    """One block; also returns its post-norm attention input."""
    normed = rms_norm(x, w["ln_1"])
    x = x + attention(normed, w["q"], w["k"], w["v"], w["out"], causal)
    hidden = quick_gelu(rms_norm(x, w["ln_2"]) @ w["up"])
    return x + hidden @ w["down"], normed


def forward(weights, token_ids, mask=None, group=1, prefix_length=None):
    """Logits (B, N, V) and features (L + 1, B, D); BERT with a mask.

    So many neighbours are predicted at once, from those before all of them.
    Of `prefix_length` (B,) tokens, those see each other.
    """
    x = weights["wte"][token_ids]
    causal = group if mask is None else False
    if causal:
        start = np.broadcast_to(weights["sos"], (len(x), group, x.shape[-1]))
        x = np.concatenate([start, x[:, :-group]], axis=1)
    else:
        x = x * ~mask[..., None]
    x = x + weights["wpe"]
    if prefix_length is not None:
        positions = np.arange(x.shape[1])
        known = positions <= np.asarray(prefix_length)[:, None]
        causal = np.tri(x.shape[1], dtype=bool)
        causal = causal | (known[:, :, None] & known[:, None])
    features = []
    for w in weights["blocks"]:
        x, normed = block(x, w, causal)
        features.append(normed.mean(axis=1))
    x = rms_norm(x, weights["ln_f"])
    features.append(x.mean(axis=1))
    return x @ weights["head"], np.stack(features)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def nats(logits, token_ids):
    """-log p of each token, (B, N)."""
    log_p = log_softmax(logits)
    return -np.take_along_axis(log_p, token_ids[..., None], axis=-1)[..., 0]


def bert_loss(logits, token_ids, mask):
    per_image = (nats(logits, token_ids) * mask).sum(axis=1)
    return np.mean(per_image / np.maximum(mask.sum(axis=1), 1))


def nats_per_token(logits, token_ids, mask=None):
    """Of each image `(B,)`: over all tokens, or over hidden ones, 0 if none."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    logits = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    nats = -np.take_along_axis(logits, token_ids[..., None], axis=-1)[..., 0]
    if mask is None:
        return nats.mean(axis=1)
    return (nats * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)


def adam(weights, gradients, rate, epsilon, beta_1=0.9, beta_2=0.999):
    """Weights after a step of Adam for each of `gradients`.

    Kingma & Ba's second form, at the end of their section 2, whose `epsilon`
    is beside the uncorrected second moment. TensorFlow and Keras have it.
    """
    first = second = 0
    for t, gradient in enumerate(gradients, start=1):
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        step = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        weights = weights - step * first / (np.sqrt(second) + epsilon)
    return weights
