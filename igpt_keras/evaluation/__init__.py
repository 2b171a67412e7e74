"""What a model is worth: arrays in, numbers out."""

from igpt_keras.evaluation.attentive_report import ATTENTIVE_EPOCHS
from igpt_keras.evaluation.attentive_report import attentive_report
from igpt_keras.evaluation.class_scores import class_scores
from igpt_keras.evaluation.finetuning_scores import finetuning_scores
from igpt_keras.evaluation.fit_isoflop import fit_isoflop
from igpt_keras.evaluation.grid_report import grid_report
from igpt_keras.evaluation.layer_alignment import layer_alignment
from igpt_keras.evaluation.mask_ensemble import NUM_MASKS
from igpt_keras.evaluation.mask_ensemble import mask_ensemble
from igpt_keras.evaluation.mask_ensemble import modal_prediction
from igpt_keras.evaluation.neighbor_report import neighbor_report
from igpt_keras.evaluation.outliers import outlier_auroc
from igpt_keras.evaluation.outliers import outlier_scores
from igpt_keras.evaluation.probe_report import probe_report
from igpt_keras.evaluation.probe_report import probe_reports
from igpt_keras.evaluation.probe_weights import probe_weights
from igpt_keras.evaluation.reconstruction import palette_error
from igpt_keras.evaluation.reconstruction import reconstruction_quality
from igpt_keras.evaluation.split_features import raw_pixels
from igpt_keras.evaluation.token_loss import RELEASED_BATCH
from igpt_keras.evaluation.token_loss import average_losses
from igpt_keras.evaluation.token_loss import check_masks
from igpt_keras.evaluation.token_loss import dataset_loss
from igpt_keras.evaluation.token_loss import token_losses
from igpt_keras.evaluation.token_loss import token_surprise
from igpt_keras.evaluation.token_loss import unigram_entropy
