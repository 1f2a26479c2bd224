"""One driver at a time for a run at an address.

Object stores have no locks. A driver writes an object with its name, and writes it again every few
seconds (:data:`SECONDS_BETWEEN_SIGNS`). Another driver that finds the object watches it: one that
changes belongs to a live driver, one that stays as it is was left by a driver that was killed. Two
drivers that start within the same moment may both get through; the one whose object was replaced
by the other's finds that out at its next sign, and stops. Until then both have written the same
files, since equal configs give equal results.
"""

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from pyarrow import fs

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask
from ltdd_ray.runs.events import now
from ltdd_ray.store.location import storage_errors

CLAIM = ".driver.json"
SECONDS_BETWEEN_SIGNS = 5.0
SECONDS_OF_SILENCE = 15.0  # an object that stays as it is for so long was left behind
READS, SECONDS_BETWEEN_READS = 4, 0.1  # of an object that is no claim


class ClaimedError(UserError):
    """Another driver works on the run."""


class Claim:
    """The claim of this process on the run in the folder ``path``; ``place`` is for errors."""

    def __init__(self, filesystem: fs.FileSystem, path: str, place: str) -> None:
        self._filesystem, self._folder, self._place = filesystem, path, place
        command = mask(" ".join(sys.argv))[:200]
        self._holder = f"process {os.getpid()} on {socket.gethostname()} ({command})"
        self._id, self._signs = uuid.uuid4().hex, 0

    def take(self, say: Callable[[str], None]) -> None:
        """Claim the run; waits for as long as a claim may be that of a live driver.

        ``say`` gets a sentence before the wait. Raises ``ClaimedError`` where another driver works
        on the run, and ``UserError`` where the address cannot be read or written.
        """
        with storage_errors(self._place, "claim the run"):
            found = self._read()
            if found is not None:
                say(
                    f"{found['holder']} worked on this run last and did not end it; looking for "
                    f"{SECONDS_OF_SILENCE:.0f} s whether it still does"
                )
                end = time.monotonic() + SECONDS_OF_SILENCE
                while time.monotonic() < end:
                    time.sleep(SECONDS_BETWEEN_SIGNS / 5)
                    if (seen := self._read()) is None:
                        break
                    if seen != found:
                        raise self._in_use(seen)
            self._write()

    def renew(self) -> None:
        """Give a sign of life. Raises ``ClaimedError`` where another driver has claimed the run."""
        with storage_errors(self._place, "claim the run"):
            found = self._read()
            if found is not None and found["id"] != self._id:
                raise self._in_use(found)
            self._write()

    def release(self) -> None:
        """Give the run up, unless another driver has claimed it."""
        with storage_errors(self._place, "give up the run"), suppress(FileNotFoundError):
            found = self._read()
            if found is not None and found["id"] == self._id:
                self._filesystem.delete_file(f"{self._folder}/{CLAIM}")

    def _in_use(self, found: dict[str, str]) -> ClaimedError:
        return ClaimedError(
            f"{self._place}: the run is in use by {found['holder']}; wait until it ends, or choose "
            "another name with --set name=..."
        )

    def _read(self) -> dict[str, str] | None:
        """The claim that is there. An object that stays none counts as that of another driver.

        It is read again first, since a read in the middle of a replacement finds no claim. Taken at
        its word, that would stop the driver that holds the run, or hide its name from another.
        """
        for attempt in range(READS):
            if attempt:
                time.sleep(SECONDS_BETWEEN_READS)
            try:
                with self._filesystem.open_input_stream(f"{self._folder}/{CLAIM}") as stream:
                    found = json.loads(stream.read())
                return {key: str(found[key]) for key in ("holder", "id", "sign")}
            except FileNotFoundError:
                return None
            except (ValueError, TypeError, KeyError):
                continue
        return {"holder": "an unknown process", "id": "", "sign": ""}

    def _write(self) -> None:
        self._signs += 1
        claim = {"holder": self._holder, "id": self._id, "sign": self._signs, "time": now()}
        content = json.dumps(claim).encode()
        file = f"{self._folder}/{CLAIM}"
        try:
            stream = self._filesystem.open_output_stream(file)
        except FileNotFoundError:  # this file system has folders that must exist
            self._filesystem.create_dir(self._folder, recursive=True)
            stream = self._filesystem.open_output_stream(file)
        with stream:
            stream.write(content)
