from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from safetensors.torch import save_file

from common.errors import InputError
from common.sam.features.feature_cache import FeatureCache


class Counter:
    """Features that differ in every call, so that a second call can't be mistaken for a hit."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return image.mean() + torch.full((1, 4, 2, 2, 3), float(self.calls))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 1, 4, 4, 3, generator=torch.Generator().manual_seed(0))


def open_cache(folder, **changes) -> FeatureCache:
    given = {"sam_name": "sam", "checkpoint_sha256": "abc", "image_size": 224, "slices": None, **changes}
    return FeatureCache(folder, **given)


def test_hit_returns_the_numbers_of_the_first_time(tmp_path, image) -> None:
    compute = Counter()
    first = open_cache(tmp_path).get(image, compute)
    cache = open_cache(tmp_path)
    assert cache.get(image, compute).equal(first) and first.dtype == torch.float32
    assert (compute.calls, cache.hits, cache.misses) == (1, 1, 0)
    assert [path.name for path in tmp_path.iterdir()] == [cache.path(image).name]


def test_key_is_the_content_of_the_image(tmp_path, image) -> None:
    cache = open_cache(tmp_path)
    same = image.transpose(2, 3).contiguous().transpose(2, 3)
    assert cache.key(same) == cache.key(image) == cache.key(MetaTensor(image, affine=torch.eye(4) * 2))
    changed = image.clone()
    changed[0, 0, 0, 0, 0] += 1e-6
    others = [changed, image.double(), image.reshape(1, 1, 3, 4, 4), image.flip(2)]
    assert len({cache.key(other) for other in [image, *others]}) == 5


@pytest.mark.parametrize("change", [{"sam_name": "b"}, {"checkpoint_sha256": "d"}, {"image_size": 256}, {"slices": 3}])
def test_another_checkpoint_or_setting_is_another_file(tmp_path, image, change) -> None:
    assert open_cache(tmp_path).path(image) != open_cache(tmp_path, **change).path(image)


def damage_end(path, feature):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path, feature):
    path.write_bytes(path.read_bytes()[:50])


def empty(path, feature):
    path.write_bytes(b"")


def replace_by_another(path, feature):
    save_file({"feature": feature.half()}, path)


def rename_tensor(path, feature):
    save_file({"other": feature.half()}, path)


@pytest.mark.parametrize("damage", [damage_end, truncate, empty, replace_by_another, rename_tensor])
def test_a_damaged_file_is_computed_anew(tmp_path, image, damage) -> None:
    compute, cache = Counter(), open_cache(tmp_path)
    first = cache.get(image, compute)
    damage(cache.path(image), first)
    second = cache.get(image, compute)
    assert compute.calls == 2 and not second.equal(first)
    assert cache.get(image, compute).equal(second) and compute.calls == 2


def test_a_failed_computation_or_write_leaves_no_file(tmp_path, image, monkeypatch) -> None:
    cache = open_cache(tmp_path)
    with pytest.raises(InputError, match="not finite"):
        cache.get(image, lambda image: image / 0)
    monkeypatch.setattr("common.files.atomic_write.os.replace", lambda *names: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.get(image, Counter())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path, image) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="wanted a folder to write features to"):
        open_cache(tmp_path / "file" / "cache").get(image, Counter())


def test_a_row_is_read_without_the_others_and_computed_where_the_file_is_no_good(tmp_path):
    cache, image, asked = FeatureCache(tmp_path, "sam", "abc"), torch.rand(1, 1, 4, 4, 3), []

    def compute(x):
        asked.append(x)
        return torch.arange(12.0).view(3, 4)

    assert torch.equal(cache.get_row(image, 1, compute), torch.tensor([4.0, 5, 6, 7])) and len(asked) == 1
    assert torch.equal(cache.get_row(image, -1, compute), torch.tensor([8.0, 9, 10, 11])) and len(asked) == 1
    with pytest.raises(IndexError):
        cache.get_row(image, 3, compute)
    cache.path(image).write_bytes(b"damaged")
    assert cache.get_row(image, 0, compute).dtype == torch.float32 and len(asked) == 2
    other = image + 1
    cache.path(image).rename(cache.path(other))  # the features of another image
    assert cache.get_row(other, 2, compute).shape == (4,) and len(asked) == 3
