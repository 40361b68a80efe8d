from __future__ import annotations

import torch

from support.bundle.path import import_bundle

consultation = import_bundle("semisam_plus", "generalists.consultation")
Answer, combine, gate = consultation.Answer, consultation.combine, consultation.gate


def balls(size=(32, 32, 32)) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) + 0.5 for n in size], indexing="ij"), -1)
    near = [(grid - torch.tensor(centre)).norm(dim=-1) < 6 for centre in ((10.0, 10, 16), (22.0, 20, 16))]
    q = torch.stack([~(near[0] | near[1]), *near]).float()
    return q * 0.9 + 0.05


def said(*values: float, asked: bool = True) -> Answer:
    return Answer(torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 1, 2, 2, 2), torch.tensor([asked]))


def test_combining_one_generalist_and_several() -> None:
    q = torch.tensor([0.6, 0.4]).view(2, 1, 1, 1).expand(2, 2, 2, 2)
    label, disagreement = combine([said(0.8, 0.6)], q)
    torch.testing.assert_close(label[:, 0, 0, 0], torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(disagreement[0], torch.tensor([0.4, 0.8, 0.6]).var().expand(2, 2, 2))
    label, disagreement = combine([said(0.8, 0.6), said(0.1), said(0.0, asked=False)], q)
    torch.testing.assert_close(label[1, 0, 0, 0], torch.tensor(0.4))
    torch.testing.assert_close(disagreement[0, 0, 0, 0], torch.tensor([0.4, 0.8, 0.6, 0.1]).var())
    label, disagreement = combine([said(0.0, asked=False)], q)
    torch.testing.assert_close(label, q)
    assert not disagreement.any()
    shared, _ = combine([said(0.8)], q, specialist_share=0.5)
    torch.testing.assert_close(shared[1, 0, 0, 0], torch.tensor(0.6))


def test_the_last_click_counts_but_every_one_disagrees() -> None:
    q = torch.tensor([0.6, 0.4]).view(2, 1, 1, 1).expand(2, 2, 2, 2)
    steps = said(0.1, 0.9)
    label, disagreement = combine([Answer(steps.members, steps.asked, improving=True)], q)
    torch.testing.assert_close(label[1, 0, 0, 0], torch.tensor(0.9))
    torch.testing.assert_close(disagreement[0, 0, 0, 0], torch.tensor([0.4, 0.1, 0.9]).var())


def test_several_classes_against_the_rest_sum_to_one() -> None:
    q = torch.tensor([0.2, 0.5, 0.3]).view(3, 1, 1, 1)
    members = torch.tensor([0.9, 0.6]).view(1, 2, 1, 1, 1)
    label, _ = combine([Answer(members, torch.tensor([True, True]))], q)
    torch.testing.assert_close(label[:, 0, 0, 0], torch.tensor([0.1, 0.9, 0.6]) / 1.6)
    # a class that was not asked about is the specialist's
    label, _ = combine([Answer(members, torch.tensor([False, True]))], q)
    torch.testing.assert_close(label[:, 0, 0, 0], torch.tensor([0.4, 0.5, 0.6]) / 1.5)


def test_the_gate_shuts_without_labels() -> None:
    q = balls()
    assert gate(q, q) == 1.0 and gate(q, q, graded=True) == 1.0
    empty = torch.zeros_like(q)
    empty[0] = 1
    assert gate(empty, q) == 0 and gate(q, empty) == 0
    assert gate(q[[0, 2, 1]], q) == 0  # of the same volume elsewhere: no agreement
    everything = torch.zeros_like(q)
    everything[1] = 1
    assert gate(everything, q, min_agreement=0.0) == 0  # too large
    assert gate(q, q, min_voxels=10**6) == 0
    shifted = q.roll(4, 1)
    assert 0.3 < gate(shifted, q, graded=True) < 0.8 and gate(shifted, q) == 1.0 and gate(shifted, q, 0.9) == 0
