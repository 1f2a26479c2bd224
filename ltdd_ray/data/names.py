"""Names of classes and files: text that every terminal, file and page can hold."""

import unicodedata
from collections import Counter

# Control characters, halves of surrogate pairs (bytes that are no UTF-8), line separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    r"""``text`` with each character that no terminal can show written as an escape, as \x1b."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE
        or character in _BIDIRECTIONAL
        or ord(character) & 0xFFFE == 0xFFFE  # no character in any version of Unicode
        else character
        for character in text
    )


def class_name(name: object) -> str:
    """The name of a class: printable, composed (NFC), without a byte order mark, never empty."""
    text = unicodedata.normalize("NFC", str(name)).removeprefix("\ufeff")
    return printable(text) or "(no name)"


def repeated(names: tuple[str, ...]) -> list[str]:
    """The names that stand more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
