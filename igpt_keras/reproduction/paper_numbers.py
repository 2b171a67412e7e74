"""What the paper prints (V1; with "blog", of OpenAI's post), in per cent."""

LINEAR_PROBE = {"cifar10": "96.3", "cifar100": "82.8", "stl10": "95.5"}
# Of iGPT-L on CIFAR-10, Figure 2.
LAST_LAYER_LOSS = "2.4"
OTHERS_LINEAR_PROBE = {
    "cifar10": {"ResNet-152": "94", "AMDIM-L": "91.2", "SimCLR (blog)": "95.3"},
    "cifar100": {
        "ResNet-152": "78",
        "AMDIM-L": "70.2",
        "SimCLR (blog)": "80.2",
    },
    "stl10": {"AMDIM-L": "94.2"},
}
# Method, input resolution, parameters in millions, features, accuracy.
IMAGENET_PROBES = (
    ("Rotation", "original", "86", "8192", "55.4"),
    ("iGPT-L", "32", "1362", "1536", "60.3"),
    ("BigBiGAN", "original", "86", "8192", "61.3"),
    ("iGPT-L", "48", "1362", "1536", "65.2"),
    ("AMDIM", "original", "626", "8192 (blog)", "68.1"),
    ("MoCo", "original", "375", "8192", "68.6"),
    ("iGPT-XL (blog)", "64", "6801", "3072", "68.7"),
    ("iGPT-L", "192", "1362", "16896", "69.0"),
    ("SimCLR (blog)", "original", "24", "2048", "69.3"),
    ("CPC v2", "original", "303", "8192", "71.5"),
    ("iGPT-XL (blog)", "64", "6801", "15360", "72.0"),
    ("SimCLR (blog)", "original", "375", "8192", "76.5"),
)
IMAGENET_BY_SIZE = {"igpt_s": "41.9", "igpt_m": "54.5", "igpt_l": "60.3"}
FINETUNING = {"cifar10": "99.0", "cifar100": "88.5"}
OTHERS_FINETUNING = {
    "cifar10": {
        "AutoAugment": "98.5",
        "SimCLR (blog)": "98.6",
        "GPipe": "99.0",
        "BiT-L (blog)": "99.3",
    },
    "cifar100": {
        "SimCLR (blog)": "89.0",
        "AutoAugment": "89.3",
        "EfficientNet": "91.7",
    },
}
BERT_FINETUNING_CIFAR10 = "98.6"
# Error, of 4, 25 and 400 labels a class of CIFAR-10.
LOW_DATA = {
    "iGPT-L": ("26.8 +- 1.5", "12.4 +- 0.6", "5.7 +- 0.1"),
    "Mean Teacher": (None, "32.3 +- 2.3", "9.2 +- 0.2"),
    "MixMatch": ("47.5 +- 11.5", "11.0 +- 0.9", "6.4 +- 0.1"),
    "UDA": ("29.0 +- 5.9", "8.8 +- 1.1", "4.9 +- 0.2"),
    "FixMatch RA": ("13.8 +- 3.4", "5.1 +- 0.7", "4.3 +- 0.1"),
    "FixMatch CTA": ("11.4 +- 3.4", "5.1 +- 0.3", "4.3 +- 0.2"),
}
LOW_DATA_FINETUNING = "42.1"
