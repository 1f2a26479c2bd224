"""YAML that refuses a key twice in one mapping, where PyYAML drops the first of the two.

It also refuses what would fill the memory or the stack: nested aliases and very deep documents.
"""

from typing import Any

import yaml

from ltdd_ray.common.errors import UserError

MOST_CHARACTERS, MOST_VALUES, DEEPEST = 2_000_000, 100_000, 40


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document; ``where`` names its origin in errors.

    Raises ``UserError`` for a key that a mapping holds twice and for a document whose size, depth
    or repeated aliases no config needs, ``yaml.YAMLError`` for invalid YAML.
    """
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{where}: {len(text):,} characters are no config; name another file")
    loader = _Loader(text)
    loader.where = where
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_bomb(root, where)
        return loader.construct_document(root)
    except RecursionError:
        raise UserError(f"{where}: nested too deeply for a config; flatten it") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML's constructors raise these for values such as 2001-13-01 or `!!int x`.
        raise yaml.YAMLError(f"a value cannot be read ({error})") from None
    finally:
        loader.dispose()


def _refuse_bomb(root: yaml.Node, where: str) -> None:
    """Raise ``UserError`` where aliases unfold to too many values, or contain themselves."""
    sizes: dict[int, int | None] = {}  # of a node with all that its aliases unfold to

    def size(node: yaml.Node, depth: int) -> int:
        if depth > DEEPEST:
            raise UserError(f"{where}: nested deeper than {DEEPEST} levels; flatten it")
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise UserError(f"{where}: an alias contains itself; write its value out")
            return known
        sizes[id(node)] = None
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        total = 1 + sum(size(part, depth + 1) for part in below)
        if total > MOST_VALUES:
            raise UserError(
                f"{where}: aliases unfold to more than {MOST_VALUES:,} values; write them out"
            )
        sizes[id(node)] = total
        return total

    size(root, 0)


class _Loader(yaml.SafeLoader):
    where: str

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Keys are checked before `<<` is expanded, since own keys may replace merged ones."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                places = f"line {line}" if first == line else f"lines {first} and {line}"
                raise UserError(
                    f"{self.where}: the key `{key.value}` stands twice in one mapping ({places}); "
                    "remove one of the two"
                )
            lines[key.value] = line
        return node
