"""The Triton kernels, compiled for an H100 (sm_90), which needs no GPU: no registers spill.

A thread that lacks registers keeps values on a stack in slow memory.
"""

import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CAPABILITY, WARP = 90, 32
WIDTH = 128
# Pixels per side of a block's images in networks for 32 and 64 pixels, one for each tile shape.
SIDES = {64: (128, 8), 16: (64, 16), 8: (16, 64)}
SINGLE = {"gamma", "beta", "gamma_dot", "beta_dot", "stats", "sums"}  # never in half precision
KERNELS = ["_forward", "_backward", "_tangent_forward", "_tangent_backward"]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    from ltdd_ray.nn.kernels import triton

    return triton


def compiled(kernels: Any, kernel: Any, side: int, real: str, extra: dict[str, bool]) -> Any:
    """``kernel`` as a launch on images of ``side`` pixels compiles it."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    windows, channels = kernels.tile_shape(side, side, WIDTH)
    constants = {"Q": windows, "K": channels, **extra}
    integers = {"images": 500, "height": side // 2, "width": side // 2, "channels": WIDTH}
    names = list(inspect.signature(kernel.fn).parameters)
    types = {name: "*fp32" if name in SINGLE else f"*{real}" for name in names}
    types |= dict.fromkeys(integers, "i32") | dict.fromkeys(constants, "constexpr")
    types["eps"] = "fp32"
    # Triton compiles for what it sees at a launch: here, multiples of 16.
    known = [
        n for n in names if types[n].startswith("*") or (n in integers and integers[n] % 16 == 0)
    ]
    source = ASTSource(
        kernel,
        types,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in known},
    )
    return compile(source, target=GPUTarget("cuda", CAPABILITY, WARP), options=kernels.OPTIONS)


def registers_and_stack(cubin: bytes, folder: Path) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, as the assembler has written them down."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    shown = subprocess.run(
        [tool, "--dump-resource-usage", file], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", shown)
    assert found, shown
    return int(found[1]), int(found[2])


def cases() -> Iterator[tuple[str, int, dict[str, bool]]]:
    for name in KERNELS:
        tangent = name.startswith("_tangent")
        for side in SIDES:
            yield name, side, {"EXTRA": True} if tangent else {}
        if tangent:
            yield name, max(SIDES), {"EXTRA": False}


def test_every_tile_shape_is_compiled(kernels: Any) -> None:
    sides = [32, 16, 8, 64, 32, 16, 8]
    assert {kernels.tile_shape(side, side, WIDTH) for side in sides} == set(SIDES.values())
    assert {side: kernels.tile_shape(side, side, WIDTH) for side in SIDES} == SIDES


@pytest.mark.parametrize("real", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "side", "extra"), list(cases()))
def test_no_kernel_spills(
    kernels: Any, tmp_path: Path, name: str, side: int, extra: dict[str, bool], real: str
) -> None:
    done = compiled(kernels, getattr(kernels, name), side, real, extra)
    registers, stack = registers_and_stack(done.asm["cubin"], tmp_path)
    assert 16 <= registers < 255
    assert stack == 0
    # A mean takes one sum over a program's threads, however many tiles and pixels it has.
    sums = 4 if name.startswith("_tangent") else 2
    assert done.asm["ttgir"].count('"tt.reduce"') == sums
