"""A run whose ``output`` is an address: it works in a folder of this machine and is mirrored there.

What goes there: finished files, checkpoints when they are written, events and progress every few
seconds. The experts and Ray Train's checkpoints are written there directly, without this folder.
A worker on another node has such a folder, too, which it brings in step before it reads and after
it has written (:func:`mirrored_distillation`, :func:`bring_set`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from threading import Event, Thread

from pyarrow import fs

from ltdd_ray.common.address import cache_folder, is_address, shown
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.runs.claim import SECONDS_BETWEEN_SIGNS, Claim, ClaimedError
from ltdd_ray.runs.mirror import CHECKPOINTS, EXPERTS, Mirror
from ltdd_ray.store.location import open_address, storage_errors

OF_DISTILLATION = ("distilled", "tensorboard")  # what the process that distils writes


@contextmanager
def mirrored_distillation(
    config: RunConfig, left_out: Sequence[str] = ()
) -> Iterator[Callable[[], None]]:
    """For the process that distils, on any node: bring its files down, and at the end up.

    Yields a function that brings them up at once. Does nothing for a run without an address.
    """
    if config.address is None:
        yield lambda: None
        return
    mirror = Mirror.at(config.address, config.folder, OF_DISTILLATION, left_out)
    mirror.pull()
    yield mirror.push
    mirror.push()


def bring_set(config: RunConfig) -> None:
    """Bring the distilled set down to this node; nothing for a run without an address."""
    if config.address is not None:
        Mirror.at(config.address, config.folder, ("distilled",), (CHECKPOINTS,)).pull()


class RemoteRun:
    """The driver's side: the mirror of the whole run, and the claim on it.

    ``say`` gets a sentence where uploads in the background begin to fail. They are tried again, so
    an outage between two stages costs nothing.
    """

    def __init__(self, mirror: Mirror, claim: Claim, say: Callable[[str], None]) -> None:
        self._mirror, self._claim, self._say = mirror, claim, say
        self._lost: ClaimedError | None = None
        self._ended = Event()
        # Signs of life must not wait for a long upload.
        steps = {"claim": claim.renew, "mirror": mirror.push}
        self._threads = [
            Thread(target=self._repeat, args=(step,), name=name, daemon=True)
            for name, step in steps.items()
        ]
        for thread in self._threads:
            thread.start()

    def pull(self) -> None:
        """Bring down what workers on other nodes have written."""
        self._mirror.pull()

    def push(self) -> None:
        """Upload what is new. Raises ``UserError`` where that fails, and as :meth:`check` does."""
        self.check()
        self._mirror.push()

    def check(self) -> None:
        """Raise ``ClaimedError`` if another driver has taken the run over."""
        if self._lost:
            raise self._lost

    def end(self) -> None:
        """End the threads, upload the rest and give the run up. Errors: see :meth:`push`."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        try:
            self.push()
        finally:
            self._release()

    def _release(self) -> None:
        with suppress(UserError):  # a claim that stays costs the next driver some seconds
            self._claim.release()

    def _repeat(self, step: Callable[[], None]) -> None:
        failing = False
        while not self._ended.wait(SECONDS_BETWEEN_SIGNS) and not self._lost:
            try:
                step()
                failing = False
            except ClaimedError as error:
                self._lost = error
                return
            except UserError as error:
                if not failing:
                    self._say(f"{error}; it is tried again every {SECONDS_BETWEEN_SIGNS:.0f} s")
                failing = True


@contextmanager
def remote_run(config: RunConfig, say: Callable[[str], None]) -> Iterator[RemoteRun | None]:
    """Keep the run's folder in step with its address within the block; None without an address.

    At the start the folder receives what the address holds. Raises ``UserError`` where another
    driver works on the run, and where the address cannot be read or written, at the start or at the
    end.
    """
    if config.address is None:
        yield None
        return
    filesystem, path = open_address(config.address, "runs")
    place = shown(config.address)
    mirror = Mirror(filesystem, path, place, config.folder, left_out=(EXPERTS, CHECKPOINTS))
    claim = Claim(filesystem, path, place)
    claim.take(say)
    try:
        mirror.pull()
    except BaseException:
        with suppress(UserError):
            claim.release()
        raise
    run = RemoteRun(mirror, claim, say)
    try:
        yield run
    except BaseException:
        try:
            run.end()
        except UserError as error:  # what ended the run matters more
            say(str(error))
        raise
    run.end()


def place_of(config: RunConfig, path: str) -> str:
    """``path`` in the run's folder as people see it: at the address, if the run has one."""
    folder = str(config.folder)
    if config.address is None or not path.startswith(folder):
        return path
    return shown(config.address) + path.removeprefix(folder)


def local_copy(place: str | PathLike[str], parts: Sequence[str] = ()) -> Path:
    """``place`` as a path; for an address, that of a copy of its files, or of ``parts`` of them.

    The address is that of a run, of its folder ``distilled`` or of one file. Experts and
    checkpoints are not copied. Raises ``UserError`` where nothing is there.
    """
    if not is_address(place):
        return Path(place)
    address, place = str(place), shown(str(place))
    filesystem, path = open_address(address, "runs")
    path, name = path.rstrip("/"), ""
    with storage_errors(place, "read the run"):
        kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.NotFound:
        raise UserError(f"{place}: nothing is there; give the address of a run, OUTPUT/NAME")
    if kind == fs.FileType.File:
        path, _, name = path.rpartition("/")
        parts = (name,)
    folder = cache_folder(address, "copies")
    Mirror(filesystem, path, place, folder, parts, left_out=(EXPERTS, CHECKPOINTS)).pull()
    return folder / name
