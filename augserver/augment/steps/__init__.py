"""The steps that a recipe may have: every module here declares one, and is found by its being here.

A step is three files of its name: here (what its keys are and what follows from them), in cuda/steps (its arithmetic), and in
tests/augment/steps (its equal elsewhere). augserver/augment/step_declaration.py says what a declaration holds.
"""

from __future__ import annotations

import importlib
import pkgutil

from augserver.augment.step_declaration import Step

STEPS: dict[str, Step] = {
    name: importlib.import_module(f"{__name__}.{name}").STEP for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
}
"""By op, in the order of the alphabet."""
