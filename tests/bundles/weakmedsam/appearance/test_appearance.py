from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor, nn

from common.grid.grid import Grid
from support.bundle.path import import_bundle

appearance = import_bundle("weakmedsam", "appearance")
PseudoLabeller = import_bundle("weakmedsam", "labeller").PseudoLabeller
Location = import_bundle("weakmedsam", "prior.location").Location
Walk = import_bundle("weakmedsam", "walk.walks").Walk

SIZE, SPACING = (24, 24, 12), (2.0, 2.0, 3.0)
RADII = (4.5, 3.5, 3.2)  # voxels
BOX = ((0.2, 0.6), (0.35, 0.75), (0.0, 1.0))  # a voxel or two beside the mean place


class Phantom:
    """Volumes: a bright ellipsoid near one place, on some slices, and elsewhere a rod as bright, on all slices."""

    def __init__(self, count: int = 6) -> None:
        generator = torch.Generator().manual_seed(0)
        place = torch.stack(torch.meshgrid(*[torch.arange(n).float() for n in SIZE], indexing="ij"))
        affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
        meta = {"original_affine": affine.numpy().copy(), "spatial_shape": np.array(SIZE)}
        self.items, self.truth = [], {}
        for index in range(count):
            moved = 1.2 * (2 * torch.rand(3, generator=generator) - 1)
            centre = torch.tensor([11.0, 12.0, 5.5]) + moved
            ellipsoid = ((place - centre.view(3, 1, 1, 1)) / torch.tensor(RADII).view(3, 1, 1, 1)).square().sum(0) < 1
            rod = ((place[0] - 19) ** 2 + (place[1] - 6) ** 2 < 6) & ~ellipsoid
            image = 0.25 + 0.4 * (ellipsoid | rod) + 0.07 * torch.randn(SIZE, generator=generator)
            bits = ellipsoid.any(0).any(0).float().expand(SIZE)[None].contiguous()
            image = MetaTensor(image.clamp(0, 1)[None], affine=affine, meta=dict(meta))
            self.items.append({"case": f"case_{index}", "image": image, "presence": bits})
            self.truth[f"case_{index}"] = ellipsoid

    def labeller(self, folder, **settings) -> PseudoLabeller:
        volume = sum(float(t.sum()) for t in self.truth.values()) / len(self.truth) * 12 / 1000
        known = SimpleNamespace(
            labels={0: "background", 1: "ellipsoid"},
            locations={1: Location(BOX, round(volume, 1))},
            grid=Grid(SIZE, SPACING, (0, 1)),
            slice_axis=2,
            slice_labels={i["case"]: SimpleNamespace(bits=i["presence"][:, 0, 0].numpy() > 0) for i in self.items},
            reject=[],
        )
        return PseudoLabeller(known, self.items, Walk("intensity", 2, SPACING, steps=4), str(folder), **settings)

    def dice(self, found) -> list[float]:
        pairs = [(found(case) > 0.5, truth) for case, truth in self.truth.items()]
        return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom()


KEYS = ("image", "presence", "target")


