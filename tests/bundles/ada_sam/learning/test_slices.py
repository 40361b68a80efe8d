from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, MetaTensor

from common.training.checkpoint import seed_epoch
from common.training.sampling import TwoStreamSampler
from support.bundle.path import import_bundle
from support.data.shorter_scan import shorter_scan
from support.networks.tiny_sam import tiny_sam

module = import_bundle("ada_sam", "learning.slices")
SliceFeatures = import_bundle("ada_sam", "common.sam.features.slice_features").SliceFeatures
InputError = import_bundle("ada_sam", "common.errors").InputError
SIZE = (24, 20, 16)
AXIS = 1
MASKED = {"case_0": [8, 10], "case_1": [], "case_2": [11]}


def images() -> list[dict]:
    """Three volumes cut along W: label 1 on slices 5 to 12, label 2 on slices 9 to 15."""
    label = torch.zeros(SIZE)
    label[4:12, 5:13, 3:11] = 1
    label[13:20, 9:16, 4:12] = 2
    bits = torch.stack([(label == value).any(2).any(0) for value in (1, 2)]).float()
    presence = bits[:, None, :, None].expand(-1, *SIZE).clone()
    presence[1, :, 8] = 1  # what two clicks would say of a gap
    items = []
    for case, indices in MASKED.items():
        noise = torch.rand(SIZE, generator=torch.Generator().manual_seed(len(items)))
        annotated = torch.zeros(1, *SIZE)
        annotated[:, :, indices] = 1
        volumes = {"image": (0.3 * label + 0.1 * noise)[None], "presence": presence}
        volumes |= {"label": label[None] * annotated, "annotated": annotated}
        items.append({"case": case} | {name: MetaTensor(volume) for name, volume in volumes.items()})
    return items


@pytest.fixture
def make(tmp_path):
    def build(view_count: int = 3, seed: int = 0, **options):
        features = SliceFeatures(str(tmp_path), AXIS, "mobile_sam", pretrained=False, sam=tiny_sam(), **options)
        features.prepare(images())
        dataset = module.SliceDataset(images(), features, view_count, seed)
        dataset.prepare()
        return dataset

    return build


def test_without_embeddings_slices_with_masks_are_augmented_anew(make):
    given = make()
    dataset = given.without_embeddings()
    dataset.prepare()
    seed_epoch(0, "slice_unet", 1, dataset.transform)
    items = [dataset[10] for _ in range(6)]
    assert all("embedding" not in item for item in items) and len({float(item["image"].sum()) for item in items}) == 6
    assert torch.equal(dataset[30]["image"][0], images()[1]["image"].as_tensor()[0, :, 10])
    assert dataset.table is given.table and "embedding" in given[10]
    tuned = make(tuned=True)  # what it draws hangs on the seed of the epoch alone
    seed_epoch(0, "slice_unet", 1, tuned.transform)
    assert torch.equal(tuned[10]["image"], items[0]["image"])


def test_rows_are_all_slices_with_their_bits_and_masks():
    table = module.SliceTable(images(), AXIS)
    assert len(table) == 60 and table.annotated() == [8, 10, 51] and len(table.others()) == 57
    row = table.rows[51]
    assert (row.case, row.slice, row.bits.tolist(), row.annotated) == ("case_2", 11, [True, True], True)
    assert table.rows[45].bits.tolist() == [True, False] and table.bits().shape == (60, 2)
    assert set(table.masks) == {("case_0", 8), ("case_0", 10), ("case_2", 11)}
    assert torch.equal(table.masks["case_0", 10], images()[0]["label"].as_tensor()[0, :, 10].long())


def test_a_table_without_masks_is_refused():
    with pytest.raises(InputError, match="none of 20 slices on the common grid has a mask"):
        _ = module.SliceTable(images()[1:2], AXIS).rows
    bare = {key: value for key, value in images()[0].items() if key not in ("label", "annotated")}
    assert len(module.SliceTable([bare, images()[2]], AXIS).annotated()) == 1


def test_slices_are_known_once_their_volumes_are_loaded(tmp_path):
    loaded = []
    features = SliceFeatures(str(tmp_path), AXIS, "mobile_sam", pretrained=False, sam=tiny_sam())
    dataset = module.SliceDataset(loaded, features)
    assert len(dataset) == 0
    loaded += images()
    assert len(dataset) == 60 and dataset.table.annotated() == [8, 10, 51]


