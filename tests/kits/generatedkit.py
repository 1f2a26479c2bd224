"""Trees of JSON, altered at random places, for tests that drive readers of files with them."""

from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

DROP = object()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def generated(examples: int) -> settings:
    """The same ``examples`` at every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )


def altered(data: st.DataObject, tree: Any) -> Any:
    """A copy of ``tree`` with one or two of its values replaced or dropped."""
    tree = deepcopy(tree)
    for path in data.draw(st.lists(st.sampled_from([*everywhere(tree)]), min_size=1, max_size=2)):
        try:
            set_at(tree, path, data.draw(VALUES | st.just(DROP)))
        except (KeyError, IndexError, TypeError):  # inside of a value replaced before
            continue
    return tree


def set_at(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    if value is DROP:
        del tree[path[-1]]
    else:
        tree[path[-1]] = value


def everywhere(tree: Any, path: tuple[Any, ...] = ()):
    """The place of every value in a tree of mappings and lists."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from everywhere(value, (*path, key))
