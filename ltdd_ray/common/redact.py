"""Removes keys in addresses, such as s3://KEY:SECRET@bucket, from all that is written or shown."""

import re
from typing import Any

_USER = re.compile(r"(?<=://)[^/\s@'\"]*@")
_OPTION = re.compile(
    r"([?&][^=&\s]*(?:key|secret|token|password|signature|credential)[^=&\s]*=)[^&\s'\"]*",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """``text`` without the user part of its addresses; values of secret options become ***.

    An option is secret if its name contains key, secret, token, password, signature or credential.
    """
    return _OPTION.sub(r"\1***", _USER.sub("", text))


def mask_tree(tree: Any) -> Any:
    """A copy of nested mappings and lists with every string passed through :func:`mask`."""
    if isinstance(tree, dict):
        return {key: mask_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask_tree(value) for value in tree]
    return mask(tree) if isinstance(tree, str) else tree
