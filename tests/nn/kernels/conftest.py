"""Shared by the tests of the fused kernels."""

import pytest

from ltdd_ray.nn.kernels import build


@pytest.fixture(params=["compiled", "reference"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the C kernels, and with torch's operations in their place."""
    if request.param == "reference":
        monkeypatch.setattr(build, "load_kernels", lambda real: None)
    elif build.load_kernels("float") is None:
        pytest.skip("no C compiler")
    return request.param
