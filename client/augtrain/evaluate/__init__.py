"""Score files of predicted labels against files of true ones."""

from augtrain.evaluate.pairs import Case, find_cases
from augtrain.evaluate.run import Evaluation, evaluate
from augtrain.evaluate.scores_csv import write_csv
from augtrain.evaluate.tables import print_evaluation

__all__ = ["Case", "Evaluation", "evaluate", "find_cases", "print_evaluation", "write_csv"]
