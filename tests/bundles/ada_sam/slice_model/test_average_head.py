from __future__ import annotations

import torch

from support.bundle.path import import_bundle

AverageHead = import_bundle("ada_sam", "slice_model.average_head").AverageHead


def test_closed_form_is_grad_cam_by_autograd():
    torch.manual_seed(0)
    head = AverageHead(12, 3, hidden=9).eval()
    features = torch.randn(4, 12, 5, 6, requires_grad=True)
    logits, maps = head(features)
    assert logits.shape == (4, 3) and maps.shape == (4, 3, 5, 6)
    for k in range(3):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), features, retain_graph=True)
        grad_cam = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
        torch.testing.assert_close(maps[:, k] / 30, grad_cam, atol=1e-5, rtol=1e-5)


def test_maps_pass_gradients_and_know_no_dropout():
    torch.manual_seed(0)
    head = AverageHead(12, 2, hidden=64, dropout=0.5)
    features = torch.randn(2, 12, 4, 4, requires_grad=True)
    (logits, maps), (other_logits, other_maps) = head(features), head(features)
    torch.testing.assert_close(maps, other_maps, rtol=0, atol=0)
    assert not torch.equal(logits, other_logits)
    maps.square().sum().backward()
    assert features.grad.abs().sum() > 0 and head.first.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert head(features)[1].shape == (2, 2, 4, 4)


def test_parameters_are_those_of_the_released_code():
    assert sum(p.numel() for p in AverageHead(256, 2).parameters()) == 66_306
