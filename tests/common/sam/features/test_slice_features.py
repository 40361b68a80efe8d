from __future__ import annotations

import pytest
import torch

import common.sam.features.slice_features as module
from common.errors import InputError
from support.networks.tiny_sam import tiny_sam
from support.weakmedsam.fake import SIZE, images, presence, use_fake_backbone


@pytest.fixture
def made(tmp_path, monkeypatch):
    backbone = use_fake_backbone(monkeypatch, tmp_path, module)

    def make(axis: int = 2, **options):
        features = module.SliceFeatures(str(tmp_path / "cache"), axis, "mobile_sam", image_size=64, **options)
        features.prepare(images())
        return features

    return make, backbone


def test_every_slice_is_encoded_once_however_often_it_is_wanted(made):
    make, backbone = made
    features = make()
    assert backbone.slices == 2 * SIZE[2]
    first = features.features("case_0")
    assert torch.equal(make().features("case_0"), first) and backbone.slices == 2 * SIZE[2]
    make(context=1)
    assert backbone.slices == 4 * SIZE[2]  # another input, other features


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("kind", "channels"), [("pre_neck", 32), ("embedding", 16)])
def test_features_are_those_of_the_slices_without_the_padding(made, axis, kind, channels):
    make, backbone = made
    features = make(axis, kind=kind)
    assert features.channels == channels
    found = features.features("case_0")
    planes = [n for a, n in enumerate(SIZE) if a != axis]
    rows, columns = backbone.preprocessing.resized_size(*planes)
    assert found.shape == (SIZE[axis], channels, round(rows / 16), round(columns / 16))
    image = images()[0]["image"].as_tensor().float()
    with torch.no_grad():
        both = backbone.encode(backbone.preprocessing(image.select(axis + 1, 3)[None]))
    whole = both[0 if kind == "pre_neck" else 1]
    torch.testing.assert_close(features.embedding("case_0")[3], both[1][0], atol=1e-2, rtol=0)
    if rows % 16 == 0 and columns % 16 == 0:
        wanted = whole[0, :, : rows // 16, : columns // 16]
        torch.testing.assert_close(found[3], wanted, atol=1e-2, rtol=0)


def test_a_tuned_backbone_is_asked_anew(made, tmp_path):
    make, backbone = made
    features = make(tuned=True)
    assert backbone.slices == 0 and not (tmp_path / "cache").exists()
    before = features.features("case_0")
    with torch.no_grad():
        backbone.stem.bias += 1
    assert (features.features("case_0") - before).abs().min() > 0.0
    assert not features.features("case_0").requires_grad


def test_slices_are_pooled_for_the_clusters_and_keep_their_bits(made):
    features = made[0]()
    pooled = features.pooled()
    torch.testing.assert_close(pooled["case_1"], features.features("case_1").mean((2, 3)))
    assert torch.equal(features.all_bits["case_0"], presence()[:, 0, 0] > 0.5)
    features.note("scored", images()[0]["image"])  # no training case
    assert torch.equal(features.features("scored"), features.features("case_0")) and "scored" not in features.pooled()


def test_without_a_backbone_there_are_bits_alone(tmp_path):
    features = module.SliceFeatures(str(tmp_path), 2, "null")
    features.prepare(images())
    assert features.name is None and features.backbone is None and features.channels == 1
    assert set(features.all_bits) == {"case_0", "case_1"} and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "text"), [({"kind": "neck"}, "feature_kind"), ({"context": -1}, "context is -1")])
def test_wrong_settings(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        module.SliceFeatures(str(tmp_path), 2, **options)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("options", [{}, {"context": 2}, {"kind": "pre_neck"}, {"tuned": True}])
def test_one_slice_is_had_without_the_others(made, axis, options):
    make, backbone = made
    features = make(axis, **options)
    seen = backbone.slices
    found = features.slice_embedding("case_1", 7)
    assert backbone.slices == seen + bool(options.get("tuned"))
    torch.testing.assert_close(found, features.embedding("case_1")[7])
    planes = features.planes("case_1", 7)
    image = images()[1]["image"].as_tensor().float()[0]
    wanted = [min(max(7 + step, 0), SIZE[axis] - 1) for step in ((-2, 0, 2) if options.get("context") else (0,))]
    assert torch.equal(planes, torch.stack([image.select(axis, index) for index in wanted]))
    encoded = features._encode_planes(planes[None])  # what the views go through
    torch.testing.assert_close(features._embed(encoded)[0], found, atol=2e-2, rtol=0)


def test_a_slice_of_a_damaged_file_is_encoded_anew(made, tmp_path):
    make, backbone = made
    features = make()
    found = features.slice_embedding("case_0", 3)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"damaged")
    assert torch.equal(features.slice_embedding("case_0", 3), found) and backbone.slices == 3 * SIZE[2]


@pytest.mark.parametrize("context", [0, 1])
def test_views_are_encoded_once_and_their_masks_move_with_them(made, context):
    make, backbone = made
    features = make(context=context)
    mask = (images()[0]["image"].as_tensor()[0, :, :, 4] > 0.28).long()
    seen = backbone.slices
    features.prepare_views([("case_0", 4, mask), ("case_1", 4, mask)], 3, seed=5)
    assert backbone.slices == seen + 6
    views, masks = features.views("case_0", 4), features.view_masks("case_0", 4)
    assert views.shape[:2] == (3, 16) and masks.shape == (3, *SIZE[:2]) and masks.dtype == torch.long
    for number in range(3):
        embedding, view = features.view("case_0", 4, number)
        assert torch.equal(embedding, views[number]) and torch.equal(view.mask, masks[number])
        assert view.planes.shape == (3 if context else 1, *SIZE[:2])
    again = make(context=context)
    again.prepare_views([("case_0", 4, mask)], 3, seed=5)
    assert torch.equal(again.views("case_0", 4), views) and backbone.slices == seen + 6
    again.prepare_views([("case_0", 4, mask)], 3, seed=6)
    assert not torch.equal(again.views("case_0", 4), views)


def test_a_network_lends_its_own_sam(tmp_path):
    sam = tiny_sam()
    features = module.SliceFeatures(str(tmp_path), 2, "mobile_sam", image_size=1024, pretrained=False, sam=sam)
    assert features.backbone.sam is sam
    features.prepare(images())
    with torch.no_grad():
        planes = features.planes("case_0", 4)
        wanted = sam.image_encoder(sam.preprocessing(planes[None]))[0]
    torch.testing.assert_close(features.slice_embedding("case_0", 4), wanted, atol=0.1, rtol=0)  # bfloat16
