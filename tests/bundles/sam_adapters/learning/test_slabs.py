from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

slabs = import_bundle("sam_adapters", "learning.slabs")
images = import_bundle("sam_adapters", "learning.images")
Augmentation = import_bundle("sam_adapters", "common.training.augmentation").Augmentation
SliceFeatures = import_bundle("sam_adapters", "common.sam.features.slice_features").SliceFeatures
InputError = import_bundle("sam_adapters", "common.errors").InputError
SIZE = (24, 20, 6)


def case(name: str, beyond: int = 0) -> dict:
    """A case of 6 slices whose structure is on slices 2 and 3; the last `beyond` slices are not of the scan."""
    generator = torch.Generator().manual_seed(len(name))
    label = torch.zeros((1, *SIZE), dtype=torch.uint8)
    label[:, 8:16, 6:14, 2:4] = 1
    if beyond:
        label[..., -beyond:] = images.UNKNOWN
    return {"case": name, "image": torch.rand((1, *SIZE), generator=generator), "label": label}


def dataset(monkeypatch, tmp_path, views: int = 0, reach: int = 2, tuned: bool = False, unlabeled: bool = False):
    module = import_bundle("sam_adapters", "common.sam.features.slice_features")
    weights = tmp_path / "tiny.pt"
    weights.write_bytes(b"tiny")
    monkeypatch.setattr(module, "find_weights", lambda name, checkpoint=None: weights)
    features = SliceFeatures(str(tmp_path / "sam"), 2, "mobile_sam", sam=tiny_sam(), tuned=tuned)
    augmentation = Augmentation(["label"], (2.0, 2.0, 2.0), nearest=["label"])
    return slabs.SlabDataset(features, augmentation, reach, views, unlabeled=unlabeled)


def test_a_sample_is_a_slice_its_mask_and_the_features_around_it(monkeypatch, tmp_path):
    data = dataset(monkeypatch, tmp_path)
    data.prepare([case("a"), case("bb")])
    assert len(data) == 12 and data.with_structures() == [2, 3, 8, 9]
    item = data[2]
    assert item["planes"].equal(case("a")["image"][..., 2])
    assert item["mask"].equal(case("a")["label"][0, ..., 2].long())
    assert item["embedding"].shape == (5, 32, 8, 8)
    own = data.features.embedding("a~0")
    assert item["embedding"].equal(own[:5])
    assert data[0]["embedding"].equal(own[[0, 0, 0, 1, 2]])  # the outermost are repeated


def test_slices_beyond_the_scan_are_no_samples_and_their_voxels_no_class(monkeypatch, tmp_path):
    data = dataset(monkeypatch, tmp_path)
    item = case("a", beyond=2)
    item["label"][:, :4] = images.UNKNOWN
    data.prepare([item])
    assert len(data) == 4
    assert (data[2]["mask"][:4] == slabs.NOT_KNOWN).all() and (data[2]["mask"][4:] >= 0).all()
    assert data.voxels(2).tolist() == [20 * 20 * 4 - 128, 128]


def test_changed_copies_are_equal_in_every_run_and_encoded_once(monkeypatch, tmp_path):
    first, second = (dataset(monkeypatch, tmp_path, views=2) for _ in range(2))
    for data in (first, second):
        data.prepare([case("a")])
    assert [copy.name for copy in first.copies] == ["a~0", "a~1", "a~2"]
    assert all(one.label.equal(other.label) for one, other in zip(first.copies, second.copies, strict=True))
    assert not first.copies[1].label.equal(first.copies[2].label)
    assert (first.features.disk.misses, second.features.disk.misses, second.features.disk.hits) == (3, 0, 3)


def test_a_copy_moves_image_and_label_alike(monkeypatch, tmp_path):
    data = dataset(monkeypatch, tmp_path, views=3)
    item = case("a")
    item["image"] = item["label"].float() * 0.8 + 0.1  # the label is to be seen
    data.prepare([item])
    for number in (1, 2, 3):
        label, planes = data.copies[number].label, data.features.all_planes(f"a~{number}")[:, 0].movedim(0, -1)
        inside, outside = planes[label == 1], planes[label == 0]
        assert inside.numel() and inside.mean() > outside.mean() + 0.3


