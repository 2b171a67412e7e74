"""How large a reproduction is: plain data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is run in place of the paper's experiments.

    Attributes:
        pretrain: dict of flags of every pretraining run.
        sizes: dict of dict by preset, from small to large: flags of its own.
        main: str. Preset of what is not about sizes.
        finetuned: str. Preset that Figure 4 and Table 3 fine-tune.
        labelled: tuple of datasets to probe and fine-tune on.
        probe: dict of flags of `linear_probe.py`.
        sgd: dict of flags of `linear_probe_sgd.py`, the dataset among them.
        concat: int. Layers that are joined.
        finetune: dict of flags of `finetune.py`.
        few: dict of flags of fine-tuning on 4 labels a class.
        search: dict of flags of the runs that a learning rate is searched by.
        variants: str. Preset that section A.1 is tried on.
        variant: dict of flags of all of its runs.
        high_rate: float. A learning rate too high for it.
        study: dict of flags of the pretraining runs of studies of our own.
        study_probe: dict of flags of their linear probes.
        throughput: float. FLOPs a second that its device does, by which it is
            priced.
    """

    pretrain: dict
    sizes: dict
    main: str
    finetuned: str
    labelled: tuple
    probe: dict
    sgd: dict
    concat: int
    finetune: dict
    few: dict
    search: dict
    variants: str
    variant: dict
    high_rate: float
    study: dict
    study_probe: dict
    throughput: float


SCALES = {
    # CIFAR-10 at 8x8 in 64 colours: minutes to half an hour a run on two cores.
    "laptop": Scale(
        pretrain={
            "dataset": "cifar10",
            "input_resolution": 8,
            "vocabulary_size": 64,
            "batch_size": 64,
            "probe_images": 6000,
            "pictures": 0,
        },
        sizes={
            "igpt_nano": {"steps": 2400},
            "igpt_micro": {"steps": 2400},
            "igpt_mini": {"steps": 600, "probe_every": 150},
        },
        main="igpt_micro",
        finetuned="igpt_nano",
        labelled=("cifar10",),
        probe={"probe_images": 20_000},
        sgd={"dataset": "cifar10", "steps": 2000},
        concat=5,
        finetune={"steps": 1400, "period": 175},
        few={"steps": 400, "period": 20},
        search={"steps": 300, "probe_images": 0},
        variants="igpt_nano",
        variant={"steps": 800, "probe_every": 800},
        high_rate=0.1,
        study={"steps": 800, "probe_images": 0},
        study_probe={"probe_images": 10_000, "attentive_epochs": 5},
        throughput=3e10,
    ),
    # CIFAR-10 as it is: an hour or two a run on one accelerator.
    "gpu": Scale(
        pretrain={
            "dataset": "cifar10",
            "input_resolution": 32,
            "vocabulary_size": 512,
            "batch_size": 128,
            "steps": 7000,
            "pictures": 0,
        },
        sizes={"igpt_nano": {}, "igpt_micro": {}, "igpt_mini": {}},
        main="igpt_mini",
        finetuned="igpt_mini",
        labelled=("cifar10",),
        probe={},
        sgd={"dataset": "cifar10", "steps": 20_000},
        concat=5,
        finetune={},
        few={},
        search={"steps": 1000, "probe_images": 0},
        variants="igpt_micro",
        variant={},
        high_rate=0.1,
        study={},
        study_probe={"attentive_epochs": 20},
        throughput=1e13,
    ),
    "paper": Scale(
        pretrain={
            "dataset": "imagenet2012",
            "input_resolution": 32,
            "palette": "openai/color-clusters/kmeans_centers.npy",
            "probe_datasets": "cifar10,cifar100,stl10",
        },
        sizes={"igpt_s": {}, "igpt_m": {}, "igpt_l": {}},
        main="igpt_l",
        finetuned="igpt_l",
        labelled=("cifar10", "cifar100", "stl10"),
        probe={},
        sgd={"dataset": "imagenet2012", "steps": 1_000_000},
        concat=11,
        finetune={},
        few={},
        search={},
        variants="igpt_s",
        variant={},
        high_rate=0.03,
        study={},
        study_probe={"attentive_epochs": 20},
        throughput=1e14,
    ),
}
