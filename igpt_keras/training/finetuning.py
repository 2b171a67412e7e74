"""What fine-tuning needs besides a training run."""

import json

import numpy as np

from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.probes.low_data import draw_balanced_subset
from igpt_keras.storage.user_path import user_path
from igpt_keras.training.replicas import rebuilt

# What Keras calls the accuracy of an `IGPTClassifier` on validation.
ACCURACY = "val_class_logits_accuracy"


def check_classes(splits):
    """Raises a `ValueError` unless the classes of train can be learned.

    Args:
        splits: dict of `Split`: `train`, `validation` and `test`.
    """
    for name, split in splits.items():
        if not len(split.labels) or split.labels.min() < 0:
            raise ValueError(
                f"{split.name} has no labels for its {name} images, and "
                "classes cannot be learned without. Choose a dataset with "
                "labels; of a folder, put the pictures in class directories."
            )
    found = np.unique(splits["train"].labels)
    if len(found) < 2:
        raise ValueError(
            f"All {len(splits['train']):,} training images of "
            f"{splits['train'].name} are of one class: there is nothing to "
            "tell apart."
        )


def finetuning_images(
    train, labels_per_class=None, fold_validation=False, seed=0
):
    """The `Split` to fine-tune on.

    Args:
        train: `Split`.
        labels_per_class: int. Train on so many of each class, the ones of the
            first subset of `low_data_accuracy` with this seed. Defaults to
            all.
        fold_validation: bool. Whether to train on the validation images too.
            Defaults to `False`.
        seed: int. Of that subset. Defaults to 0.

    Raises:
        ValueError: if a class has fewer images, or both are asked for.
    """
    if labels_per_class is None:
        return train.with_validation() if fold_validation else train
    if fold_validation:
        raise ValueError(
            "--labels_per_class takes few of the training images, and "
            "--fold_validation more than there are. Leave one out."
        )
    return train.subset(
        draw_balanced_subset(train.labels, labels_per_class, (seed, 0))
    )


def build_classifier(
    opened,
    num_classes,
    sequence_length=None,
    from_scratch=False,
    dropout=0.0,
    dtype="float32",
    remat=False,
    head_layer=None,
    generative_weight=1.0,
    classification_weight=1.0,
):
    """The `IGPTClassifier` to fine-tune, in the strategy's scope.

    Args:
        opened: an `IGPT`, or an `IGPTClassifier`, whose class head is kept.
        num_classes: int.
        sequence_length: int. Positions, which are resized from the model's.
            Defaults to as many.
        from_scratch: bool. Whether weights are fresh. Defaults to `False`.
        dropout: float. Defaults to 0.
        dtype: str, the Keras dtype policy. Defaults to `"float32"`.
        remat: as for `IGPT`. Defaults to `False`.
        head_layer: as for `IGPTClassifier`. Defaults to that of the class head
            that is kept, or else to the final norm.
        generative_weight: as for `IGPTClassifier`.
        classification_weight: as for `IGPTClassifier`.

    Raises:
        ValueError: if the class head is of another number of classes, or of
            another layer.
    """
    igpt = getattr(opened, "igpt", opened)
    has_head = opened is not igpt
    if has_head and opened.num_classes != num_classes:
        raise ValueError(
            f"The model was fine-tuned on {opened.num_classes} classes, and "
            f"the dataset has {num_classes}. Pass the weights that it was "
            "fine-tuned from."
        )
    if has_head and head_layer not in (None, opened.head_layer):
        raise ValueError(
            f"The model's class head reads {_name_layer(opened.head_layer)}, "
            f"and --head_layer={head_layer}. Leave it out, or pass the weights "
            "that it was fine-tuned from."
        )
    if has_head:
        head_layer = opened.head_layer
    changes = {"dropout": dropout, "dtype": dtype, "remat": remat}
    changes["sequence_length"] = sequence_length or igpt.sequence_length
    if from_scratch:
        start = type(igpt).from_config({**igpt.get_config(), **changes})
    else:
        start = rebuilt(igpt, **changes)
    classifier = IGPTClassifier(
        start,
        num_classes,
        generative_weight=generative_weight,
        classification_weight=classification_weight,
        head_layer=head_layer,
    )
    if has_head and not from_scratch:
        classifier.class_head.set_weights(opened.class_head.get_weights())
    return classifier


def _name_layer(layer):
    return "the final norm" if layer is None else f"layer {layer}"


def accuracy_curve(epochs, batch_size, images):
    """Validation accuracy as fine-tuning went.

    Args:
        epochs: list of `Progress.epochs`.
        batch_size: int. Images of a step.
        images: int. Training images.

    Returns:
        list of dicts of `step`, `epochs` (of the training images) and
        `validation_accuracy`.
    """
    return [
        {
            "step": logs["step"],
            "epochs": logs["step"] * batch_size / images,
            "validation_accuracy": logs[ACCURACY],
        }
        for logs in epochs
    ]


def read_accuracy_curve(directory):
    """The `accuracy_curve` in the `metrics.json` of a run that is over.

    Args:
        directory: path of a run of `finetune.py`.

    Raises:
        ValueError: if there is none.
    """
    path = user_path(directory) / "metrics.json"
    curve = None
    if path.is_file():
        curve = json.loads(path.read_text()).get("curve")
    if curve is None:
        raise ValueError(
            f"{directory} is no fine-tuning run that is over: it has no "
            f"{path.name} with an accuracy curve."
        )
    return curve
