"""How a run goes: its directory, tokenizer, optimizer, devices and steps."""

from igpt_keras.training.devices import Devices
from igpt_keras.training.finetuning import ACCURACY
from igpt_keras.training.finetuning import accuracy_curve
from igpt_keras.training.finetuning import build_classifier
from igpt_keras.training.finetuning import check_classes
from igpt_keras.training.finetuning import finetuning_images
from igpt_keras.training.finetuning import read_accuracy_curve
from igpt_keras.training.fit import fit
from igpt_keras.training.learning_rate_search import search_learning_rate
from igpt_keras.training.linear_probes import linear_probes
from igpt_keras.training.loss_watch import LossWatch
from igpt_keras.training.optimizer import paper_adam
from igpt_keras.training.replicas import rebuilt
from igpt_keras.training.replicas import shared_evenly
from igpt_keras.training.run_directory import RunDirectory
from igpt_keras.training.run_tokenizer import keep_run_tokenizer
from igpt_keras.training.run_tokenizer import open_run_tokenizer
from igpt_keras.training.run_tokenizer import open_vq_vae
from igpt_keras.training.safe_adam import SafeAdam
from igpt_keras.training.schedule import choose_period
from igpt_keras.training.schedule import finetuning_schedule
from igpt_keras.training.schedule import milestone_epochs
from igpt_keras.training.schedule import pretraining_schedule
from igpt_keras.training.sharding import device_mesh
from igpt_keras.training.sharding import igpt_layout_map
from igpt_keras.training.sharding import mesh_distribution
