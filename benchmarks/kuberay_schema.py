"""The manifests of deploy/ against the schema of a version of KubeRay.

    git clone https://github.com/ray-project/kuberay && git -C kuberay checkout v1.5.1
    python benchmarks/kuberay_schema.py kuberay/ray-operator/config/crd/bases/ray.io_rayjobs.yaml

Defaults of the schema are filled in and unknown fields are refused, as `kubectl apply` does with
`--validate=strict`. Prints what is wrong, and exits with 1 if anything is.
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

FOLDER = Path(__file__).parent.parent / "deploy"


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    """The strict JSON schema of version v1 of a CustomResourceDefinition."""
    versions = definition["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes checks it by itself
    return schema


def _close(node: Any) -> None:
    """Refuse properties that the schema does not name; read Kubernetes' number or text."""
    if isinstance(node, list):
        for one in node:
            _close(one)
    if not isinstance(node, dict):
        return
    for one in node.values():
        _close(one)
    if node.get("x-kubernetes-int-or-string") is True:
        node.pop("type", None)
    named = node.get("type") == "object" and isinstance(node.get("properties"), dict)
    if named and not node.get("x-kubernetes-preserve-unknown-fields"):
        node.setdefault("additionalProperties", False)


def fill_in(schema: dict[str, Any], value: Any) -> None:
    """Add the defaults of ``schema`` to ``value``, in place."""
    if isinstance(value, list):
        for one in value:
            fill_in(schema.get("items", {}), one)
    if not isinstance(value, dict):
        return
    for key, below in schema.get("properties", {}).items():
        if "default" in below:
            value.setdefault(key, below["default"])
        if key in value:
            fill_in(below, value[key])


def problems(schema: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    fill_in(schema, manifest)
    found = Draft7Validator(schema).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in found]


def main() -> int:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    schema = schema_of(yaml.safe_load(Path(sys.argv[1]).read_text()))
    wrong = 0
    for file in sorted(FOLDER.glob("rayjob*.yaml")):
        found = problems(schema, yaml.safe_load(file.read_text()))
        print(f"{file.name}: {'; '.join(found) or 'fits'}")
        wrong += len(found)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
