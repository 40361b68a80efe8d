from __future__ import annotations

import pytest
import torch
from bundle_path import import_bundle
from weak_fake import SIZE, cohort, images, presence, use_fake_backbone

InputError = import_bundle("weakmedsam", "common.errors").InputError

module = import_bundle("weakmedsam", "features")


@pytest.fixture
def made(tmp_path, monkeypatch):
    backbone = use_fake_backbone(monkeypatch, tmp_path)

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


@pytest.mark.parametrize(
    ("boxed", "prior", "walk", "needed"),
    [
        (True, "auto", "intensity", False),
        (True, "auto", "points", True),
        (True, "cam", None, True),
        (False, "auto", "intensity", True),
        (False, "centre", "blur", False),
        (False, "box", "boxes", True),
    ],
)
def test_weights_are_wanted_only_where_something_uses_them(boxed, prior, walk, needed):
    known = cohort()
    if not boxed:
        known.locations[4] = type(known.locations[4])(None, 1.0)
    assert module.chosen_backbone("mobile_sam", known, prior, walk) == ("mobile_sam" if needed else None)
    if needed:
        with pytest.raises(InputError, match="backbone is null, but"):
            module.chosen_backbone("null", known, prior, walk)


@pytest.mark.parametrize(("options", "text"), [({"kind": "neck"}, "feature_kind"), ({"context": -1}, "context is -1")])
def test_wrong_settings(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        module.SliceFeatures(str(tmp_path), 2, **options)
