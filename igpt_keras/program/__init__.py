"""How a script meets its user: flags, errors and signals."""

from igpt_keras.program import interrupts
from igpt_keras.program import model_flags
from igpt_keras.program import reading_flags
from igpt_keras.program import run_flags
from igpt_keras.program import shared_flags
from igpt_keras.program.peak_memory import peak_memory
from igpt_keras.program.start import call
from igpt_keras.program.start import parse
from igpt_keras.program.start import start
from igpt_keras.program.subprogram import DIVERGED
from igpt_keras.program.subprogram import run_script
