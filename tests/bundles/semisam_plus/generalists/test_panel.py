from __future__ import annotations

import pytest
import torch

from common.errors import find_input_error
from support.bundle.path import import_bundle
from support.semisam_plus.fake import Knowing, cubes, use_fake_sams

module = import_bundle("semisam_plus", "generalists.panel")
RULE = {"min_agreement": 0.3}


def make(folder, generalist="mobile_sam", **options):
    return module.GeneralistPanel(generalist, str(folder / "sam"), rule=RULE, **options)


def probabilities(image):
    return Knowing()(image[None]).softmax(1)[0].detach()


@pytest.mark.parametrize("nobody", [None, "null", "None", []])
def test_without_a_generalist_nothing_is_looked_for(tmp_path, nobody):
    panel = make(tmp_path, nobody)
    assert panel.names == [] and not panel.compared and panel.embed(cubes(1)[0]["image"]) == {}


def test_volume_is_encoded_once_and_found_on_disk_by_the_next_run(tmp_path, monkeypatch):
    built = use_fake_sams(monkeypatch, tmp_path)
    image = cubes(1)[0]["image"]
    first = make(tmp_path).embed(image)
    assert built["mobile_sam"].slices == 16
    again = make(tmp_path, compared_prompts=["point"]).embed(image)
    assert built["mobile_sam"].slices == 16 and torch.equal(first[0], again[0])


def test_answer_is_what_the_prompted_boxes_hold(tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    image = cubes(1)[0]["image"]
    panel = make(tmp_path, slice_options={"members": 2, "jitter": 0.0, "padding": 0.0})
    said = panel.ask(panel.embed(image), probabilities(image))
    truth = image[0] > 0.5
    assert torch.equal(said.answer.argmax(0) == 1, truth)
    assert said.weight == 1 and said.agreement > 0.95 and said.mutual == 1
    assert said.disagreement.shape == (1, 16, 16, 16) and float(said.disagreement.max()) < 0.1
    shared = make(tmp_path, specialist_share=0.5, slice_options={"members": 2, "jitter": 0.0, "padding": 0.0})
    mixed = shared.ask(shared.embed(image), probabilities(image))
    assert torch.allclose(mixed.answer, (said.answer + probabilities(image)) / 2, atol=1e-5)


def test_two_generalists_and_their_settings(tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    both = ["mobile_sam", "lite_medsam"]
    panel = make(tmp_path, both, image_size=[64, None], prompt=["point", "box"], compared_prompts=["box"])
    assert list(panel.compared) == ["mobile_sam point", "mobile_sam box", "lite_medsam box"]
    image = cubes(1)[0]["image"]
    said = panel.ask(panel.embed(image), probabilities(image))
    assert 0 < said.mutual < 1  # a box around a point is no box around the cube
    with pytest.raises(ValueError) as error:
        make(tmp_path, both, prompt=["box"])
    assert "generalist_prompt: found 1 for 2" in find_input_error(error.value).problems[0]


def test_who_is_silenced_is_asked_no_more(tmp_path, monkeypatch):
    built = use_fake_sams(monkeypatch, tmp_path)
    panel = make(tmp_path, ["mobile_sam", "lite_medsam"], prompt="box")
    panel.silence(0)
    assert list(panel.compared) == ["lite_medsam box"] and panel.names == ["mobile_sam", "lite_medsam"]
    image = cubes(1)[0]["image"]
    embeddings = panel.embed(image)
    assert list(embeddings) == [1]
    said, batch = panel.ask(embeddings, probabilities(image)), panel(image[None], probabilities(image)[None])
    assert built["mobile_sam"].slices == 0 < built["lite_medsam"].slices
    assert said.weight == 1 == batch[2].item() and said.mutual == 1


def test_batch_in_the_middle_of_training_is_answered_item_by_item(tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    panel = make(tmp_path)
    images = torch.stack([item["image"] for item in cubes(3)])
    own = torch.stack([probabilities(image) for image in images])
    own[1] = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1)  # nothing to ask about
    answer, disagreement, weight = panel(images, own)
    assert answer.shape == (3, 2, 16, 16, 16) and disagreement.shape == (3, 1, 16, 16, 16)
    assert weight.tolist() == [1, 0, 1]
    alone = panel(images[2:], own[2:])
    assert torch.equal(alone[0][0], answer[2]) and not list((tmp_path / "sam").glob("*"))
