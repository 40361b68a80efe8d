from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common.sam.members.preprocessing import Preprocessing
from support.bundle.path import import_bundle

module = import_bundle("weakmedsam", "classifier.classifier")
SliceClassifier, ClassifierObjective = module.SliceClassifier, module.ClassifierObjective
CHANNELS, CLASSES, SUB = 6, 2, 3
SIZE = (8, 6, 10)


def make_batch(axis: int = 2, encoded: int | None = None, batch: int = 2):
    random = torch.Generator().manual_seed(0)
    slices = SIZE[axis]
    encoded = encoded or slices
    bits = torch.rand(batch, CLASSES, slices, generator=random) > 0.5
    shape = [batch, CLASSES, 1, 1, 1]
    shape[axis + 2] = slices
    return bits, {
        "presence": bits.float().reshape(shape).expand(batch, CLASSES, *SIZE),
        "features": torch.randn(batch, encoded, CHANNELS, 4, 5, generator=random),
        "child": (torch.rand(batch, encoded, CLASSES * SUB + 1, generator=random) > 0.7).float(),
    }


def make(axis: int = 2, hidden: int = 0, subclasses: int = SUB, pooling: str = "mean", **options):
    torch.manual_seed(0)
    return ClassifierObjective(SliceClassifier(CHANNELS, CLASSES, subclasses, hidden, pooling), axis, **options)


