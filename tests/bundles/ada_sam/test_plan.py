"""The order of ADA-SAM's stages, with what they do left out, and what its plain control learns from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Identityd

from common.grid.network import BodyNetwork
from common.training.sampling import StreamSampler
from support.ada_sam.fake import cohort
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "plan")


class Told:
    """Stand for a part of a plan: write down whatever is asked of it."""

    def __init__(self, name: str, said: list[str], **known: Any) -> None:
        self.name, self.said = name, said
        vars(self).update(known)

    def __getattr__(self, asked: str) -> Any:
        def note(*_: Any) -> None:
            self.said.append(f"{self.name}.{asked}")

        return note


def done(second: object | None = "unet", labelled: bool = True) -> list[str]:
    """Return what a plan asks of its parts, in order."""
    said: list[str] = []
    run = SimpleNamespace(output_dir="out", measure=lambda name, work, share=None: work())
    network = Told("ada", said)
    plan = module.FewSlicesPlan(
        run,
        cohort(),
        volume=Told("volume", said, network=network, inference=None),
        network=None,
        images=Told("images", said),
        slices=Told(
            "slices",
            said,
            features=Told("features", said, all_bits={}),
            table=SimpleNamespace(images=Told("slice images", said)),
        ),
        classify=Told("classify", said),
        adapt=Told("adapt", said),
        adapted=Told("adapted", said),
        slice_unet=Told("slice_unet", said),
        labeller=Told("labeller", said, second=second) if labelled else None,
    )
    if labelled:
        plan.review = Told("review", said)
    plan.stages()
    return said


ADA_SAM = [
    "images.set_data",
    "slice images.set_data",
    "features.prepare",
    "ada.note_extents",
    "volume.know_pieces",
    "slices.prepare",
]
ADA_SAM += ["classify.run", "adapt.run", "adapted.write"]


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({}, ["slice_unet.run", "labeller.run", "review.write"]),
        ({"second": None}, ["labeller.run", "review.write"]),  # the plain network has no share
        ({"labelled": False}, []),  # ADA-SAM itself is deployed
    ],
)
def test_stages_come_in_their_order_and_those_that_nobody_needs_are_left_out(options, after):
    assert done(**options) == ADA_SAM + after


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
