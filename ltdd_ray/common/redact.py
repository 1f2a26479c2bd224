"""Removes keys in addresses, such as s3://KEY:SECRET@bucket, from all that is written or shown."""

import re
from typing import Any
from urllib.parse import urlsplit

# An address in a text. A key can hold any sign, a quote and a space too. So what looks like a user
# and a key (`KEY:`, no port) ends at the last @ of the line, and any other address at a space. Only
# the schemes of servers have ports: in s3://KEY:12 34@bucket the digits belong to the key.
_PORT = r"(?:(?<=http:)|(?<=https:)|(?<=ray:)|(?<=hdfs:))//[^\s/:@]+:\d{1,5}(?:[/\s]|$)"
_ADDRESS = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]{{0,30}}:(?:(?!{_PORT})//[^\s/:@]+:[^\n]*@\S*|//\S+)"
)
_AFTER = "'\"`)>]},;:.!"  # signs that close a quoted address, not a part of it


def mask(text: str) -> str:
    """``text`` without the user part of its addresses; values of their options become ***.

    Any option can hold a credential (``sig``, ``pwd``, ``sas``), so no value stays. In
    ``KEY:SECRET@`` the secret may hold ``/``, ``?``, ``#`` and ``@``.
    """
    return _ADDRESS.sub(lambda found: _mask_address(found[0]), text)


def _mask_address(address: str) -> str:
    whole = address.rstrip(_AFTER)
    scheme, _, place = whole.partition("://")
    user, _, after = place.rpartition("@")
    if ":" in user or "@" in re.split("[/?#]", place)[0]:  # else the sign is part of a path
        place = after
    try:
        parts = urlsplit(f"{scheme}://{place}")
    except ValueError:  # such as an open bracket in the host
        return f"{scheme}://***{address[len(whole) :]}"
    shown = f"{scheme}://{parts.netloc}{parts.path}"
    if parts.query:
        shown += "?" + "&".join(map(_mask_option, parts.query.split("&")))
    if parts.fragment:  # the rest of a value that holds a plain #, where there are options
        shown += "#***" if parts.query else f"#{parts.fragment}"
    return shown + address[len(whole) :]


def _mask_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}=***" if equals else "***"


def mask_tree(tree: Any) -> Any:
    """A copy of nested mappings and lists with every string passed through :func:`mask`."""
    if isinstance(tree, dict):
        return {key: mask_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [mask_tree(value) for value in tree]
    return mask(tree) if isinstance(tree, str) else tree