def test_heads_and_plain_cam():
    features = torch.randn(3, CHANNELS, 4, 5)
    classifier = SliceClassifier(CHANNELS, CLASSES, SUB)
    logits, maps = classifier(features)
    assert logits.shape == (3, CLASSES) and maps.shape == (3, CLASSES, 4, 5)
    torch.testing.assert_close(logits, maps.mean((2, 3)))
    parent, same_maps, child = classifier.forward_both(features)
    torch.testing.assert_close(parent, logits)
    torch.testing.assert_close(same_maps, maps)
    assert child.shape == (3, CLASSES * SUB + 1)
    # as published: no bias, P * D + (P * K + 1) * D numbers
    assert sum(p.numel() for p in classifier.parameters()) == (CLASSES + CLASSES * SUB + 1) * CHANNELS
    assert SliceClassifier(CHANNELS, CLASSES, 1).forward_both(features)[2] is None
    top = SliceClassifier(CHANNELS, CLASSES, SUB, hidden=7, pooling="top", top_share=0.1)
    parent, maps, _ = top.forward_both(features)
    torch.testing.assert_close(parent, maps.flatten(2).topk(2, dim=2).values.mean(2))
    torch.testing.assert_close(parent, top(features)[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_loss_is_the_cross_entropy_of_each_slice_with_its_bits(axis):
    objective = make(axis, hidden=5)
    bits, batch = make_batch(axis)
    losses = objective(batch)
    assert set(losses) == {"loss", "parent", "child"}
    flat = batch["features"].flatten(0, 1)
    parent, _, child = objective.classifier.forward_both(flat)
    torch.testing.assert_close(losses["parent"], bce(parent, bits.permute(0, 2, 1).flatten(0, 1).float()))
    torch.testing.assert_close(losses["child"], bce(child, batch["child"].flatten(0, 1)))
    torch.testing.assert_close(losses["loss"], losses["parent"] + 0.5 * losses["child"])


def test_without_child_and_with_exact_negatives():
    _, batch = make_batch()
    batch.pop("child")
    assert set(make(subclasses=1)(batch)) == {"loss", "parent"}
    assert set(make(child_weight=0.0)(batch)) == {"loss", "parent"}
    objective = make(subclasses=1, negative_weight=2.0)
    losses = objective(batch)
    torch.testing.assert_close(losses["loss"], losses["parent"] + 2 * losses["negative"])
    with torch.no_grad():
        objective.classifier.parent.last.weight.zero_()
    assert float(objective(batch)["negative"].detach()) == pytest.approx(0.6931, abs=1e-4)
    batch["presence"] = torch.ones_like(batch["presence"])
    assert float(objective(batch)["negative"].detach()) == 0


def test_features_of_some_slices_meet_the_bits_of_those_slices():
    bits, batch = make_batch(2, encoded=4)
    objective = make()
    parent, _, _ = objective.classifier.forward_both(batch["features"].flatten(0, 1))
    wanted = bits[..., [1, 3, 6, 8]].permute(0, 2, 1).flatten(0, 1)  # the centres of 4 equal parts of 10 slices
    torch.testing.assert_close(objective(batch)["parent"], bce(parent, wanted.float()))
    _, batch = make_batch(1)
    with pytest.raises(ValueError, match="features of 12 slices"):
        make(1)(batch | {"features": torch.randn(2, 12, CHANNELS, 4, 5)})


def test_training_draws_slices_by_the_seed_and_evaluation_takes_all():
    _, batch = make_batch()
    objective = make(slices_per_volume=3)

    def loss(seed):
        torch.manual_seed(seed)
        return float(objective(batch)["loss"].detach())

    assert loss(1) == loss(1) and len({loss(seed) for seed in range(4)}) > 1
    whole = make().eval()(batch)["loss"]
    objective.eval()
    torch.testing.assert_close(objective(batch)["loss"], whole)
    torch.testing.assert_close(make(slices_per_volume=99)(batch)["loss"], whole)


def test_the_child_task_shapes_the_map_through_what_is_shared():
    for hidden, reached in ((5, True), (0, False)):
        _, batch = make_batch()
        objective = make(hidden=hidden)
        objective(batch)["child"].backward()
        assert objective.classifier.parent.last.weight.grad is None
        trunk = list(objective.classifier.parent.trunk.parameters())
        assert bool(trunk and trunk[0].grad.abs().sum() > 0) is reached


def test_bits_alone_teach_where_a_label_is():
    """Channel p is raised in a place of its own wherever label p is on the slice."""
    bits, batch = make_batch(batch=6)
    features = 0.3 * batch["features"]
    features[:, :, 0, 1, 1] += 4 * bits[:, 0].float()
    features[:, :, 1, 2, 3] += 4 * bits[:, 1].float()
    batch["features"] = features
    objective = make(subclasses=1)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        objective(batch)["loss"].backward()
        optimizer.step()
    _, maps = objective.classifier(features.flatten(0, 1))
    flat = bits.permute(0, 2, 1).flatten(0, 1)
    for p, place in ((0, 1 * 5 + 1), (1, 2 * 5 + 3)):
        peaks = maps[flat[:, p], p].flatten(1).argmax(1)
        assert (peaks == place).float().mean() > 0.95


class TinyBackbone(nn.Module):
    """Stands for a SliceBackbone: one convolution of stride 4 before the neck, one behind it."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(16, keep_aspect=False)
        self.trunk, self.neck = nn.Conv2d(3, CHANNELS, 4, stride=4), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.requires_grad_(False)

    def tune(self, mode=True):
        self.trunk.requires_grad_(mode)
        return self

    def features(self, x):
        return self.trunk(x)

    def image_encoder(self, x):
        return self.neck(self.trunk(x))


@pytest.mark.parametrize("axis", [0, 2])
def test_a_tuned_backbone_sees_the_slices_of_the_bits_and_learns(axis):
    bits, batch = make_batch(axis)
    del batch["features"]
    batch["image"] = 0.2 * torch.rand(2, 1, *SIZE) + 0.5 * batch["presence"][:, :1]  # a slice of label 0 is bright
    backbone = TinyBackbone()
    objective = make(axis, backbone=backbone, child_weight=0.0)
    assert all(p.requires_grad for p in backbone.trunk.parameters())
    assert {name for name, p in objective.named_parameters() if not p.requires_grad} == {
        "backbone.neck.weight",
        "backbone.neck.bias",
    }
    losses = objective(batch)
    losses["loss"].backward()
    assert backbone.trunk.weight.grad.abs().sum() > 0
    # slice by slice in the order of the bits
    planes = batch["image"].movedim(axis + 2, 1).flatten(0, 1)  # [B * n, 1, rows, columns]
    parent, _ = objective.classifier(backbone.features(backbone.preprocessing(planes)))
    torch.testing.assert_close(losses["parent"], bce(parent, bits.permute(0, 2, 1).flatten(0, 1).float()))
    embedding = make(axis, backbone=backbone, kind="embedding", child_weight=0.0, context=1, slices_per_volume=2)
    assert float(embedding(batch)["loss"].detach()) > 0


def test_settings_out_of_range_are_said_together():
    with pytest.raises(ValueError) as error:
        make(3, child_weight=-1, slices_per_volume=0, kind="neck", negative_weight=-2)
    assert len(str(error.value).splitlines()) == 5


@pytest.mark.parametrize("axis", [0, 2])
def test_slices_beyond_the_scan_are_not_asked_about(axis):
    bits, batch = make_batch(axis)
    objective = make(axis, negative_weight=0.5).eval()
    ends = {0: slice(1, SIZE[axis] - 2), 1: slice(0, SIZE[axis] - 3)}
    inside = torch.zeros(2, 1, *SIZE)
    for number, kept in ends.items():
        inside[number].narrow(axis + 1, kept.start, kept.stop - kept.start).fill_(1)
    found = objective({**batch, "inside": inside})
    kept = [torch.arange(SIZE[axis])[own] for own in ends.values()]
    features = torch.cat([one[own] for one, own in zip(batch["features"], kept, strict=True)])
    wanted = torch.cat([one.T[own] for one, own in zip(bits, kept, strict=True)]).float()
    logits, maps, child = objective.classifier.forward_both(features)
    torch.testing.assert_close(found["parent"], bce(logits, wanted))
    children = torch.cat([one[own] for one, own in zip(batch["child"], kept, strict=True)])
    torch.testing.assert_close(found["child"], bce(child, children))
    absent = (1 - wanted)[..., None, None].expand(maps.shape)
    torch.testing.assert_close(found["negative"], (nn.functional.softplus(maps) * absent).sum() / absent.sum())
    assert torch.equal(objective({**batch, "inside": torch.ones_like(inside)})["loss"], objective(batch)["loss"])
