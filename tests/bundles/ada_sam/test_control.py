"""What the plain control of masks on slices learns from."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Identityd

from common.grid.network import BodyNetwork
from common.training.sampling import StreamSampler
from support.bundle.path import import_bundle

control = import_bundle("ada_sam", "control")
SIZE = (4, 4, 5)


def item() -> dict:
    """Return a case of five slices: the second one drawn, nothing on the last one by its bits, the others unknown."""
    label, annotated, presence = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE), torch.ones(2, *SIZE)
    label[..., :2, 1] = 2
    label[..., 3] = 1  # of a slice that was not to be opened
    annotated[..., 1] = 1
    presence[..., 4] = 0
    image = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))
    return {"case": "a", "image": image, "label": label, "annotated": annotated, "presence": presence}


def test_drawn_and_empty_slices_teach_and_no_other():
    found = control.OnlyMasks([item()], 3).load("a")
    assert found["weight"].shape == (1, *SIZE) and found["target"].shape == (3, *SIZE)
    assert found["weight"].flatten(0, 2).mean(0).tolist() == [0, 1, 0, 0, 1]
    assert found["target"][2, :, :2, 1].min() == 1 and found["target"][0, :, 2:, 1].min() == 1
    assert found["target"][0, ..., 4].min() == 1 and found["target"][..., [0, 2, 3]].max() == 0


def test_as_many_volumes_a_step_as_the_method_has_from_its_own_data(tmp_path):
    own = Dataset([item(), item() | {"case": "b"}], Compose([]))
    own.transform.augmentation = Compose([Identityd("image")])
    loader = DataLoader(own, batch_size=3, sampler=StreamSampler(own, 12))
    network = BodyNetwork(torch.nn.Conv3d(1, 3, 1), SIZE, (1, 1, 1), (0, 1, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    run = SimpleNamespace(seed=0, world_size=1, rank=0, num_workers=0, ckpt_dir=tmp_path)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    plain = control.PlainControl(
        wanted=True, run=run, network=network, dataloader=loader, optimizer=optimizer, lr_scheduler=schedule, epochs=1
    )
    batches = list(plain.loader())
    assert len(batches) == len(loader) == 4
    assert all(batch["image"].shape[0] == 3 and batch["weight"].mean() == 0.4 for batch in batches)
    losses = plain.objective(plain.network)(batches[0])
    losses["loss"].backward()
    assert plain.network.body.weight.grad is not None and network.body.weight.grad is None
