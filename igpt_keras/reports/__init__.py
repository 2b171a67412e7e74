"""What a person sees: text that is returned, files that are written."""

from igpt_keras.reports.cost import describe_run
from igpt_keras.reports.evaluation_summaries import finetuning_summary
from igpt_keras.reports.evaluation_summaries import grid_summary
from igpt_keras.reports.evaluation_summaries import linear_probe_summary
from igpt_keras.reports.evaluation_summaries import loss_summary
from igpt_keras.reports.evaluation_summaries import search_summary
from igpt_keras.reports.figures import draw_accuracy_curves
from igpt_keras.reports.figures import draw_chart
from igpt_keras.reports.figures import draw_grids
from igpt_keras.reports.figures import draw_palettes
from igpt_keras.reports.figures import draw_probe_curve
from igpt_keras.reports.figures import draw_probe_curves
from igpt_keras.reports.figures import draw_reconstructions
from igpt_keras.reports.figures import draw_samples
from igpt_keras.reports.pictures import completion_rows
from igpt_keras.reports.pictures import enlarge
from igpt_keras.reports.pictures import palette_squares
from igpt_keras.reports.pictures import sample_pictures
from igpt_keras.reports.pictures import tile
from igpt_keras.reports.summaries import palette_summary
from igpt_keras.reports.summaries import pretraining_summary
from igpt_keras.reports.summaries import tensorboard_link
from igpt_keras.reports.summaries import vq_vae_summary
from igpt_keras.reports.tables import describe_splits
from igpt_keras.reports.tables import files_left
from igpt_keras.reports.tables import table