def test_a_slice_without_a_mask_says_so(make):
    dataset = make()
    item = dataset[30]
    assert (item["case"], item["slice"], float(item["annotated"])) == ("case_1", 10, 0.0)
    assert (item["mask"] == -1).all() and item["mask"].shape == (SIZE[0], SIZE[2]) and item["mask"].dtype == torch.long
    assert item["presence"].tolist() == [1.0, 1.0] and item["image"].shape == (1, SIZE[0], SIZE[2])
    assert torch.equal(item["image"][0], images()[1]["image"].as_tensor()[0, :, 10])
    assert torch.equal(item["embedding"], dataset.features.embedding("case_1")[10])


def test_a_slice_with_a_mask_comes_as_it_is_and_in_views(make):
    dataset = make()
    seed_epoch(0, "adapt", 1, dataset.transform)
    views = [dataset.features.embedding("case_0")[10], *dataset.features.views("case_0", 10)]
    masks = [dataset.table.masks["case_0", 10], *dataset.features.view_masks("case_0", 10)]
    seen = set()
    for _ in range(40):
        item = dataset[10]
        number = next(n for n, view in enumerate(views) if torch.equal(view, item["embedding"]))
        seen.add(number)
        assert torch.equal(item["mask"], masks[number]) and float(item["annotated"]) == 1
        assert item["presence"].tolist() == [float((masks[number] == value).any()) for value in (1, 2)]
    assert seen == {0, 1, 2, 3}
    alone = make(view_count=0)
    assert torch.equal(alone[10]["embedding"], views[0]) and torch.equal(alone[10]["mask"], masks[0])
    assert alone[8]["presence"].tolist() == [1.0, 0.0]  # the mask, not the bit


def test_an_epoch_sees_the_same_views_again_and_another_epoch_others(make):
    dataset = make(view_count=6)
    sampler = TwoStreamSampler(dataset, dataset.table.annotated, 4, labeled_batch=2, unlabeled_batch=1)
    loader = DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=0)

    def epoch(number: int) -> list[dict]:
        sampler.set_epoch(number)
        seed_epoch(3, "adapt", number, dataset.transform)
        return list(loader)

    first, again, second = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))
    batch = first[0]
    assert batch["annotated"].tolist() == [1, 1, 0] and batch["embedding"].shape == (3, 32, 8, 8)
    assert batch["presence"].shape == (3, 2) and batch["mask"].shape == (3, SIZE[0], SIZE[2])
    assert batch["slice"].tolist()[2] in range(SIZE[AXIS]) and len(batch["case"]) == 3


def test_a_tuned_encoder_gets_images_augmented_anew(make, tmp_path):
    dataset = make(tuned=True)
    assert not list(tmp_path.iterdir())
    seed_epoch(0, "adapt", 1, dataset.transform)
    items = [dataset[10] for _ in range(6)]
    assert all("embedding" not in item for item in items)
    assert len({float(item["image"].sum()) for item in items}) == 6
    assert torch.equal(dataset[30]["image"][0], images()[1]["image"].as_tensor()[0, :, 10])
    seed_epoch(0, "adapt", 1, dataset.transform)
    assert torch.equal(dataset[10]["image"], items[0]["image"])


def test_with_context_the_neighbours_come_along(make):
    item = make(context=1)[10]
    assert item["image"].shape == (3, SIZE[0], SIZE[2])


def test_nothing_the_caller_changes_comes_back(make):
    dataset = make(view_count=0)
    dataset[10]["mask"].fill_(7)
    dataset[10]["image"].fill_(7)
    assert dataset[10]["mask"].max() <= 2 and dataset[10]["image"].max() < 1
    with pytest.raises(InputError, match="view_count is -1"):
        module.SliceDataset(images(), dataset.features, -1)


def test_slices_beyond_the_scan_are_no_samples():
    given = images()
    given[1]["image"] = shorter_scan(given[1]["image"].as_tensor(), 3, 9, AXIS)
    table = module.SliceTable(given, AXIS)
    assert [row.slice for row in table if row.case == "case_1"] == list(range(3, 12))
    assert len(table) == 2 * SIZE[AXIS] + 9 == len(table.bits())
