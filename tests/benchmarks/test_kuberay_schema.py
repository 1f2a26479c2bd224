"""The check of the manifests finds what a schema refuses, by a small schema of the same form."""

from typing import Any

import pytest
from kuberay_schema import problems, schema_of

NUMBER_OR_TEXT = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
GROUP = {
    "type": "object",
    "required": ["name", "minReplicas"],
    "properties": {
        "name": {"type": "string"},
        "minReplicas": {"type": "integer", "default": 0},
        "cpu": {"x-kubernetes-int-or-string": True, **NUMBER_OR_TEXT},
        "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
    },
}
SPEC = {"type": "object", "properties": {"groups": {"type": "array", "items": GROUP}}}
PROPERTIES = {"metadata": {"type": "object"}, "spec": SPEC}


def crd() -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": dict(PROPERTIES)}}
    return {"spec": {"versions": [{"name": "v1alpha1"}, {"name": "v1", "schema": schema}]}}


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"name": "gpu", "cpu": 2, "free": {"any": 1}}, []),
        ({"name": "gpu", "cpu": "500m"}, []),
        ({"name": "gpu", "replica": 4}, ["spec.groups.0: Additional properties are not allowed"]),
        ({"cpu": 2}, ["spec.groups.0: 'name' is a required property"]),
        ({"name": 3}, ["spec.groups.0.name: 3 is not of type 'string'"]),
    ],
)
def test_what_a_schema_refuses_is_named(group: dict[str, Any], said: list[str]) -> None:
    manifest = {"metadata": {"name": "a", "labels": {}}, "spec": {"groups": [group]}}
    found = problems(schema_of(crd()), manifest)
    assert [one[: len(start)] for one, start in zip(found, said, strict=True)] == said
    assert group["minReplicas"] == 0
