from igpt_keras.conversion import huggingface_format
from igpt_keras.conversion.huggingface_format import CONFIG
from igpt_keras.conversion.huggingface_format import PROCESSOR
from igpt_keras.conversion.huggingface_format import WEIGHTS
from igpt_keras.conversion.named_tensor import with_progress
from igpt_keras.models.preset_directory import check_exportable
from igpt_keras.storage.atomic_directory import atomic_directory
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.weight_file import write_safetensors
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer
from igpt_keras.tokenizers.vq_vae_tokenizer import VQVAETokenizer


def save_huggingface(model, directory, palette=None, verbose=0):
    """Writes a directory that Hugging Face transformers opens.

    `ImageGPTForCausalImageModeling.from_pretrained(directory)` then computes
    this model's logits on `[start token, x_0, ..., x_(N-2)]`; the start token
    has the id `vocabulary_size`. An `IGPTClassifier`'s head is written for
    `ImageGPTForImageClassification`. Hugging Face's biases are zeros. Saved
    whole or not at all.

    Args:
        model: an autoregressive `IGPT` or `IGPTClassifier`.
        directory: path to create, or to replace if it holds what this function
            writes and nothing else.
        palette: the palette as `PaletteTokenizer` takes it, or a
            `PaletteTokenizer`. Written to `preprocessor_config.json`, so that
            `ImageGPTImageProcessor` makes the same tokens of images at the
            input resolution. Defaults to none, and no such file.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Raises:
        ValueError: for a BERT model, another order or attention, and a class
            head on an earlier layer, which Hugging Face cannot run; classes of
            your own; weights that are not finite, LoRA's or quantized; a
            palette of another size than the vocabulary; and a `directory` that
            holds something else, or a palette that is not given again.
    """
    igpt = getattr(model, "igpt", model)
    directory = user_path(directory)
    if igpt.objective != "autoregressive":
        raise ValueError(
            "Hugging Face's Image GPT is always causal and starts with a start "
            "token: a BERT model cannot run in it. Use `save_to_preset`."
        )
    if palette is not None:
        if isinstance(palette, VQVAETokenizer):
            raise ValueError(
                "palette is a VQVAETokenizer, and Hugging Face's image "
                "processor knows colours only. Leave it out, and keep the "
                "VQ-VAE with `save_to_preset`."
            )
        if not isinstance(palette, PaletteTokenizer):
            palette = PaletteTokenizer(palette)
        if palette.vocabulary_size != igpt.vocabulary_size:
            raise ValueError(
                f"palette has {palette.vocabulary_size} colours and the model "
                f"a vocabulary of {igpt.vocabulary_size}."
            )
    if (directory / CONFIG).is_file() and not _is_image_gpt(directory):
        raise ValueError(
            f"{directory} exists and is no Hugging Face Image GPT. Refusing to "
            "replace it; choose another directory."
        )
    if palette is None and (directory / PROCESSOR).is_file():
        raise ValueError(
            f"{directory} holds a palette, which would be lost: pass "
            "palette=..., or choose another directory."
        )
    check_exportable(model)
    tensors = huggingface_format.named_tensors(model, igpt.sequence_length)
    arrays = {t.name: t.write() for t in with_progress(tensors, verbose)}
    files = (CONFIG, PROCESSOR, WEIGHTS)
    with atomic_directory(directory, files) as staged:
        write_safetensors(arrays, staged / WEIGHTS)
        write_json(staged / CONFIG, huggingface_format.build_config(model))
        if palette is not None:
            write_json(staged / PROCESSOR, _processor(igpt, palette))


def _processor(igpt, palette):
    side = round(igpt.sequence_length**0.5)
    return {
        "image_processor_type": "ImageGPTImageProcessor",
        "clusters": palette.palette.tolist(),
        "do_color_quantize": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 2,
        "size": {"height": side, "width": side},
    }


def _is_image_gpt(directory):
    config = huggingface_format.read_json(directory / CONFIG)
    return config.get("model_type") == "imagegpt"
