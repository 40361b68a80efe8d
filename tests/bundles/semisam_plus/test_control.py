"""What the plain control of a few labelled volumes learns from."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from monai.data import Dataset
from torch.optim.lr_scheduler import ConstantLR

from common.training.loaders import two_stream_loader
from support.bundle.path import import_bundle
from support.semisam_plus.batch import make_batch, make_network

control = import_bundle("semisam_plus", "control")


def make(tmp_path, labelled: int):
    run = SimpleNamespace(seed=0, world_size=1, rank=0, num_workers=0, ckpt_dir=tmp_path)
    dataset = Dataset([{"case": number, "labeled": number < labelled} for number in range(6)])
    loader = two_stream_loader(run, dataset, range(labelled), 4, 2, 1, stream=0)
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    cohort = SimpleNamespace(labeled=list(range(labelled)))
    options = {"network": network, "dataloader": loader, "optimizer": optimizer, "lr_scheduler": ConstantLR(optimizer)}
    return control.PlainControl(cohort=cohort, wanted=True, run=run, epochs=2, **options)


def test_steps_have_the_methods_labelled_volumes_in_its_order_and_no_other(tmp_path):
    plain = make(tmp_path, 3)
    own = [batch["case"][:2].tolist() for batch in plain.dataloader]
    found = [batch["case"].tolist() for batch in plain.loader()]
    assert found == own and len(found) == 4 and all(len(batch) == 2 for batch in found)


def test_without_a_labelled_volume_there_is_nothing_to_learn_from(tmp_path):
    assert make(tmp_path, 0).loader() is None


def test_loss_is_that_of_the_labels_alone(tmp_path):
    plain = make(tmp_path, 3)
    batch = make_batch((True, True, False))
    losses = plain.objective(plain.network)(batch)
    assert set(losses) == {"loss", "supervised"}
    assert torch.equal(losses["loss"], 0.5 * losses["supervised"])  # the weight that the method gives it
