"""The methods at a site of a federation: further rounds, and no label at all."""

from __future__ import annotations

import pytest
import torch

from support.semisam_plus.batch import make_batch
from support.semisam_plus.methods import NAMES, TEACHERS, InputError, make, step


@pytest.mark.parametrize("method", TEACHERS)
def test_a_teacher_begins_a_round_where_the_network_is(method):
    it, batch = make(method), make_batch()
    optimizer = torch.optim.SGD(it.network.parameters(), lr=0.1)
    for _ in range(3):
        step(it, batch, optimizer)
    with torch.no_grad():
        for weight in it.network.parameters():
            weight.add_(1.0)
    it.begin_round()
    pairs = zip(it.teacher.parameters(), it.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_only_methods_with_a_teacher_do_without_labels():
    able = []
    for method in NAMES:
        try:
            make(method, without_labels=True)
            able.append(method)
        except InputError as error:
            assert error.problems[0].endswith("wanted mean_teacher, ua_mt, or a label")
    assert able == TEACHERS
    it, batch = make("mean_teacher", without_labels=True), make_batch()
    batch["labeled"][:] = False
    before = [weight.clone() for weight in it.network.parameters()]
    step(it, batch, torch.optim.SGD(it.network.parameters(), lr=0.1))
    changed = [not torch.equal(a, b) for a, b in zip(before, it.network.parameters(), strict=True)]
    assert any(changed)
