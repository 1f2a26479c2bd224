"""Record the short runs anew: ``python tests/recorded/record.py --reason "why numbers change"``.

With ``--new`` only the runs that the file lacks are made, and the others stay as they are.

``recorded.json`` keeps the numbers and the reasons of all recordings. ``machine`` made the runs,
except those that ``added_on`` names with the machine that added them.
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
    parser.add_argument("--new", action="store_true", help="add runs, and change none of the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    earlier: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {"reasons": []}
    known = earlier.get("runs", {}) if options.new else {}
    made = {name: make() for name, make in RECORDINGS.items() if name not in known}
    changed = [name for name in made if made[name] != earlier.get("runs", {}).get(name)]
    reason = {
        "date": datetime.now(UTC).date().isoformat(),
        "reason": options.reason,
        "changed": changed,
    }
    content = {
        "machine": earlier["machine"] if known else machine(),
        "added_on": {**earlier.get("added_on", {}), **dict.fromkeys(made, machine())}
        if known
        else {},
        "reasons": [*earlier["reasons"], reason],
        "runs": {name: (known | made)[name] for name in RECORDINGS},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{FILE}: {len(changed)} of {len(RECORDINGS)} recordings changed: {', '.join(changed)}")


if __name__ == "__main__":
    main()