def test_an_encoder_that_learns_gets_the_slices_themselves(monkeypatch, tmp_path):
    data = dataset(monkeypatch, tmp_path, reach=1, tuned=True)
    data.prepare([case("a")])
    item = data[3]
    assert "embedding" not in item and item["slab"].shape == (3, 1, 24, 20)
    assert item["slab"][:, 0].movedim(0, -1).equal(case("a")["image"][0, ..., 2:5])


def test_unlabelled_volumes_come_behind_the_labelled_ones_and_their_features_are_kept_for_the_labeller(
    monkeypatch, tmp_path
):
    data, without = dataset(monkeypatch, tmp_path, views=1, unlabeled=True), case("without")
    del without["label"]
    data.prepare([without, case("a")])
    assert [copy.name for copy in data.copies] == ["a~0", "a~1", "without~0"] and len(data) == 18
    item = data[14]
    assert (item["labeled"], data[2]["labeled"]) == (False, True) and (item["mask"] == 0).all()
    assert item["planes"].equal(without["image"][..., 2])
    assert all(index < 12 for index in (*data.with_structures(), *data.mostly_filled()))
    assert data.voxels(2).sum() == 24 * 20 * 6  # an unlabelled one has no background either
    misses = data.features.disk.misses
    data.features.note("without", without["image"])
    data.features.embedding("without")
    assert data.features.disk.misses == misses == 3
    alone = dataset(monkeypatch, tmp_path)
    alone.prepare([without, case("a")])
    assert [copy.name for copy in alone.copies] == ["a~0"]


def test_three_of_four_labelled_slices_show_a_structure_where_there_are_so_many(monkeypatch, tmp_path):
    data, item = dataset(monkeypatch, tmp_path), case("a")
    item["label"][:, 8:16, 6:14, :3] = 1  # slices 0 to 3
    data.prepare([item, case("bb")])
    assert data.with_structures() == [0, 1, 2, 3, 8, 9]
    assert data.mostly_filled() == [0, 1, 2, 3, 4, 7, 8, 9]  # of the others the first and the fourth of six


def test_labels_without_any_structure_are_refused(monkeypatch, tmp_path):
    data, item = dataset(monkeypatch, tmp_path), case("a")
    item["label"].zero_()
    with pytest.raises(InputError, match="found no slice with a structure on the common grid"):
        data.prepare([item])
    with pytest.raises(InputError, match="views is -1; wanted 0 or more"):
        dataset(monkeypatch, tmp_path, views=-1)


def test_shares_become_classes_and_what_nobody_scanned_none(monkeypatch, tmp_path):
    shares = torch.tensor([[0.9, 0.2, 0.0], [0.1, 0.8, 0.0]]).view(2, 3, 1, 1)
    found = images.to_classes(shares)
    assert found.flatten().tolist() == [0, 1, images.UNKNOWN] and found.dtype == torch.uint8
    data, item = dataset(monkeypatch, tmp_path), case("a", beyond=1)
    known = item["label"] != images.UNKNOWN
    soft = torch.cat([item["label"] == 0, item["label"] == 1]) * known * 0.9
    data.prepare([{**item, "label": soft}])  # as on the common grid
    assert data.copies[0].label.equal(item["label"][0])


def test_samples_say_which_classes_a_mask_tells_about_where_some_do_not_tell_about_all(monkeypatch, tmp_path):
    data = dataset(monkeypatch, tmp_path, views=1, unlabeled=True)
    blank = {key: value for key, value in case("ccc").items() if key != "label"}
    data.prepare([case("a"), case("bb") | {"known": torch.tensor([True, False])}, blank])
    told = {data.copies[row["copy"]].name: data[index]["known"].tolist() for index, row in enumerate(data.data)}
    assert told == {"a~0": [1, 1], "a~1": [1, 1], "bb~0": [1, 0], "bb~1": [1, 0], "ccc~0": [1, 1]}
    data.prepare([case("a")])
    assert "known" not in data[0]
