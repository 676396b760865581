"""The code of published processors, written again beside them wherever they are saved again.

As `modeling_updown/saving_updown.py` does it for models; the processors import nothing of those.
"""

import os
import shutil
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files


def write_code(file: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Copy a file of ours, and the files beside it that it imports, into a folder, which is made.

    A link to such a file stays; one to another file is replaced, and what it led to is left alone.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for source in map(Path, (file, *get_relative_import_files(file))):
        target = Path(folder) / source.name
        if not target.exists() or not target.samefile(source):
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
