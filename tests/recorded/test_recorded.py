"""Today's numbers against the recorded ones.

On the machine of the recording they must be equal to the last bit, except the estimated class
prior: scikit-learn sums it with as many threads as it finds. Elsewhere sums are taken in another
order, so numbers may differ by BOUND, and those of two steps of GSAM, which magnify rounding, by
GSAM_BOUND. Shares of predicted images jump when one image changes sides, so they have SHARE_BOUND.
An inner product is measured against the norm of its tensor, as it may be near 0.

A failure means that results changed. Where that is wanted, record again and give the reason:
``python tests/recorded/record.py --reason "..."``.
"""

import json
import math

import pytest
from record import FILE, machine
from recordings import RECORDINGS, Numbers

from ltdd_ray.methods import METHODS

BOUND, GSAM_BOUND, SHARE_BOUND = 1e-4, 1e-2, 0.15
SHARES = ("accuracy", "per_class", "score", "error")
THREADED = "/prior/"
RECORDED = json.loads(FILE.read_text())
HERE = machine()


def differences(found: Numbers, recorded: Numbers, exact: bool, bound: float = BOUND) -> list[str]:
    """A line for each number that differs by more than is allowed, or that one side lacks."""

    def equal(name: str, value: float) -> bool:
        if exact and THREADED not in name:
            return found[name] == value
        if any(word in name for word in SHARES):
            return abs(found[name] - value) <= SHARE_BOUND * max(1, abs(value))
        scale = recorded.get(name.removesuffix("dot") + "norm", 0.0) if name.endswith("/dot") else 0
        return math.isclose(found[name], value, rel_tol=bound, abs_tol=bound * max(scale, 1e-3))

    missing = [f"{name}: only on one side" for name in found.keys() ^ recorded.keys()]
    return missing + [
        f"{name}: {found[name]!r}, recorded {value!r}"
        for name, value in recorded.items()
        if name in found and not equal(name, value)
    ]


@pytest.mark.parametrize("name", RECORDINGS)
def test_numbers_are_those_recorded(name: str) -> None:
    bound = GSAM_BOUND if "gsam" in name else BOUND
    exact = RECORDED["added_on"].get(name, RECORDED["machine"]) == HERE
    found = differences(RECORDINGS[name](), RECORDED["runs"][name], exact, bound)
    assert not found, f"{len(found)} numbers differ:\n" + "\n".join(found[:20])


def test_every_recording_is_kept_and_has_a_reason() -> None:
    assert set(RECORDED["runs"]) == set(RECORDINGS)
    assert RECORDED["reasons"] and all(one["reason"] for one in RECORDED["reasons"])


def test_every_method_has_a_recording() -> None:
    """A method that distils has a run of its name, a selection numbers that begin with it."""
    numbers = {name.partition("/")[0] for run in RECORDED["runs"].values() for name in run}
    assert set(METHODS) <= {*RECORDED["runs"], *numbers}


def test_a_changed_number_is_found() -> None:
    recorded = {"loss": 1.0, "accuracy": 0.5}
    assert differences({"loss": 1.0, "accuracy": 0.5}, recorded, exact=True) == []
    assert len(differences({"loss": math.nextafter(1, 2), "accuracy": 0.5}, recorded, True)) == 1
    assert differences({"loss": 1.00005, "accuracy": 0.6}, recorded, exact=False) == []
    assert len(differences({"loss": 1.01, "accuracy": 0.7}, recorded, exact=False)) == 2
    assert len(differences({"loss": 1.0, "other": 0.5}, recorded, exact=False)) == 2
    assert len(differences({"loss": math.nan, "accuracy": 0.5}, recorded, exact=False)) == 1


def test_an_inner_product_is_measured_against_its_norm_and_the_prior_by_a_bound() -> None:
    recorded = {"theta/norm": 100.0, "theta/dot": 0.001, "a/prior/norm": 1.0}
    near = {"theta/norm": 100.0, "theta/dot": 0.009, "a/prior/norm": 1.00001}
    far = {"theta/norm": 100.0, "theta/dot": 0.02, "a/prior/norm": 1.01}
    assert differences(near, recorded, exact=False) == []
    assert len(differences(far, recorded, exact=False)) == 2
    assert len(differences(near, recorded, exact=True)) == 1
