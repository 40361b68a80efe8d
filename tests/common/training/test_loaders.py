from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.data import Dataset

from common.training.loaders import scored_loader, stream_loader, two_stream_loader


def run_of(world_size=1, rank=0):
    return SimpleNamespace(seed=3, num_workers=0, world_size=world_size, rank=rank)


DATA = Dataset([{"case": n} for n in range(6)])


def flat(loader):
    return [case for batch in cases(loader) for case in batch]


def cases(loader):
    return [batch["case"].tolist() for batch in loader]


def test_a_stream_gives_every_case_once_before_any_again_and_each_stage_has_its_own():
    loader = stream_loader(run_of(), DATA, num_samples=6, batch_size=2, stream=1)
    found = cases(loader)
    assert len(loader) == 3 and sorted(flat(loader)) == list(range(6))
    assert (
        cases(stream_loader(run_of(), DATA, 6, 2, stream=1)) == found != cases(stream_loader(run_of(), DATA, 6, 2, 2))
    )


def test_batches_of_two_streams_have_the_labelled_ones_first():
    loader = two_stream_loader(run_of(), DATA, lambda: [0, 1], 4, labeled_batch=1, unlabeled_batch=2, stream=0)
    assert len(loader) == 4 and all(batch[0] in (0, 1) and set(batch[1:]) <= {2, 3, 4, 5} for batch in cases(loader))


def test_processes_share_what_is_scored():
    shares = [flat(scored_loader(run_of(2, rank), DATA)) for rank in (0, 1)]
    assert shares == [[0, 2, 4], [1, 3, 5]] and flat(scored_loader(run_of(), DATA)) == list(range(6))


@pytest.mark.parametrize("make", [scored_loader, lambda run, data: stream_loader(run, data, 4, 2, 1)])
def test_building_a_loader_draws_no_random_number(make):
    torch.manual_seed(0)
    torch.rand(3)
    wanted = torch.random.get_rng_state()
    make(run_of(), DATA)
    assert torch.equal(torch.random.get_rng_state(), wanted)
