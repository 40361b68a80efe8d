"""Every base method learns from pseudo labels."""

from __future__ import annotations

import pytest
import torch

from support.semisam_plus.batch import gradients, make_batch
from support.semisam_plus.methods import NAMES, make


@pytest.mark.parametrize("method", NAMES)
def test_every_method_learns_from_pseudo_labels(method):
    batch = make_batch()
    registered = torch.tensor([False, True, False])
    batch |= {"pseudo_label": batch["answer"] * registered.view(-1, 1, 1, 1, 1), "pseudo_labeled": registered}
    off = gradients(make(method, consistency_weight=0.0), batch)
    on = gradients(make(method, consistency_weight=0.0, pseudo_label_weight=1.0), batch)
    heads = [name for name in off[1] if not name.startswith("discriminator")]
    assert on[0] > off[0] and any(not torch.equal(on[1][name], off[1][name]) for name in heads)
    if method == "cps":  # whose second network makes the other's labels
        assert any(not torch.equal(on[1][n], off[1][n]) for n in off[1] if n.startswith("second"))