class Training:
    """Two epochs a round, as the config's trainer: an epoch's order hangs on its number alone."""

    def __init__(self, labeller: PseudoLabeller, steps: int = 6, epochs: int = 6, channels: int = 6) -> None:
        torch.manual_seed(0)
        self.labeller, self.steps, self.epochs = labeller, steps, epochs
        self.network = appearance.AppearanceNetwork(max(labeller.groups) + 1, channels)
        self.objective = appearance.AppearanceObjective(self.network, labeller.groups)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 0.02)
        self.rounds = appearance.AppearanceRounds(labeller, self.network)
        self.add = appearance.AddTargetd(labeller)

    def epoch(self, number: int) -> None:
        self.rounds.start_round(SimpleNamespace(state=SimpleNamespace(epoch=number, max_epochs=self.epochs)))
        self.network.train()
        order = torch.randint(
            len(self.labeller.cases), (self.steps, 2), generator=torch.Generator().manual_seed(number)
        )
        for chosen in order.tolist():
            items = [self.add(self.labeller.images[index]) for index in chosen]
            batch = {key: torch.stack([torch.as_tensor(i[key]) for i in items]) for key in KEYS}
            loss = self.objective(batch)["loss"]
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def state(self) -> dict:
        return deepcopy({"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()})

    def load(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))


@pytest.fixture(scope="module")
def trained(phantom, tmp_path_factory) -> dict:
    """Three rounds of two epochs in one piece; the state after each epoch, and the labels of each round."""
    labeller = phantom.labeller(tmp_path_factory.mktemp("trained"), rounds=3)
    labeller.start()
    training, states, rounds = Training(labeller), {}, {}
    for number in range(1, 7):
        training.epoch(number)
        states[number] = training.state()
        rounds[labeller.round] = {case: labeller.target(case) for case in labeller.cases}
    labeller.finish(training.network)
    return {"labeller": labeller, "training": training, "states": states, "rounds": rounds}


# --- the network


def bright(scale: float) -> nn.Module:
    """Return a network without weights: what is bright is foreground."""

    class Bright(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return scale * (10 * image - 4.5)

    return Bright()


def test_the_network_sees_tissue_and_no_place():
    torch.manual_seed(0)
    network = appearance.AppearanceNetwork(2, 4)
    image = torch.rand(1, 1, 16, 14, 12, generator=torch.Generator().manual_seed(1))
    network(image)  # running statistics
    network.eval()
    moved = image.roll((3, -2, 2), (2, 3, 4))
    found, wanted = network(moved), network(image).roll((3, -2, 2), (2, 3, 4))
    inside = (slice(None), slice(None), slice(6, -3), slice(3, -5), slice(5, -3))  # away from the border and the seam
    assert found.shape == (1, 2, 16, 14, 12) and torch.allclose(found[inside], wanted[inside], atol=1e-5)
    assert wanted[inside].std() > 1e-3 and not torch.allclose(found[:, 0], found[:, 1], atol=1e-2)


def test_what_is_alike_everywhere_scores_alike_up_to_the_border():
    network = appearance.AppearanceNetwork(1, 4).eval()
    score = network.layers(torch.full((1, 1, 9, 8, 10), 0.7))
    assert torch.allclose(score, score[..., :1, :1, :1].expand_as(score), atol=1e-5)


def test_its_view_is_seven_voxels_wide():
    torch.manual_seed(0)
    layers = appearance.AppearanceNetwork(1, 4).eval().layers
    image = torch.rand(1, 1, 15, 15, 15, generator=torch.Generator().manual_seed(1), requires_grad=True)
    layers(image)[0, 0, 7, 7, 7].backward()
    seen = image.grad[0, 0].ne(0).nonzero()
    assert seen.amin(0).tolist() == [4, 4, 4] and seen.amax(0).tolist() == [10, 10, 10]


def test_brightness_and_contrast_of_a_scan_do_not_matter():
    network = appearance.AppearanceNetwork(1, 4).eval()
    image = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    changed = torch.cat([image[:1], 0.3 * image[1:] + 0.4])
    assert torch.allclose(network(image), network(changed), atol=1e-4)
    assert network(torch.full((1, 1, 8, 8, 8), 0.5)).isfinite().all()


# --- its targets


def test_targets_are_those_of_the_round(phantom, tmp_path):
    labeller = phantom.labeller(tmp_path, rounds=2)
    labeller.start()
    add, item = appearance.AddTargetd(labeller), phantom.items[0]
    before = add(item)["target"]
    labeller.renew(2, bright(3.0))
    after = add(item)
    assert before.shape == (1, *SIZE) and not before.equal(after["target"])
    assert after["target"].equal(labeller.target("case_0")) and after["case"] == "case_0" and "target" not in item


# --- its rounds


@pytest.mark.parametrize(
    ("rounds", "epochs", "wanted"),
    [(3, 6, {3: 2, 5: 3}), (2, 5, {4: 2}), (1, 3, {}), (4, 4, {2: 2, 3: 3, 4: 4}), (4, 6, {3: 2, 5: 3})],
)
def test_rounds_begin_at_their_epochs(rounds, epochs, wanted):
    class Labeller:
        def __init__(self):
            self.rounds, self.round, self.renewed = rounds, 1, {}

        def renew(self, number, network):
            assert network == "network" and not torch.is_grad_enabled()
            self.renewed[engine.state.epoch] = self.round = number

    labeller, engine = Labeller(), Engine(lambda engine, batch: None)
    appearance.AppearanceRounds(labeller, "network").attach(engine)
    engine.run([0, 0], max_epochs=epochs)
    assert labeller.renewed == wanted


def test_new_labels_are_made_once_a_round(trained):
    assert sorted(trained["rounds"]) == [1, 2, 3]
    for case in ("case_0", "case_5"):
        first, second, third = (trained["rounds"][number][case] for number in (1, 2, 3))
        assert not first.equal(second) and not second.equal(third)


@pytest.mark.parametrize("killed_after", [3, 4, 5])
def test_a_run_resumed_within_a_round_has_the_labels_and_weights_of_one_in_a_piece(
    phantom, trained, tmp_path, killed_after
):
    first = phantom.labeller(tmp_path, rounds=3)
    first.start()
    training = Training(first)
    for number in range(1, killed_after + 1):
        training.epoch(number)
    again = phantom.labeller(tmp_path, rounds=3, resume=True)
    again.start()
    resumed = Training(again)
    resumed.load(trained["states"][killed_after])
    for number in range(killed_after + 1, 7):  # round 3 without renew(2) where it was killed after epoch 4 or 5
        resumed.epoch(number)
        for case in again.cases:
            assert again.target(case).equal(trained["rounds"][again.round][case])
    again.finish(resumed.network)
    for case in again.cases:
        for name, tensor in trained["labeller"].load(case).items():
            assert again.load(case)[name].equal(tensor), (case, name)
    for one, other in zip(resumed.network.parameters(), trained["training"].network.parameters(), strict=True):
        assert one.equal(other)


def test_a_checkpoint_older_than_the_labels_comes_to_the_same(phantom, trained, tmp_path):
    """Killed in epoch 5, whose round was begun, with the last checkpoint after epoch 4."""
    first = phantom.labeller(tmp_path, rounds=3)
    first.start()
    training = Training(first)
    for number in range(1, 6):
        training.epoch(number)
    again = phantom.labeller(tmp_path, rounds=3, resume=True)
    again.start()
    resumed = Training(again)
    resumed.load(trained["states"][4])
    for number in (5, 6):
        resumed.epoch(number)
    again.finish(resumed.network)
    assert all(again.load(c)["maps"].equal(trained["labeller"].load(c)["maps"]) for c in again.cases)


# --- what it is for


def test_rounds_and_a_learnt_location_beat_the_box(phantom, trained):
    labeller = trained["labeller"]
    prior = phantom.dice(lambda case: trained["rounds"][1][case][0])
    rounds = [phantom.dice(lambda case, n=n: trained["rounds"][n][case][0]) for n in (2, 3)]
    final = phantom.dice(lambda case: labeller.load(case)["target"][1])
    mean = [sum(dice) / len(dice) for dice in (prior, *rounds, final)]
    assert mean[0] < 0.75 and mean[-1] > mean[0] + 0.1 and mean[-1] > 0.8
    assert min(final) > min(prior) + 0.1
    assert mean[0] < mean[1] < mean[-1]


def test_the_rod_looks_the_same_and_is_told_apart_by_its_place(phantom, trained):
    labeller, network = trained["labeller"], trained["training"].network.eval()
    with torch.no_grad():
        score = network(phantom.items[0]["image"].as_tensor()[None])[0, 0]
    rod, positive = (slice(18, 21), slice(5, 8)), phantom.items[0]["presence"][0, 0, 0] > 0
    background = score[:4, :4].mean()
    assert score[rod].mean() > background + 1
    target = labeller.load("case_0")["target"][1]
    assert target[rod][..., positive].mean() < 0.1 and target[rod][..., ~positive].eq(0).all()
