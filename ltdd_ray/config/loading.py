"""Reading the config tree: YAML in, overrides, resolved copy out.

A file may name a parent with ``extends: other.yaml`` (relative to itself); its own values win.
``method: NAME``, in a file or as an override, brings the settings of that method. They win over a
parent's or the file's, and give way to the values that stand beside ``method``. The resolved file
of a run already has them.
Unknown keys are refused with the nearest valid name.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import ValidationError

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import read_text, refuse_impossible, resolved, usable_path
from ltdd_ray.common.hints import nearest
from ltdd_ray.common.redact import mask_tree
from ltdd_ray.common.registry import import_plugins
from ltdd_ray.common.shell import command
from ltdd_ray.config.nested import merge
from ltdd_ray.config.overlays import engine_of, known_methods, last_method, with_method
from ltdd_ray.config.section import Section, require_sections, section_of
from ltdd_ray.config.shipped import find_config, shipped_configs
from ltdd_ray.config.tree import RunConfig
from ltdd_ray.config.yaml_text import parse_yaml

# Keys that only a file of :func:`dump_config` has all of: those of its first version.
RESOLVED = frozenset(
    (
        *("name", "output", "method", "seed", "augmentation"),
        *("data", "model", "experts", "distill", "evaluate", "compute"),
    )
)


def load_config(
    path_or_name: str | Path, overrides: Sequence[str] = (), /, **settings: Any
) -> RunConfig:
    """Read a YAML file or a shipped config, replace settings and validate the whole.

    ``path_or_name`` is a file, or the name of a shipped config such as ``"cifar10_lt/cpu"``
    (``ltdd-ray configs`` lists them). ``settings`` are Python values; their names are dotted keys
    with two underscores for the dot: ``load_config("demo", name="mine", distill__ipc=10)``. A
    mapping replaces the settings that it names and keeps the others of its section. ``overrides``
    are the words after ``--set`` on the command line, ``"distill.ipc=10"``, with YAML values.
    ``method="idm"`` brings the settings of that method; others that are given here win over them.

    Raises ``UserError`` naming the file or setting, the value and the remedy.
    """
    where = str(path_or_name)
    files, plain = _read(where, overrides, settings)
    names = _names(files, overrides, settings)
    at = last_method(names)
    if files[0].keys() >= RESOLVED:
        _refuse_another_method(where, files[0].get("method"), at and names[at])
    elif at is not None:
        below = files[:at]
        tree = with_method(reduce(merge, below, {}), names[at], engine_of(below))
        plain = _changed(reduce(merge, files[at:], tree), overrides, settings)
    return parse_config(plain, where)


def load_base_config(
    path_or_name: str | Path, overrides: Sequence[str] = (), /, **settings: Any
) -> RunConfig:
    """As :func:`load_config`, but of what ``method`` brings the engine alone.

    ``compare`` and ``recommend`` lay methods over it. Over a config of :func:`load_config` the
    settings of its own method would stay where the other method has none.
    """
    where = str(path_or_name)
    files, plain = _read(where, overrides, settings)
    names = [{"method": name} for name in _names(files, overrides, settings)]
    engine = {"distill": {"engine": engine_of([*files, *names])}}
    return parse_config(merge(engine, plain), where)


def _read(
    where: str, overrides: Sequence[str], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The trees of all files, and one tree of them and the overrides; imports its plugins."""
    files = _read_files(find_config(usable_path(where)), ())
    plain = _changed(reduce(merge, files), overrides, settings)
    require_sections(plain, RunConfig, where)
    _import_plugins(plain)
    _refuse_near_miss(_names([], overrides, settings))
    return files, plain


def _refuse_near_miss(names: Sequence[Any]) -> None:
    """Raise ``UserError`` for a chosen name that is nearly that of a method.

    Any other name of no method names the set alone, which a note says.
    """
    for name in names:
        known = name is None or name in known_methods()
        hint = "" if known else nearest(str(name).lower(), known_methods())
        if hint:
            raise UserError(f"method {name}: no method has this name{hint}")


def _names(
    files: Sequence[Mapping[str, Any]], overrides: Sequence[str], settings: Mapping[str, Any]
) -> list[Any]:
    """The ``method`` of each file, then those of the overrides; None where one has none."""
    words = [word.partition("=")[2] for word in overrides if word.startswith("method=")]
    given = [*(parse_yaml(word, "--set method") for word in words), settings.get("method")]
    return [*(tree.get("method") for tree in files), *given]


def _refuse_another_method(where: str, own: Any, wanted: Any) -> None:
    """Raise ``UserError`` where ``wanted`` would be mixed with a finished config's settings."""
    if wanted and wanted != own:
        raise UserError(
            f"{where}: the resolved config of a run of `{own}`, whose settings would stay under "
            f"`{wanted}`; choose the method over the config that the run was started with"
        )


