from igpt_keras.probes.attentive_probe import AttentiveProbe
from igpt_keras.probes.centered_kernel_alignment import (
    centered_kernel_alignment,
)
from igpt_keras.probes.concatenation import concatenate_layers
from igpt_keras.probes.features import extract_features
from igpt_keras.probes.features import stream_features
from igpt_keras.probes.hold_out import hold_out
from igpt_keras.probes.hold_out import why_no_probe
from igpt_keras.probes.logistic_regression import fit_logistic_regression
from igpt_keras.probes.low_data import low_data_accuracy
from igpt_keras.probes.nearest_neighbors import NEIGHBORS
from igpt_keras.probes.nearest_neighbors import nearest_neighbors
from igpt_keras.probes.probe_grid import LEARNING_RATES
from igpt_keras.probes.probe_grid import ProbeGrid
from igpt_keras.probes.probe_layers import probe_layers
from igpt_keras.probes.probe_neighbors import probe_neighbors
