import shutil

from igpt_keras.models import preset_directory
from igpt_keras.storage.user_path import user_path


class PresetWriter:
    """Writes a model's preset from its weights as they were.

    For a `TrainingCheckpoint`, which has them, and calls this in a thread while
    the model trains on: nothing of the model itself is read there.

    Args:
        model: an `IGPT` or `IGPTClassifier`.
        directory: path of the preset.
        tokenizer: optional tokenizer to save along.

    Call arguments:
        arrays: list of arrays, one for each of `model.variables`.

    Raises:
        ValueError: as `save_to_preset`, of what is wrong but for the weights.
    """

    def __init__(self, model, directory, tokenizer=None):
        self.directory = user_path(directory)
        self.tokenizer = tokenizer
        igpt, classifier = model, None
        if hasattr(model, "igpt"):
            igpt, classifier = model.igpt, model
        preset_directory.check_place(self.directory, igpt, tokenizer)
        preset_directory.check_describable(model)
        self.manifest = preset_directory.describe(igpt, classifier)
        named = preset_directory.all_named_variables(igpt, classifier)
        places = {id(v): i for i, v in enumerate(model.variables)}
        self.places = {name: places[id(v)] for name, v in named.items()}

    def __call__(self, arrays):
        name = self.directory.name
        for left in self.directory.parent.glob(f".{name}-*"):
            # Of a process that was killed as it wrote.
            shutil.rmtree(left, ignore_errors=True)
        named = {name: arrays[i] for name, i in self.places.items()}
        preset_directory.write(
            self.directory, named, self.manifest, self.tokenizer
        )
