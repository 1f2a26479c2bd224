"""Record the short runs anew: ``python tests/recorded/record.py --reason "why numbers change"``.

``recorded.json`` keeps the numbers, the machine they are from and the reasons of all recordings.
"""

import argparse
import json
import platform
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from recordings import RECORDINGS

FILE = Path(__file__).with_name("recorded.json")


def machine() -> dict[str, str]:
    """What decides the last bits of a sum: the processor, PyTorch and its vector instructions."""
    told = (
        Path("/proc/cpuinfo").read_text().split("\n\n")[0] if platform.system() == "Linux" else ""
    )
    kept = ("model name", "cpu family", "model\t", "stepping", "flags", "cache size")
    lines = [line for line in told.splitlines() if line.startswith(kept)]
    return {
        "torch": torch.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "processor": sha256("\n".join(lines).encode()).hexdigest()[:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reason", required=True, help="why the numbers change, for the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    earlier: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {"reasons": []}
    runs = {name: make() for name, make in RECORDINGS.items()}
    changed = [name for name in runs if runs[name] != earlier.get("runs", {}).get(name)]
    reason = {
        "date": datetime.now(UTC).date().isoformat(),
        "reason": options.reason,
        "changed": changed,
    }
    content = {"machine": machine(), "reasons": [*earlier["reasons"], reason], "runs": runs}
    FILE.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{FILE}: {len(changed)} of {len(runs)} recordings changed: {', '.join(changed)}")


if __name__ == "__main__":
    main()
