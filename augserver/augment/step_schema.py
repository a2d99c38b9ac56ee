"""What a client knows of the steps without a server: `python -m augserver.augment.step_schema` writes client/augclient/steps.json."""

from __future__ import annotations

import json

from augserver.augment.step_declaration import Drawn
from augserver.augment.steps import STEPS


def schema() -> str:
    """JSON: op -> whether it augments, and its drawn keys, whose ranges give way to their middle where nothing is augmented."""
    steps = {
        op: {"augments": step.augments, "drawn": [name for name, key in step.keys.items() if isinstance(key, Drawn)]}
        for op, step in STEPS.items()
    }
    return json.dumps(steps, indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
