"""Keys that hide in addresses, such as s3://KEY:SECRET@bucket: taken out of everything that is written or shown."""

import re
from typing import Any

_USER = re.compile(r"(?<=://)[^/\s@'\"]*@")
_OPTION = re.compile(
    r"([?&][^=&\s]*(?:key|secret|token|password|signature|credential)[^=&\s]*=)[^&\s'\"]*",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """``text`` with every address in it rid of its user part, and of the values of options that name a secret."""
    return _OPTION.sub(r"\1***", _USER.sub("", text))


def mask_tree(tree: Any) -> Any:
    """A nested structure of mappings and lists with every string through :func:`mask`."""
    if isinstance(tree, dict):
        return {key: mask_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask_tree(value) for value in tree]
    return mask(tree) if isinstance(tree, str) else tree
