"""Seconds of sampling images, beside the released way and Hugging Face's.

    python tools/benchmark_sampling.py --output=sampling.json

All draw from networks of the same shape with fresh weights, in turns in one
run: igpt_keras whole images and completions of half images; the released way,
one pass over the whole image for every token, of which a few passes are timed
and scaled; and, where `torch` and `transformers` are installed, ImageGPT of
Hugging Face with its cache. Compilation is not timed. The ratios are what to
compare; they are of the least times.

    python tools/benchmark_sampling.py --model=igpt_micro_cifar10 \
        --draft=runs/nano

takes trained weights, without which a draft says nothing, and draws whole
images with the draft too.

    python tools/benchmark_sampling.py --lengths=64,256,1024 --batches=1,8,32 \
        --picture=sampling.png

also draws `--images` of other lengths, and other numbers of images of the
shortest, and what a token of an image takes of each.
"""

import collections
import importlib.util
import itertools
import json
import os
import pathlib
import statistics
import time

from absl import app
from absl import flags


def define_flags():
    for name, default, text in (
        ("images", 8, "Images at once."),
        ("tokens", 1024, "Tokens of an image."),
        ("layers", 6, "Layers."),
        ("heads", 8, "Attention heads."),
        ("width", 256, "Width."),
        ("colours", 512, "Size of the vocabulary."),
        ("repeats", 5, "Measurements of each."),
        ("released_passes", 8, "Passes of the released way that are timed."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=1)
    flags.DEFINE_string(
        "model", None, "Weights in place of fresh ones; the shape is theirs."
    )
    flags.DEFINE_string("draft", None, "Weights of a smaller model, to draft.")
    flags.DEFINE_integer(
        "draft_tokens", 4, "Tokens of --draft at a time.", lower_bound=1
    )
    for name, text in (
        ("lengths", "Tokens of an image, to draw --images of each."),
        ("batches", "Images at once, of the shortest length."),
    ):
        flags.DEFINE_list(name, [], text)
    flags.DEFINE_string("picture", None, "PNG of --lengths and --batches.")
    flags.DEFINE_string("output", None, "JSON file to write.")


def matmul_rate(size=1024, repeats=5):
    """Float32 GFLOP/s of one product of square matrices, where models run."""
    import keras

    x = keras.random.normal((size, size))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        keras.ops.convert_to_numpy(keras.ops.matmul(x, x))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def fresh(args, tokens):
    """A model of the shape that flags say, and of a length."""
    import igpt_keras

    return igpt_keras.IGPT(
        vocabulary_size=args.colours,
        sequence_length=tokens,
        num_layers=args.layers,
        num_heads=args.heads,
        hidden_dim=args.width,
        head="normal",
    )


def build(args):
    """The model, of the shape that flags say or that its weights have."""
    import igpt_keras

    if args.model is None:
        return fresh(args, args.tokens)
    model, _ = igpt_keras.open_weights(args.model)
    args.colours, args.tokens = model.vocabulary_size, model.sequence_length
    args.layers, args.heads = model.num_layers, model.num_heads
    args.width = model.hidden_dim
    return model


def ours(args, counts):
    """Whole images, half images and single passes, as functions.

    With a draft also whole images drawn with it, which `counts` counts.
    """
    import igpt_keras

    model = build(args)
    token_ids = igpt_keras.sample(model, args.images)
    ways = {"whole": lambda: igpt_keras.sample(model, args.images)}
    if args.draft is not None:
        draft, _ = igpt_keras.open_weights(args.draft)

        # How much is accepted is of the images that are drawn.
        seeds, total = itertools.count(), collections.Counter()

        def drafted():
            _, found = igpt_keras.sample(
                model,
                args.images,
                seed=next(seeds),
                draft=draft,
                draft_tokens=args.draft_tokens,
                return_acceptance=True,
            )
            total.update({name: int(x.sum()) for name, x in found.items()})
            total["tokens"] += token_ids.size
            counts["acceptance"] = total["accepted"] / max(total["drafted"], 1)
            counts["tokens_per_pass"] = total["tokens"] / total["passes"]

        ways["draft"] = drafted

    def released():
        for _ in range(args.released_passes):
            model.predict_on_batch(token_ids)

    half = token_ids[:, : args.tokens // 2]
    return {
        **ways,
        "half": lambda: igpt_keras.sample(model, args.images, prompt=half),
        "released": released,
    }


def hugging_face(args):
    """Whole images of ImageGPT with its cache, as a function."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.ImageGPTConfig(
        vocab_size=args.colours + 1,
        n_positions=args.tokens,
        n_embd=args.width,
        n_layer=args.layers,
        n_head=args.heads,
    )
    model = transformers.ImageGPTForCausalImageModeling(config).eval()
    start = torch.full((args.images, 1), args.colours)

    def whole():
        with torch.inference_mode():
            past, token_ids = None, start
            for _ in range(args.tokens):
                found = model(
                    input_ids=token_ids, past_key_values=past, use_cache=True
                )
                past = found.past_key_values
                weights = torch.softmax(found.logits[:, -1], dim=-1)
                token_ids = torch.multinomial(weights, 1)

    return whole


def measure(ways, repeats):
    """Seconds of each way, in turns, after one call that is not timed."""
    seconds = {name: [] for name in ways}
    for i in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def shapes(args):
    """Drawing images of `--lengths` and `--batches`, as functions by shape."""
    import igpt_keras

    lengths, batches = (
        sorted(int(number) for number in given)
        for given in (args.lengths, args.batches)
    )
    models = {tokens: fresh(args, tokens) for tokens in lengths}
    wanted = [(args.images, tokens) for tokens in lengths]
    wanted += [(images, min(lengths)) for images in batches]
    return {
        (images, tokens): lambda model=models[tokens], images=images: (
            igpt_keras.sample(model, images)
        )
        for images, tokens in wanted
    }


def draw_shapes(path, args, by_token):
    """Microseconds of a token of an image, by the length and by the number."""
    from igpt_keras import reports

    shortest = min(tokens for _, tokens in by_token)
    lengths = sorted(n for images, n in by_token if images == args.images)
    batches = sorted(n for n, tokens in by_token if tokens == shortest)
    reports.draw_chart(
        path,
        "sampling",
        "tokens of an image, or images",
        "microseconds a token of an image",
        {
            f"{args.images} images, by tokens": (
                lengths,
                [by_token[args.images, n] for n in lengths],
            ),
            f"{shortest} tokens, by images": (
                batches,
                [by_token[n, shortest] for n in batches],
            ),
        },
        logarithmic=True,
    )


def main(argv):
    del argv
    args = flags.FLAGS
    if args.batches and not args.lengths:
        raise ValueError("--batches are of the shortest of --lengths: pass it.")
    peer = all(map(importlib.util.find_spec, ("torch", "transformers")))
    if peer:
        # What it loads ends the process where TensorFlow was loaded before.
        importlib.import_module(
            "transformers.models.imagegpt.modeling_imagegpt"
        )
    rate = matmul_rate()
    counts = {}
    ways = ours(args, counts)
    if peer:
        ways["hugging_face"] = hugging_face(args)
    else:
        print("Hugging Face is left out: torch or transformers is missing.")
    seconds = measure(ways, args.repeats)
    scale = args.tokens / args.released_passes
    seconds["released"] = [scale * s for s in seconds["released"]]
    least = {name: min(times) for name, times in seconds.items()}
    ratios = {
        "half_to_whole": least["half"] / least["whole"],
        **{
            f"whole_to_{name}": least["whole"] / least[name]
            for name in ("released", "hugging_face", "draft")
            if name in least
        },
    }
    for name, count in counts.items():
        print(f"{name:26} {count:.4f}")
    print(
        f"{args.images} images of {args.tokens} tokens, {args.layers} layers "
        f"of width {args.width}, {args.heads} heads, {args.colours} colours\n"
        f"{os.cpu_count()} hardware threads, products of matrices at "
        f"{rate:.0f} GFLOP/s\n"
        f"released: {args.released_passes} passes, scaled to {args.tokens}\n"
        "seconds           minimum   median  maximum"
    )
    for name, times in seconds.items():
        numbers = min(times), statistics.median(times), max(times)
        print(f"{name:16}" + "".join(f"{number:9.3f}" for number in numbers))
    for name, ratio in ratios.items():
        print(f"{name:26} {ratio:.4f}")
    by_shape = measure(shapes(args), args.repeats)
    by_token = {}
    for (images, tokens), times in by_shape.items():
        one = by_token[images, tokens] = 1e6 * min(times) / (images * tokens)
        print(
            f"{images} images of {tokens} tokens: {min(times):.3f} s, "
            f"{one:.1f} microseconds a token of an image"
        )
    if args.picture and by_token:
        draw_shapes(args.picture, args, by_token)
    if args.output:
        shape = ("images", "tokens", "layers", "heads", "width", "colours")
        document = {
            **{name: getattr(args, name) for name in shape},
            "released_passes": args.released_passes,
            "hardware_threads": os.cpu_count(),
            "matmul_gflops": rate,
            "seconds": seconds,
            "ratios": ratios,
            "shapes": [
                {"images": images, "tokens": tokens, "seconds": times}
                for (images, tokens), times in by_shape.items()
            ],
            **counts,
        }
        text = json.dumps(document, indent=2) + "\n"
        pathlib.Path(args.output).write_text(text)


if __name__ == "__main__":
    define_flags()
    app.run(main)
