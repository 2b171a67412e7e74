import os
import pathlib
import tempfile

from igpt_keras.conversion.named_tensor import with_progress
from igpt_keras.conversion.openai_format import first_line
from igpt_keras.conversion.openai_format import import_tensorflow
from igpt_keras.conversion.openai_format import named_tensors
from igpt_keras.models.preset_directory import check_exportable
from igpt_keras.storage.user_path import user_path


def save_openai_checkpoint(model, path, verbose=0):
    """Writes a checkpoint that the released TensorFlow 1 code restores.

    Args:
        model: an `IGPT` or `IGPTClassifier`.
        path: prefix to write, such as `"igpt/model.ckpt-1000"`: the files are
            `PATH.index` and `PATH.data-00000-of-00001`. It must be new.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Raises:
        ValueError: if `path` is a directory, there is such a checkpoint
            already, weights are not finite, LoRA's or quantized, or the network
            is another than the released code's: of another order or attention,
            of classes of your own, or with a class head on an earlier layer.
        ImportError: if TensorFlow is not installed; its writer is used.
    """
    tf = import_tensorflow("Writing")
    if str(path).endswith((os.sep, ".index")) or user_path(path).is_dir():
        raise ValueError(
            f"{path} is no checkpoint's prefix. Pass a path whose last part "
            'begins the names of the files, such as "igpt/model.ckpt-1000".'
        )
    path = user_path(path)
    index = path.with_name(path.name + ".index")
    if index.exists():
        raise ValueError(f"{index} exists. Choose another path.")
    check_exportable(model)
    igpt = getattr(model, "igpt", model)
    tensors = named_tensors(model, igpt.sequence_length)
    arrays = {t.name: t.write() for t in with_progress(tensors, verbose)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".ckpt-") as new:
        staged = pathlib.Path(new) / path.name
        try:
            tf.raw_ops.SaveV2(
                prefix=str(staged),
                tensor_names=list(arrays),
                shape_and_slices=[""] * len(arrays),
                tensors=list(arrays.values()),
            )
        except tf.errors.OpError as error:
            raise OSError(
                f"{path} could not be written ({first_line(error)})."
            ) from error
        # The index last: without it there is no checkpoint.
        for file in sorted(staged.parent.iterdir()):
            os.replace(file, path.parent / file.name)
