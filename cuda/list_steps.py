"""Write the list of recipe steps that the kernel is built with: a new header in steps/ needs no entry anywhere.

    python list_steps.py FOLDER     writes all_steps.h and step_list.h there, unless they stand there as they should

Run by CMakeLists.txt, and by `augserver build-kernels`, from where this file is.
"""

import sys
from pathlib import Path


def main(folder: Path) -> None:
    names = sorted(header.stem for header in Path(__file__).with_name("steps").glob("*.h"))
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "all_steps.h": "#pragma once\n\n" + "".join(f'#include "steps/{name}.h"\n' for name in names),
        "step_list.h": "".join(f"AUG_STEP({name})\n" for name in names) + "#undef AUG_STEP\n",
    }
    for name, text in texts.items():
        file = folder / name
        if not file.is_file() or file.read_text() != text:  # a compiler's cache goes by the time
            file.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
