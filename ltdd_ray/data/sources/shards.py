"""Names of parquet files that tell of missing images, or of images that would count twice."""

import re

from ltdd_ray.common.errors import UserError

# How browsers, macOS and Windows name a second copy of NAME.parquet.
_COPY = r"(?i)( ?\(\d+\)| copy( \d+)?| - copy( \(\d+\))?)\.parquet$"


def refuse_copies(files: list[str]) -> None:
    """Raise ``UserError`` for a file that is named like a second copy of another one."""
    for file in files:
        original = re.sub(_COPY, ".parquet", file)
        if original != file and original in files:
            raise UserError(
                f"{file} looks like a second download or a copy of {original}, which would count "
                "its images twice; remove one of them, or rename it if its images are others"
            )


def refuse_missing_shards(files: list[str]) -> None:
    """Raise ``UserError`` where shards are missing, or are there twice.

    They are numbered as ``NAME-00000-of-00002.parquet``, from 0 or from 1. Two files of one number,
    or of two totals, are two exports of the same images.
    """
    shards: dict[str, dict[tuple[int, int], tuple[str, str]]] = {}
    for file in files:
        if found := re.search(r"^(.*)-(\d{1,9})-of-(\d{1,9})\b", file):
            known, place = shards.setdefault(found[1], {}), (int(found[2]), int(found[3]))
            other = known.get(place) or next(
                (one for (_, count), one in known.items() if count != place[1]), None
            )
            if other:
                raise UserError(
                    f"{other[0]} and {file} are of two exports of one part, which would count "
                    "images twice; remove the files of one"
                )
            known[place] = file, found[0]
    for name, known in shards.items():
        numbers, ((_, count), (_, like)) = {k for k, _ in known}, next(iter(known.items()))
        wanted = range(1, count + 1) if count in numbers and 0 not in numbers else range(count)
        if len(numbers) < count:
            missing = next(k for k in wanted if k not in numbers)
            width = len(like.removeprefix(f"{name}-").partition("-")[0])
            raise UserError(
                f"{name}-{missing:0{width}d}-of-{count:0{width}d}.parquet is missing, "
                f"{len(numbers)} of {count} files are there; download the rest"
            )
