"""Labels without annotators: lungs and bones of a CT by FFT morphology and rules, or the reason why not. Knows arrays, no store."""

from augserver.labels.finding import Finding
from augserver.labels.lungs import find_lungs
from augserver.labels.organs import ALIASES, ORGANS
from augserver.labels.skeleton import find_bones

__all__ = ["ALIASES", "ORGANS", "Finding", "find_bones", "find_lungs"]
