"""HEIC photos, as phones store them. The package pillow-heif, which is optional, reads them."""

from functools import cache
from pathlib import Path

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import open_regular

EXTENSIONS = (".heic", ".heif", ".hif")
FORMAT = "HEIF"  # its name in Pillow
# Such a file begins with the length of a box, the box's name `ftyp` and one of these brands.
_BRANDS = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),
)
REMEDY = "is a HEIC photo; `pip install pillow-heif` to read it, or convert it to JPEG"


@cache
def readable() -> bool:
    """Whether pillow-heif is installed. If it is, Pillow can open :data:`FORMAT` from now on."""
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    register_heif_opener()
    return True


def is_heic(content: Path | bytes) -> bool:
    """Whether a file, or its bytes, begin as a HEIC photo does; false for an unreadable file."""
    if isinstance(content, bytes):
        head = content[:12]
    else:
        try:
            with open_regular(content) as file:
                head = file.read(12)
        except (OSError, ValueError, UserError):
            return False
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS
