"""Pictures drawn by any autoregressive model, or completed by it.

    python recipes/sample.py --model=runs/demo --num_samples=32 \
        --output=runs/pictures
    python recipes/sample.py --model=runs/demo --prompt=photo.jpg --keep=top \
        --animate --output=runs/pictures

The first draws whole pictures. The second keeps the upper half of a picture,
or of each in a folder, and completes it; what is transparent is laid over
white. None is chosen or left out.
"""

import math

import numpy as np
from absl import flags

import igpt_keras
from igpt_keras import data
from igpt_keras import generation
from igpt_keras import presets
from igpt_keras import program
from igpt_keras import reports
from igpt_keras.program import shared_flags
from igpt_keras.storage.writable_directory import make_writable_directory


def define_flags():
    shared_flags.define_weights()
    shared_flags.define_model_palette()
    flags.DEFINE_integer(
        "num_samples",
        None,
        "Whole pictures to draw. Defaults to 16, and to none with --prompt.",
        lower_bound=1,
    )
    flags.DEFINE_multi_string(
        "prompt",
        [],
        "A picture to complete, or a folder of pictures; may be given again. "
        "Its centre square is taken, upright, over white where transparent.",
    )
    flags.DEFINE_string(
        "keep",
        "top",
        "What of a picture is kept: top or left, that half, or the fraction of "
        "the rows from the top. In raster order left costs a pass for each "
        "row, and draws each row without a look at those below.",
    )
    flags.DEFINE_integer(
        "completions", 4, "Completions of each picture.", lower_bound=1
    )
    flags.DEFINE_float(
        "temperature",
        None,
        "Divides the logits; 0 takes the most probable token. Defaults to 1, "
        "with a VQ-VAE to the paper's 0.98.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "top_k", None, "Draw from so many most probable tokens.", lower_bound=1
    )
    flags.DEFINE_float(
        "top_p",
        None,
        "Draw from the fewest most probable tokens of this share.",
        lower_bound=0,
        upper_bound=1,
    )
    flags.DEFINE_string(
        "draft",
        None,
        "A smaller model of the same tokens, as for --model, whose tokens the "
        "model checks several at a time. What is drawn stays the model's.",
    )
    flags.DEFINE_integer(
        "draft_tokens", 4, "Tokens of --draft at a time.", lower_bound=1
    )
    shared_flags.define_seed("what is drawn")
    flags.DEFINE_bool(
        "animate", False, "Also write GIFs of the pictures filling in."
    )
    flags.DEFINE_string("output", None, "Directory of the pictures.")
    flags.mark_flag_as_required("output")


def main(args):
    model, tokenizer = igpt_keras.open_weights(args.model, args.palette, 1)
    draft = generation.open_draft(args.draft, model, tokenizer)
    resolution = generation.picture_resolution(model, tokenizer)
    embedding = getattr(model, "igpt", model).embedding
    length, order = embedding.sequence_length, embedding.permutation
    side = math.isqrt(length)
    given = generation.given_tokens(args.keep, side)
    # All before anything is drawn: wrong pictures cost no minutes.
    files = data.picture_files(args.prompt)
    pictures = data.open_pictures(files, resolution) if files else None
    output = make_writable_directory(args.output, "--output")
    if args.temperature is None:
        args.temperature = 1.0
        if isinstance(tokenizer, igpt_keras.VQVAETokenizer):
            args.temperature = presets.VQ_VAE_TEMPERATURE
    left = {}
    num_samples = args.num_samples or (0 if files else 16)
    if num_samples:
        print(f"Drawing {num_samples:,} pictures.", flush=True)
        samples = program.call(
            generation.fill_pictures,
            args,
            model=model,
            tokenizer=tokenizer,
            token_ids=np.zeros((num_samples, length), "int32"),
            given=np.zeros(length, "bool"),
            draft=draft,
            verbose=1,
        )
        left |= reports.write_samples(
            output, samples, side, args.animate, order
        )
    if files:
        print(f"Completing {len(files):,} pictures.", flush=True)
        completions = program.call(
            igpt_keras.complete,
            args,
            model=model,
            tokenizer=tokenizer,
            pictures=pictures,
            num_completions=args.completions,
            draft=draft,
            verbose=1,
        )
        names = reports.distinct_names(files)
        left |= reports.write_completions(
            output, names, pictures, completions, given, args.animate, order
        )
    print(reports.files_left(output, left))


if __name__ == "__main__":
    program.start(main, define_flags)
