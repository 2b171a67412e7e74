from igpt_keras.reproduction.finetuning_pages import figure_4
from igpt_keras.reproduction.finetuning_pages import table_3
from igpt_keras.reproduction.finetuning_pages import table_4
from igpt_keras.reproduction.probe_pages import figure_2
from igpt_keras.reproduction.probe_pages import figure_3
from igpt_keras.reproduction.probe_pages import section_4_4
from igpt_keras.reproduction.probe_pages import table_1
from igpt_keras.reproduction.probe_pages import table_2
from igpt_keras.reproduction.training_pages import section_a1
from igpt_keras.reproduction.training_pages import table_5
from igpt_keras.reproduction.variants_page import study_variants

# Functions of a `Scale` and of seeds to a `Page`.
PAGES = {
    "figure_2": figure_2,
    "figure_3": figure_3,
    "figure_4": figure_4,
    "table_1": table_1,
    "table_2": table_2,
    "table_3": table_3,
    "table_4": table_4,
    "table_5": table_5,
    "section_4.4": section_4_4,
    "section_a1": section_a1,
    "study_variants": study_variants,
}
