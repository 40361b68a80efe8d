from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "slice_model.feedback")
GradientFeedback, evidence, agreement = module.GradientFeedback, module.evidence, module.agreement
feedback_objective, slice_gradient = module.feedback_objective, module.slice_gradient
CHANNELS = 16


def make(**options):
    torch.manual_seed(0)
    return GradientFeedback(CHANNELS, **options)


def pair(size=(6, 5), count=3):
    random = torch.Generator().manual_seed(1)
    return (torch.randn(count, CHANNELS, *size, generator=random) for _ in range(2))


def test_size_of_the_published_shape():
    assert sum(p.numel() for p in GradientFeedback(256).parameters()) == 65_984


def test_starts_as_identity_and_learns_from_the_output_inwards():
    block = make(dropout=0.0)
    features, gradient = pair()
    assert torch.equal(block(features, gradient), features)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        block(features, gradient).square().mean().backward()
        reached = float(block.query.weight.grad.abs().sum())
        assert block.out.weight.grad.abs().sum() > 0
        assert (reached > 0) == (step == 1)
        optimizer.step()


def trained(**options):
    block = make(**options)
    torch.nn.init.normal_(block.out.weight, std=0.5)
    return block


def test_the_query_is_the_gradient_whatever_its_scale():
    block = trained().eval()
    features, gradient = pair()
    answer = block(features, gradient)
    torch.testing.assert_close(block(features, 1e-7 * gradient), answer, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(block(features, gradient.flip(3)), answer, atol=1e-3)
    assert torch.isfinite(block(features, 0 * gradient)).all()


def test_slices_dont_see_each_other():
    block = trained().eval()
    features, gradient = pair()
    # scales that differ: the size is of each slice
    gradient = gradient * torch.tensor([1e-6, 1.0, 100.0]).view(3, 1, 1, 1)
    alone = torch.cat([block(features[i : i + 1], gradient[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(block(features, gradient), alone, atol=1e-5, rtol=1e-5)


def test_attention_is_on_so_many_tokens_at_most():
    block = trained(tokens=4).eval()
    features, gradient = pair((10, 3))
    seen = []
    block.key.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[1]))
    assert block(features, gradient).shape == features.shape
    assert seen == [4 * 3]


def test_dropout_leaves_whole_slices_as_they_are_in_training_alone():
    block = trained(dropout=0.5)
    features, gradient = pair(count=3)
    features, gradient = features[:1].repeat(64, 1, 1, 1), gradient[:1].repeat(64, 1, 1, 1)
    torch.manual_seed(0)
    changed = (block(features, gradient) - features).flatten(1).abs().amax(1) > 0
    assert 16 < changed.sum() < 48
    torch.manual_seed(0)
    assert torch.equal(changed, (block(features, gradient) - features).flatten(1).abs().amax(1) > 0)
    block.eval()
    assert ((block(features, gradient) - features).flatten(1).abs().amax(1) > 0).all()


def test_evidence_is_the_mean_logit_weighted_by_probability():
    logits = 3 * torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))
    asked = torch.tensor([[True, False, True], [False, True, False]])
    weight = logits.sigmoid()
    wanted = (weight * logits).sum((2, 3)) / weight.sum((2, 3))
    torch.testing.assert_close(evidence(logits, asked), (wanted * asked).sum(1))
    # far below zero, where probabilities add up to nothing
    torch.testing.assert_close(
        evidence(torch.full((1, 1, 4, 4), -200.0), torch.tensor([[True]])), torch.tensor([-200.0])
    )


def test_agreement_grows_towards_the_true_mask_and_minds_what_was_asked():
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, 2:5, 2:5], mask[0, 6:, :] = 1, 2
    truth = torch.stack([mask == 1, mask == 2], 1).float()
    good, bad = 4 * (2 * truth - 1), 4 * (1 - 2 * truth)
    both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert agreement(good, both, mask) > agreement(bad, both, mask)
    mixed = torch.stack([good[:, 0], bad[:, 1]], 1)
    torch.testing.assert_close(agreement(mixed, first, mask), agreement(good, first, mask))
    logits = torch.zeros(1, 2, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(agreement(logits, both, mask).sum(), logits)
    assert (slope[truth > 0] > 0).all() and (slope[truth == 0] < 0).all()


def test_masks_count_on_slices_that_have_one():
    logits = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    asked = torch.ones(2, 1, dtype=torch.bool)
    mask = torch.full((2, 6, 6), -1)
    torch.testing.assert_close(feedback_objective(logits, asked, mask), evidence(logits, asked))
    mask[1] = 0
    mask[1, 2:4] = 1
    wanted = torch.stack([evidence(logits, asked)[0], agreement(logits, asked, mask)[1]])
    torch.testing.assert_close(feedback_objective(logits, asked, mask), wanted)
    torch.testing.assert_close(feedback_objective(logits, asked), evidence(logits, asked))


def test_gradient_is_a_constant_and_leaves_the_graph_where_asked():
    embedding = torch.randn(2, 4, 3, 3, requires_grad=True)
    weight = torch.randn(4, requires_grad=True)
    score = F.conv2d(embedding, weight.view(1, 4, 1, 1)).square().sum((1, 2, 3))
    gradient = slice_gradient(score, embedding, keep_graph=True)
    assert gradient.shape == embedding.shape and not gradient.requires_grad and weight.grad is None
    score.sum().backward()
    assert weight.grad.abs().sum() > 0


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="3 heads for a width of 64"):
        make(heads=3)
    with pytest.raises(ValueError, match="dropout 2"):
        make(dropout=2)
