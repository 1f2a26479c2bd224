"""Commands in messages, written so that a person can paste them into a shell."""

import shlex
from pathlib import Path


def command(*words: str | Path) -> str:
    """``ltdd-ray`` with ``words``, quoted where a shell would divide or expand one.

    A path that begins with ``-`` would be read as an option and gets ``./`` before it.
    """
    plain = [
        f"./{word}" if isinstance(word, Path) and str(word)[0] == "-" else str(word)
        for word in words
    ]
    return shlex.join(["ltdd-ray", *plain])
