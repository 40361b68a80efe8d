from __future__ import annotations

import pytest
import torch
from torch import nn

from support.bundle.path import import_bundle

fusion = import_bundle("semisam_plus", "methods.knowsam.fusion")


@pytest.mark.parametrize("classes", [2, 5])
def test_entropy_is_a_share_of_that_of_all_classes_alike(classes):
    alike, sure = torch.zeros(1, classes, 2, 2, 2), torch.zeros(1, classes, 2, 2, 2)
    sure[:, 1] = 50
    assert fusion.entropy(alike).flatten().tolist() == pytest.approx([1.0] * 8)
    assert fusion.entropy(sure).max() < 1e-6


def test_the_head_learns_whom_to_believe_where_they_differ():
    """The first specialist is right about class 1, the second one about class 2."""
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (4, 6, 6, 6))
    right = 6 * nn.functional.one_hot(truth, 3).movedim(-1, 1).float()
    wrong = right.roll(1, 1)
    first = torch.where((truth == 2)[:, None], wrong, right)
    second = torch.where((truth == 1)[:, None], wrong, right)
    head = fusion.FusionHead(3, width=4)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(first, second), truth).backward()
        optimizer.step()
    alone = [(said.argmax(1) == truth).float().mean() for said in (first, second, first + second)]
    assert (head(first, second).argmax(1) == truth).float().mean() > 0.95 > max(alone)


def test_both_as_one_network_own_nothing_and_follow_into_evaluation():
    class Part(nn.Conv3d):
        window = (4, 4, 4)

    parts = [Part(1, 2, 1), Part(1, 2, 1)]
    both = fusion.FusedSpecialists(*parts, fusion.FusionHead(2, 4))
    assert not list(both.parameters()) and not both.state_dict() and both.window == (4, 4, 4)
    both.eval()
    assert not any(part.training for part in parts)
    assert both(torch.rand(1, 1, 4, 4, 4)).shape == (1, 2, 4, 4, 4)
