"""The walls between the rooms: who works with Ray or with training code forbidden."""

import pkgutil
import subprocess
import sys

import ltdd_ray

MODULES = [
    module.name
    for module in pkgutil.walk_packages(ltdd_ray.__path__, "ltdd_ray.")
    if not module.name.endswith("__main__")
]
ON_RAY = (
    "ltdd_ray.cluster.session",
    "ltdd_ray.cluster.pool",
    "ltdd_ray.cluster.mailbox",
    "ltdd_ray.cluster.experts",
)
ON_RAY += ("ltdd_ray.cluster.placement", "ltdd_ray.workflows.compare.at_once")
ON_RAY += (
    "ltdd_ray.cluster.evaluation",
    "ltdd_ray.cluster.trajectory",
    "ltdd_ray.cluster.distribution",
    "ltdd_ray.workflows.stages",
    "ltdd_ray.workflows.pipeline",
    "ltdd_ray.workflows.compare.run_methods",
)
ON_RAY += (
    "ltdd_ray.cluster.image_cache",
)  # decodes a large source with Ray Data; the sources import it where they need it
ON_RAY += (
    "ltdd_ray.cluster.metrics",
    "ltdd_ray.workflows.search.tuner",
    "ltdd_ray.workflows.search.run_search",
)  # the rest of the search is plain
TRAINING = ("augment", "losses", "nn", "experts", "distill", "evaluate", "baselines", "search")


def import_without(blocked: list[str], modules: list[str]) -> str:
    """Import ``modules`` in a fresh process that cannot import ``blocked``; what it wrote to stderr."""
    code = (
        "import sys\n"
        + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
        + "".join(f"import {m}\n" for m in modules)
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    ).stderr


def test_only_the_edges_import_ray() -> None:
    core = [name for name in MODULES if name not in ON_RAY]
    assert len(core) > 20
    assert import_without(["ray"], core) == ""


def test_the_edges_do_import_ray() -> None:
    for edge in ON_RAY:
        complaint = import_without(["ray"], [edge])
        halted = (
            "import of ray halted" in complaint or "'ray' is not a package" in complaint
        )  # of ray, or of ray.something
        assert halted, f"{edge} belongs to the core; take it off the list"


def test_the_store_imports_no_training_code() -> None:
    store = [name for name in MODULES if name.startswith("ltdd_ray.store")]
    assert len(store) > 3
    assert (
        import_without(["ray", "torchvision", *(f"ltdd_ray.{room}" for room in TRAINING)], store)
        == ""
    )


def test_the_command_line_parses_before_it_imports_torch() -> None:
    assert (
        import_without(["torch", "ray", "numpy", "pydantic", "yaml", "rich"], ["ltdd_ray.cli.main"])
        == ""
    )
