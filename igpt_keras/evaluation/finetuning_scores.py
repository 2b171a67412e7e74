from igpt_keras.evaluation.class_scores import class_scores
from igpt_keras.evaluation.mask_ensemble import NUM_MASKS
from igpt_keras.evaluation.token_loss import token_losses
from igpt_keras.probes.labels import largest_class_share


def finetuning_scores(
    classifier,
    validation,
    test,
    num_masks=NUM_MASKS,
    mask_rate=0.15,
    seed=0,
):
    """What a fine-tuned model is worth, on validation and test.

    Args:
        classifier: an `IGPTClassifier`.
        validation: `EvaluationSet`.
        test: `EvaluationSet`.
        num_masks: as for `class_scores`.
        mask_rate: as for `class_scores`.
        seed: as for `class_scores`.

    Returns:
        dict of `validation_images` and `test_images`, their numbers,
        `validation_accuracy`, `test_accuracy`,
        `test_standard_error`, `validation_class_nats`, `test_class_nats`,
        `validation_nats_per_token`, `test_nats_per_token`, `test_masks` (of
        BERT, see `mask_ensemble`, or `None`), `num_classes`, and `chance`, the
        largest class of test.
    """
    metrics = {}
    # Validation's ensemble would be thrown away.
    for name, examples, masks in (
        ("validation", validation, 1),
        ("test", test, num_masks),
    ):
        token_ids = examples.token_ids
        scores = class_scores(
            classifier,
            token_ids,
            examples.labels,
            num_masks=masks,
            mask_rate=mask_rate,
            seed=seed,
        )
        losses = token_losses(
            classifier.igpt,
            token_ids,
            batch_size=64,
            mask_rate=mask_rate,
            seed=seed,
        )
        metrics |= {
            f"{name}_images": scores["images"],
            f"{name}_accuracy": scores["accuracy"],
            f"{name}_class_nats": scores["class_nats"],
            f"{name}_nats_per_token": float(losses.mean()),
        }
    # Of test, the last one.
    return metrics | {
        "test_standard_error": scores["standard_error"],
        "test_masks": scores["masks"],
        "num_classes": classifier.num_classes,
        "chance": largest_class_share(test.labels),
    }
