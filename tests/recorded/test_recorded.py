"""Today's numbers against the recorded ones.

On the machine of the recording they must be equal to the last bit. Elsewhere sums are taken in
another order, so numbers may differ by BOUND of the larger one, and shares of predicted images,
which jump when one image changes sides, by SHARE_BOUND.

A failure means that results changed. Where that is wanted, record again and give the reason:
``python tests/recorded/record.py --reason "..."``.
"""

import json
import math

import pytest
from record import FILE, machine
from recordings import RECORDINGS, Numbers

BOUND, SHARE_BOUND = 2e-3, 0.15
SHARES = ("accuracy", "per_class", "score", "error")
RECORDED = json.loads(FILE.read_text())
SAME_MACHINE = RECORDED["machine"] == machine()


def differences(found: Numbers, recorded: Numbers, exact: bool) -> list[str]:
    """A line for each number that differs by more than is allowed, or that one side lacks."""
    missing = [f"{name}: only on one side" for name in found.keys() ^ recorded.keys()]
    return missing + [
        f"{name}: {found[name]!r}, recorded {value!r}"
        for name, value in recorded.items()
        if name in found and not _equal(name, found[name], value, exact)
    ]


def _equal(name: str, found: float, recorded: float, exact: bool) -> bool:
    if exact:
        return found == recorded
    if any(word in name for word in SHARES):
        return abs(found - recorded) <= SHARE_BOUND * max(1, abs(recorded))
    return math.isclose(found, recorded, rel_tol=BOUND, abs_tol=BOUND)


@pytest.mark.parametrize("name", RECORDINGS)
def test_numbers_are_those_recorded(name: str) -> None:
    found = differences(RECORDINGS[name](), RECORDED["runs"][name], SAME_MACHINE)
    assert not found, f"{len(found)} numbers differ:\n" + "\n".join(found[:20])


def test_every_recording_is_kept_and_has_a_reason() -> None:
    assert set(RECORDED["runs"]) == set(RECORDINGS)
    assert RECORDED["reasons"] and all(one["reason"] for one in RECORDED["reasons"])


def test_a_changed_number_is_found() -> None:
    recorded = {"loss": 1.0, "accuracy": 0.5}
    assert differences({"loss": 1.0, "accuracy": 0.5}, recorded, exact=True) == []
    assert len(differences({"loss": math.nextafter(1, 2), "accuracy": 0.5}, recorded, True)) == 1
    assert differences({"loss": 1.001, "accuracy": 0.6}, recorded, exact=False) == []
    assert len(differences({"loss": 1.01, "accuracy": 0.7}, recorded, exact=False)) == 2
    assert len(differences({"loss": 1.0, "other": 0.5}, recorded, exact=False)) == 2
    assert len(differences({"loss": math.nan, "accuracy": 0.5}, recorded, exact=False)) == 1