def _changed(
    tree: dict[str, Any], overrides: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of ``tree`` with the overrides, then the settings, of :func:`load_config`."""
    tree = deepcopy(tree)
    for override in overrides:
        _apply_override(tree, override)
    for key, value in settings.items():
        for part in reversed(key.replace("__", ".").split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """Validate a plain tree; ``where`` names its origin in errors."""
    _check_keys(tree, RunConfig, where, "")
    _refuse_no_text(tree, where)
    _import_plugins(tree)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(
            f"{where}: " + "; ".join(map(_describe, _first_causes(error.errors())))
        ) from None


def dump_config(config: RunConfig) -> str:
    """The resolved tree as YAML, readable by :func:`load_config`; addresses without their keys."""
    return yaml.safe_dump(mask_tree(config.model_dump(mode="json")), sort_keys=False, width=120)


def _read_files(path: Path, seen: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The trees of the file at ``path`` and of all that it extends, the last of these first."""
    refuse_impossible(str(path))
    if resolved(path) in seen:
        raise UserError(f"{path}: `extends` leads back to itself; remove one of the links")
    try:
        tree = parse_yaml(read_text(path, "utf-8-sig"), str(path))
    except FileNotFoundError:
        hint = _nearest(path, shipped=not seen) or "`ltdd-ray configs` lists the shipped ones"
        raise UserError(f"{path}: no such config file; {hint}") from None
    except IsADirectoryError:
        near = f"{hint} " if (hint := _nearest(path, shipped=False)) else ""
        raise UserError(
            f"{path}: a folder, not a config file; "
            f"{near}`{command('init', path)}` writes one for a folder of images"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    parent = tree.pop("extends", None)
    if parent is None:
        return [tree]
    return [*_read_files(path.parent / usable_path(str(parent)), (*seen, resolved(path))), tree]


def _import_plugins(tree: Mapping[str, Any]) -> None:
    plugins = tree.get("plugins") or ()
    if isinstance(plugins, list | tuple):  # anything else fails in the validation
        import_plugins([str(module) for module in plugins])


def _nearest(path: Path, shipped: bool) -> str:
    """A hint for a missing file: the config beside it, or a shipped one, with a similar name."""
    beside = {file.stem: file for file in sorted(path.parent.glob("*.y*ml"))}
    near = difflib.get_close_matches(path.stem, beside, n=1)
    if near:
        return f"did you mean {beside[near[0]]}?"
    name = path.with_suffix("") if path.suffix in (".yaml", ".yml") else path
    return nearest(name.as_posix(), shipped_configs()).removeprefix("; ") if shipped else ""


def _apply_override(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UserError(f"--set {override}: expected key=value, for example --set distill.ipc=10")
    *parents, last = dotted.split(".")
    for key in parents:
        node = tree.setdefault(key, {})
        if not isinstance(node, dict):
            raise UserError(f"--set {override}: `{key}` holds a value, not a section")
        tree = node
    try:
        tree[last] = parse_yaml(text, f"--set {override}")
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML; quote it") from None


def _check_keys(tree: Any, section: type[Section], where: str, prefix: str) -> None:
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        field = section.model_fields.get(str(key))
        if field is None:
            known = [prefix + name for name in section.model_fields]
            near = difflib.get_close_matches(
                prefix + str(key), [*known, *_all_keys(RunConfig, "")], n=1, cutoff=0.0
            )
            raise UserError(f"{where}: unknown key `{prefix}{key}`; did you mean `{near[0]}`?")
        below = section_of(field)
        if below is None:
            continue
        parts = {f"{prefix}{key}.": value}
        if get_origin(field.annotation) is dict and isinstance(value, dict):
            parts = {f"{prefix}{key}.{name}.": part for name, part in value.items()}
        elif isinstance(value, list | tuple):
            parts = {f"{prefix}{key}.{index}.": part for index, part in enumerate(value)}
        for place, part in parts.items():
            _check_keys(part, below, where, place)


def _refuse_no_text(tree: Any, where: str, place: str = "") -> None:
    """Raise ``UserError`` for text that no UTF-8 file holds, as the bytes of another encoding."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            _refuse_no_text(value, where, f"{place}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            _refuse_no_text(value, where, f"{place}.{index}")
    elif isinstance(tree, str) and not tree.isascii():
        try:
            tree.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{where}: `{place}` = {tree!r}: not UTF-8, so no file of a run can hold it; "
                "correct it, or rename what it names"
            ) from None


def _all_keys(section: type[Section], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        below = section_of(field)
        if below is not None and get_origin(field.annotation) not in (dict, tuple):
            keys += _all_keys(below, f"{prefix}{name}.")
    return keys


def _describe(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"`{place}` is missing; set it in the file or with --set {place}=..."
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], int | float | date):
        message += f"; quote it, as in --set '{place}=\"{error['input']}\"'"
    if error["type"] == "string_type" and error["input"] is None:
        message += "; YAML reads nothing, and what begins with #, as null: quote it"
    if error["type"] == "tuple_type":
        example = error["input"] if isinstance(error["input"], str) else "a, b"
        message = f"expected a list, such as [{example}]"
    if error["type"] == "literal_error":
        message += nearest(str(error["input"]), re.findall("'([^']*)'", error["ctx"]["expected"]))
    if not place or isinstance(error["input"], dict):  # the sentence names the keys of a section
        return message
    return f"`{place}` = {error['input']!r}: {message[0].lower()}{message[1:]}"


def _first_causes(errors: list[Any]) -> list[Any]:
    """``errors`` without those of a section that only follow from an error inside it."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if not any(
            len(p) > len(error["loc"]) and p[: len(error["loc"])] == error["loc"] for p in places
        )
    ]
