"""Experiments of many runs: what to run, and what to make of it."""

from igpt_keras.reproduction.isoflop import isoflop_points
from igpt_keras.reproduction.isoflop import isoflop_sizes
from igpt_keras.reproduction.isoflop import plan_isoflop
from igpt_keras.reproduction.isoflop import read_pretraining
from igpt_keras.reproduction.isoflop import shared_tokens
from igpt_keras.reproduction.pages import PAGES
from igpt_keras.reproduction.price import describe_prices
from igpt_keras.reproduction.price import price
from igpt_keras.reproduction.run import Run
from igpt_keras.reproduction.run import copy_results
from igpt_keras.reproduction.run import execute
from igpt_keras.reproduction.run import in_order
from igpt_keras.reproduction.run import read_results
from igpt_keras.reproduction.run import runs_without_copy
from igpt_keras.reproduction.scales import SCALES
from igpt_keras.reproduction.write_page import write_page
