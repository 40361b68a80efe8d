from __future__ import annotations

import pytest
import torch
from torch import nn

from support.ada_sam.batch import make_batch, make_network
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.teacher")
TrainableTeacher = module.TrainableTeacher


class Network(nn.Module):
    """A frozen layer, a trained one, and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))

    def trainable_parameters(self):
        return ["body.0.weight", "body.0.bias"]

    def forward(self, x):
        return self.body(self.frozen(x))


def change(network, by=1.0):
    with torch.no_grad():
        for name in network.trainable_parameters():
            network.get_parameter(name).add_(by)


def test_averages_are_those_of_the_trained_parameters_alone():
    network = Network()
    teacher = TrainableTeacher(network)
    before = network.body[0].weight.detach().clone()
    assert set(teacher.averages()) == set(network.trainable_parameters())
    change(network)
    teacher.update(network, 0.75)
    torch.testing.assert_close(teacher.averages()["body.0.weight"], before + 0.25)
    teacher.update(network, 0.0)
    torch.testing.assert_close(teacher.averages()["body.0.weight"], before + 1)
    assert not list(teacher.parameters())  # nothing an optimizer could take


def test_in_place_the_network_is_the_teacher_and_comes_back():
    network = Network().train()
    x, teacher = torch.randn(3, 4), TrainableTeacher(network)
    with torch.no_grad():
        old = network.eval()(x)
    network.train()
    change(network)
    own = dict(network.named_parameters())
    with teacher.in_place(network) as asked:
        assert asked is network and not network.body[1].training
        first = network(x)
        assert not first.requires_grad
    torch.testing.assert_close(first, old)
    assert network.training and network.body[1].training
    assert all(parameter is own[name] for name, parameter in network.named_parameters())
    assert list(own) == [name for name, _ in network.named_parameters()]
    assert network.body[0].weight.requires_grad


def test_a_graph_from_before_gets_its_gradient_and_errors_bring_the_student_back():
    network = Network().eval()
    teacher, x = TrainableTeacher(network), torch.randn(3, 4)
    change(network)
    (wanted,) = torch.autograd.grad(network(x).square().sum(), network.body[0].weight)
    loss = network(x).square().sum()
    own = network.body[0].weight
    with pytest.raises(RuntimeError, match="stop"), teacher.in_place(network):
        raise RuntimeError("stop")
    with teacher.in_place(network):
        network(x)
    assert network.body[0].weight is own
    loss.backward()
    torch.testing.assert_close(own.grad, wanted)


def test_state_is_kept_and_can_become_the_network():
    network = Network()
    teacher = TrainableTeacher(network)
    change(network)
    teacher.update(network, 0.5)
    other_network = Network()
    other = TrainableTeacher(other_network)
    other.load_state_dict(teacher.state_dict())
    other.copy_into(other_network)
    torch.testing.assert_close(other_network.body[0].bias, teacher.averages()["body.0.bias"])
    assert other_network.body[0].bias.requires_grad
    torch.testing.assert_close(other_network.frozen.weight, network.frozen.weight)


def test_an_ada_sam_with_adapters_has_no_second_encoder():
    network = make_network(lora_rank=2, feedback=True)
    teacher = TrainableTeacher(network)
    wanted = sum(network.get_parameter(name).numel() for name in network.trainable_parameters())
    assert sum(value.numel() for value in teacher.state_dict().values()) == wanted
    images = make_batch(network, embed=False)["image"][:2]
    with torch.no_grad():
        before = network.eval()(network.encode(images)).logits
        change(network, 0.05)
        assert not torch.allclose(network(network.encode(images)).logits, before)
    with teacher.in_place(network):
        after = network(network.encode(images)).logits
    torch.testing.assert_close(after, before)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"body\.7"):
        TrainableTeacher(Network(), ["body.7"])
    with pytest.raises(ValueError, match="no parameters"):
        TrainableTeacher(Network(), [])


def test_strong_view_of_embeddings():
    embedding = torch.randn(3, 200, 5, 5, generator=torch.Generator().manual_seed(0)) + 2
    view = module.strong_embedding(embedding, torch.Generator().manual_seed(1), channel_dropout=0.3, noise=0.0)
    gone = (view == 0).flatten(2).all(2)
    assert 0.2 < float(gone.float().mean()) < 0.4 and not torch.equal(gone[0], gone[1])
    torch.testing.assert_close(view[~gone], embedding[~gone] / 0.7)
    noisy = module.strong_embedding(embedding, torch.Generator().manual_seed(1), 0.0, 0.1)
    assert float((noisy - embedding).std() / embedding.std()) == pytest.approx(0.1, rel=0.05)
    again = module.strong_embedding(embedding, torch.Generator().manual_seed(1), 0.0, 0.1)
    assert torch.equal(noisy, again)
    assert torch.equal(module.strong_embedding(embedding, torch.Generator(), 0.0, 0.0), embedding)


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_view_of_images_keeps_places(channels):
    image = torch.full((4, channels, 24, 30), 0.3)
    image[:, :, 8:16, 10:20] = 0.7
    view = module.strong_image(image, torch.Generator().manual_seed(0))
    assert type(view) is torch.Tensor and view.shape == image.shape
    assert float(view.min()) >= 0 and float(view.max()) <= 1
    torch.manual_seed(9)
    assert torch.equal(module.strong_image(image, torch.Generator().manual_seed(0)), view)
    assert not torch.equal(view[0], view[1])
    seen = view > 0.02  # outside the holes
    inside, outside = seen[..., 8:16, 10:20], seen.clone()
    outside[..., 8:16, 10:20] = False
    assert float(view[..., 8:16, 10:20][inside].mean()) > float(view[outside].mean()) + 0.1
    assert 0.01 < float((~seen).float().mean()) < 0.3
