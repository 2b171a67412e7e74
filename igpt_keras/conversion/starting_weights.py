import dataclasses
import hashlib
import typing

from igpt_keras.conversion.load_openai_checkpoint import weight_files
from igpt_keras.conversion.open_weights import check_tokenizer
from igpt_keras.conversion.open_weights import locate_weights
from igpt_keras.conversion.open_weights import open_weights
from igpt_keras.models import preset_directory
from igpt_keras.storage.atomic_directory import read_whole
from igpt_keras.storage.digest import file_sha256


@dataclasses.dataclass(frozen=True)
class StartingWeights:
    """Weights that a run starts from, or was started from.

    Attributes:
        source: str, what `open_weights` takes.
        sha256: str, of the files that hold the weights; of a single one, its
            own. `None` if they are gone.
        model: an `IGPT` or `IGPTClassifier`; `None` where the run goes on and
            they were not opened.
        tokenizer: its tokenizer, or `None`.
    """

    source: str
    sha256: str | None
    model: typing.Any = None
    tokenizer: typing.Any = None

    def own_tokenizer(self, given):
        """The tokenizer of a run that starts from these weights.

        Args:
            given: the tokenizer that was asked for, or `None`.

        Raises:
            ValueError: if it is not the one of the weights, its vocabulary is
                not the model's, or there is none.
        """
        if None not in (given, self.tokenizer):
            if given.fingerprint != self.tokenizer.fingerprint:
                raise ValueError(
                    f"The weights in {self.source} are of another tokenizer "
                    "than the one that --palette, --tokenizer or the dataset's "
                    f"tokens name ({self.tokenizer.fingerprint[:12]}... there, "
                    f"{given.fingerprint[:12]}... here): token ids would mean "
                    "other colours. Leave it out to use the weights' own."
                )
        tokenizer = given or self.tokenizer
        check_tokenizer(tokenizer, getattr(self.model, "igpt", self.model))
        return tokenizer


def open_starting_weights(init, goes_on=False):
    """Opens the weights that a run starts from.

    Args:
        init: str, as `open_weights` takes it, or `None` for fresh weights.
        goes_on: bool. Whether the run has checkpoints and needs no more than
            the digest, so that it can tell other weights under the same path;
            they may be gone by now. Defaults to `False`.

    Returns:
        `StartingWeights`, or `None` without `init`.

    Raises:
        ValueError: as `open_weights`.
    """
    if init is None:
        return None
    if goes_on:
        try:
            return StartingWeights(init, _weights_sha256(init))
        except (ValueError, OSError):
            return StartingWeights(init, None)

    def read():
        # The digest of what is opened, also where a run still replaces it.
        return _weights_sha256(init), *open_weights(init, verbose=1)

    kind, path = locate_weights(init)
    if kind == "keras":
        found = read_whole(path, preset_directory.CONFIG, read)
    else:
        found = read()
    return StartingWeights(init, *found)


def _weights_sha256(init):
    kind, path = locate_weights(init)
    if kind == "keras":
        return preset_directory.read_manifest(path)["sha256"]
    if kind == "huggingface":
        files = sorted(path.glob("*.safetensors"))
    else:
        files = weight_files(path)
    digests = [file_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
