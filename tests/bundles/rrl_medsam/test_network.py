from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch.nn import functional as F

from support.bundle.path import import_bundle

networks = import_bundle("rrl_medsam", "network")
RRLMedSAMNetwork = networks.RRLMedSAMNetwork
RegistrationNetwork = import_bundle("rrl_medsam", "learning.registration_network").RegistrationNetwork

FORM = {"channels": (4, 8, 16), "strides": (2, 2)}


def network(**changes):
    torch.manual_seed(0)
    settings = {"spatial_size": (16, 8, 12), "pixdim": (1.5, 2.0, 2.5), "label_values": (0, 2, 7), **FORM, **changes}
    return RRLMedSAMNetwork(**settings)


def image(batch=2):
    return torch.rand(batch, 1, 16, 8, 12, generator=torch.Generator().manual_seed(1))


def learns(module, loss):
    """Names of the children of a network that a loss reaches."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    return {
        name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("blocks", networks.BLOCKS)
def test_logits_on_the_images_own_grid(blocks):
    for output in ("mean", "medical", "general"):
        assert network(output=output, blocks=blocks)(image()).shape == (2, 3, 16, 8, 12)


def test_mean_is_that_of_both_models_probabilities():
    model = network().eval()
    general, medical = (network(output=output).eval()(image()) for output in ("general", "medical"))
    wanted = (F.softmax(general, 1) + F.softmax(medical, 1)) / 2
    torch.testing.assert_close(model(image()).exp(), wanted, rtol=0, atol=1e-6)


def test_general_and_medical_encoder_start_equal():
    model = network()
    pairs = zip(model.general_encoder.parameters(), model.medical_encoder.parameters(), strict=True)
    for general, medical in pairs:
        assert torch.equal(general, medical) and general is not medical


def test_the_prompt_is_detached():
    model = network(output="medical")
    assert learns(model, model(image()).square().mean()) == {"medical_encoder", "medical_decoder", "dense_prompt"}


def test_the_prompt_matters_and_no_mask_stands_in_for_it():
    model = network().eval()
    mask = F.softmax(torch.randn(2, 3, 16, 8, 12), 1)
    prompted, alone = model.forward_medical(image(), mask), model.forward_medical(image())
    assert not torch.allclose(prompted, alone, atol=1e-4)
    mixed = model.forward_medical(image(), mask, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(mixed, torch.stack([prompted[0], alone[1]]))
    with torch.no_grad():
        model.dense_prompt.no_mask += 1
    assert not torch.allclose(model.forward_medical(image()), alone, atol=1e-4)


def test_without_a_mask_the_prompt_layers_get_no_gradient_at_all():
    model = network()
    model.forward_medical(image()).square().mean().backward()
    assert model.dense_prompt.no_mask.grad is not None
    assert all(p.grad is None for p in model.dense_prompt.layers.parameters())  # weight decay leaves them alone too


def test_a_network_without_prompt_needs_no_general_model():
    model = network(prompt=False, output="medical")
    loss = model(image()).square().mean()
    assert learns(model, loss) == {"medical_encoder", "medical_decoder", "dense_prompt"}
    assert model.dense_prompt.layers[0].weight.grad is None


@pytest.mark.parametrize("blocks", networks.BLOCKS)
@pytest.mark.parametrize("output", ["mean", "medical", "general"])
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_equals_eager(output, prompt, blocks):
    model = network(output=output, prompt=prompt, blocks=blocks).eval()
    torch.testing.assert_close(torch.jit.script(model)(image()), model(image()))


def test_the_grid_travels_in_the_state_dict():
    state = network().state_dict()
    assert state["spatial_size"].tolist() == [16, 8, 12]
    assert state["pixdim"].tolist() == [1.5, 2.0, 2.5]
    assert state["label_values"].tolist() == [0, 2, 7]
    other = network(pixdim=(1, 1, 1), label_values=(0, 1, 65535))
    other.load_state_dict(state)
    assert other.pixdim.tolist() == [1.5, 2.0, 2.5] and other.label_values.tolist() == [0, 2, 7]


def test_it_holds_neither_teacher_nor_registration():
    children = {name for name, _ in network().named_children()}
    assert children == {"general_encoder", "general_decoder", "medical_encoder", "medical_decoder", "dense_prompt"}


def test_bfloat16_is_close_to_float32():
    model = network().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(image())
    assert low.dtype == torch.float32
    assert (low.exp() - model(image()).exp()).abs().max() < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_size": (16, 10, 12)}, r"multiples of \[4, 4, 4\]"),
        ({"spatial_size": (16, 0, 12)}, "at least these"),
        ({"spatial_size": (16, -4, 12)}, "at least these"),
        ({"pixdim": (1.0, 0.0, 1.0)}, "above 0"),
        ({"label_values": (0,)}, "at least one more"),
        ({"output": "median"}, "wanted mean, medical or general"),
        ({"blocks": "dense"}, "wanted residual or two_conv"),
        ({"strides": (2, 2, 2)}, "1 or 2 a step, one fewer than channels"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        network(**changes)


def test_the_general_model_is_a_unet_by_which_another_one_can_begin():
    model = network().eval()
    unet = UNet(3, 1, 3, FORM["channels"], FORM["strides"], num_res_units=2, norm="instance").eval()
    unet.load_state_dict(model.body.state_dict())
    assert torch.equal(unet(image()), model.forward_general(image()))
    assert network(blocks="two_conv").body is None


@pytest.mark.parametrize("blocks", networks.BLOCKS)
def test_thick_slices_keep_their_number_in_every_part(blocks):
    strides = [[2, 2, 1], [2, 2, 2]]
    model, scan = network(blocks=blocks, strides=strides, spatial_size=(16, 8, 6)), torch.rand(2, 1, 16, 8, 6)
    assert model(scan).shape == (2, 3, 16, 8, 6)
    assert model.medical_encoder(scan)[-1].shape[2:] == (4, 2, 3) and model.factors == [4, 4, 2]
    assert model.state_dict()["strides"].tolist() == strides
    registration = RegistrationNetwork(model.medical_encoder, FORM["channels"], strides)
    assert registration(scan, scan.flip(2)).shape == (2, 3, 8, 4, 6)
    assert registration.ddf(scan, scan.flip(2)).shape == (2, 3, 16, 8, 6)


@pytest.mark.parametrize("blocks", networks.BLOCKS)
@pytest.mark.parametrize("prefix", ["", "coarse."])
def test_a_trained_model_says_of_which_blocks_it_is(blocks, prefix, tmp_path):
    state = {f"{prefix}{name}": value for name, value in network(blocks=blocks).state_dict().items()}
    torch.save(state, tmp_path / "model.pt")
    assert networks.read_blocks(str(tmp_path / "model.pt")) == blocks
    assert networks.read_blocks(str(tmp_path / "none.pt")) == "residual"


def test_registration_starts_as_the_identity_and_shares_the_medical_encoder():
    model = network()
    registration = RegistrationNetwork(model.medical_encoder, **FORM)
    velocity = registration(image(), image().flip(2))
    assert velocity.shape == (2, 3, 8, 4, 6) and velocity.dtype == torch.float32
    ddf = registration.ddf(image(), image().flip(2))
    assert ddf.shape == (2, 3, 16, 8, 12) and ddf.abs().max() < 1e-2
    assert registration.encoder is model.medical_encoder
    assert registration(image(), image()).requires_grad
