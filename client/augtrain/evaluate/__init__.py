"""Score files of predicted labels against files of true ones."""

from augtrain.evaluate.evaluation import Evaluation, evaluate
from augtrain.evaluate.pairs import Case, find_cases
from augtrain.evaluate.score_tables import print_evaluation
from augtrain.evaluate.scores_csv import write_csv

__all__ = ["Case", "Evaluation", "evaluate", "find_cases", "print_evaluation", "write_csv"]
