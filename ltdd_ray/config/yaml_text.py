"""YAML that refuses a key twice in one mapping, where PyYAML drops the first of the two."""

from typing import Any

import yaml

from ltdd_ray.common.errors import UserError


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document; ``where`` names its origin in errors.

    Raises ``UserError`` for a key that a mapping holds twice, ``yaml.YAMLError`` for invalid YAML.
    """
    loader = _Loader(text)
    loader.where = where
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


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
