import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ltdd_ray.common.errors import UserError
from ltdd_ray.data.dataset import LongTailedDataset
from ltdd_ray.data.mapped import MappedImages, open_shard, write_shard
from ltdd_ray.data.normalisation import Normalisation
from ltdd_ray.data.prepare import LazyImages, model_space

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 3, 4, 5), dtype=np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> MappedImages:
    """PIXELS in three files of ten images at most."""
    files = []
    for start in range(0, 23, 10):
        files.append(str(tmp_path / f"{start}.arrow"))
        write_shard(Path(files[-1]), PIXELS[start : start + 10])
    return MappedImages(tuple(files), 10, (3, 4, 5), np.arange(23), "some list")


def test_rows_of_any_file_in_any_order(mapped: MappedImages) -> None:
    order = np.random.default_rng(1).permutation(23)
    assert np.array_equal(mapped[order], PIXELS[order])
    assert np.array_equal(mapped[order.tolist()], PIXELS[order])
    assert np.array_equal(mapped[7:21], PIXELS[7:21])
    assert np.array_equal(mapped.take(order)[3:9], PIXELS[order][3:9])
    assert (mapped.shape, mapped.take(order[:4]).shape, len(mapped)) == (
        (23, 3, 4, 5),
        (4, 3, 4, 5),
        23,
    )


def test_a_shard_is_mapped_not_read(mapped: MappedImages) -> None:
    shard = open_shard(Path(mapped.files[0]))
    assert not shard.flags.owndata and np.array_equal(shard, PIXELS[:10])
    maps, descriptors = Path("/proc/self/maps"), Path("/proc/self/fd")
    if maps.exists():
        assert mapped.files[0] in maps.read_text()
        assert mapped.files[0] not in {str(entry.resolve()) for entry in descriptors.iterdir()}, (
            "a descriptor per shard is too many"
        )


def test_only_file_names_and_row_numbers_are_pickled(mapped: MappedImages) -> None:
    assert np.array_equal(mapped[:], PIXELS)  # the files are open now
    sent = pickle.dumps(mapped)
    assert PIXELS[0].tobytes() not in sent
    assert np.array_equal(pickle.loads(sent)[5:8], PIXELS[5:8])


@pytest.mark.parametrize("damage", ["cut", "nothing", "gone"])
def test_a_damaged_file_is_named(mapped: MappedImages, damage: str) -> None:
    file = Path(mapped.files[1])
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(
        UserError, match=r"10.arrow is not a readable image cache .* fills it again"
    ):
        mapped[12:13]


def test_a_dataset_leaves_mapped_images_on_disk(mapped: MappedImages) -> None:
    labels = np.arange(23) % 3
    dataset = LongTailedDataset(mapped, labels, ("a", "b", "c"))
    subset = dataset.subset(np.array([22, 0, 11, 4]))
    assert isinstance(subset.images, MappedImages) and subset.bytes_in_memory == 0
    assert np.array_equal(subset.images[:], PIXELS[[22, 0, 11, 4]])
    assert dataset.fingerprint == LongTailedDataset(mapped, labels, ("a", "b", "c")).fingerprint
    assert (
        len(
            {
                dataset.fingerprint,
                subset.fingerprint,
                dataset.subset(np.array([0, 22, 11, 4])).fingerprint,
            }
        )
        == 3
    )


@pytest.mark.parametrize("kind", ["standard", "zca", "zca_raw"])
def test_model_space_batch_by_batch_is_that_of_an_array(mapped: MappedImages, kind: str) -> None:
    labels, names = np.arange(23) % 3, ("a", "b", "c")
    normalisation = Normalisation.fit(mapped, kind)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            normalisation.state().values(), Normalisation.fit(PIXELS, kind).state().values()
        )
    )
    resident, _ = model_space(
        LongTailedDataset(PIXELS, labels, names), normalisation, torch.device("cpu")
    )
    lazy, found = model_space(
        LongTailedDataset(mapped, labels, names), normalisation, torch.device("cpu")
    )
    assert isinstance(lazy, LazyImages) and len(lazy) == 23 and found.tolist() == labels.tolist()
    index = torch.tensor([20, 3, 3, 11])
    torch.testing.assert_close(lazy[index], resident[index])
    torch.testing.assert_close(torch.cat(list(lazy.split(6))), resident)
