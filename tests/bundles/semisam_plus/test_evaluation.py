from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.report.gallery import Gallery
from support.bundle.path import import_bundle
from support.semisam_plus.fake import Knowing, cubes, use_fake_sams

module, panel_module = import_bundle("semisam_plus", "evaluation"), import_bundle("semisam_plus", "generalists.panel")


NOBODY = SimpleNamespace(compared={})


def on_grid(volume: torch.Tensor) -> MetaTensor:
    affine = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))
    meta = {"original_affine": affine.numpy(), "spatial_shape": np.array(volume.shape[1:])}
    return MetaTensor(volume, affine=affine, meta=meta)


def item():
    image = cubes(1)[0]["image"]
    return {"image": on_grid(image), "pred": Knowing()(image[None]).softmax(1)[0].detach()}


def test_cleaned_prediction_stands_beside_the_prediction():
    given = item()
    given["pred"][:, 14:, 14:, 14:] = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1)
    found = module.AddGeneralistsd(NOBODY, [0, 1], smoothing=0.4)(given)
    assert found["pred"] is given["pred"] and int(given["pred"].argmax(0)[15, 15, 15]) == 1
    assert int(found["cleaned"][0, 15, 15, 15]) == 0 and int(found["cleaned"][0, 7, 7, 7]) == 1


def test_every_generalist_and_prompt_gives_a_mask_of_its_own(tmp_path, monkeypatch):
    built = use_fake_sams(monkeypatch, tmp_path)
    panel = panel_module.GeneralistPanel("mobile_sam", str(tmp_path / "sam"), prompt="box", compared_prompts=["point"])
    found = module.AddGeneralistsd(panel, [0, 1])(item())
    assert set(found) == {"image", "pred", "cleaned", "mobile_sam box", "mobile_sam point", "compared"}
    box, point = (found[f"mobile_sam {kind}"].sum() for kind in ("box", "point"))
    assert int(box) > int(point) > 0 and built["mobile_sam"].slices == 16
    nobody = panel_module.GeneralistPanel(None, str(tmp_path / "sam"))
    assert set(module.AddGeneralistsd(nobody, [0, 1])(item())) == {"image", "pred", "cleaned", "compared"}


def test_who_is_refused_after_all_was_built_is_neither_embedded_for_nor_asked(tmp_path, monkeypatch):
    built = use_fake_sams(monkeypatch, tmp_path)
    both = ["mobile_sam", "lite_medsam"]
    panel = panel_module.GeneralistPanel(both, str(tmp_path / "sam"), prompt="box", compared_prompts=["point"])
    transform = module.AddGeneralistsd(panel, [0, 1])
    shown = Gallery({0: "background"}, transform.shown_maps)
    assert list(shown.maps.values()) == ["pred", "mobile_sam box", "label"]
    panel.silence(0)
    found = transform({**item(), "label": on_grid(cubes(1)[0]["image"] > 0.5)})
    # its prompts are boxes alone
    assert list(transform.columns(found)) == ["cleaned dice", "cleaned hd95", "lite_medsam box dice"]
    assert (built["mobile_sam"].slices, built["lite_medsam"].slices) == (0, 16)
    assert list(shown.maps.values()) == ["pred", "lite_medsam box", "label"]
    panel.silence(1)
    monkeypatch.setattr(panel, "embed", lambda image: pytest.fail("a volume was embedded for nobody"))
    assert list(transform.columns(transform(item()))) == ["cleaned dice", "cleaned hd95"]
    assert list(shown.maps.values()) == ["pred", "label"]


def test_columns_are_the_dice_of_each_map_and_the_distance_of_the_control():
    def cube(low):
        volume = torch.zeros(1, 16, 16, 16)
        volume[:, low : low + 8, 4:12, 4:12] = 1
        return volume

    def both(foreground):
        return torch.cat([1 - foreground, foreground])

    answer = import_bundle("semisam_plus", "generalists.consultation").Answer(cube(4)[None], torch.tensor([True]))
    generalist = SimpleNamespace(answer=lambda embedding, probabilities: answer)
    panel = SimpleNamespace(device="cpu", compared={"sam box": (0, generalist)}, embed=lambda image: {0: image})
    transform = module.AddGeneralistsd(panel, [0, 2], smoothing=0.1)
    columns = transform.columns(
        transform({"image": on_grid(cube(4)), "label": on_grid(2 * cube(4)), "pred": both(cube(6))})
    )
    assert list(columns) == ["cleaned dice", "cleaned hd95", "sam box dice"]
    assert columns["cleaned dice"] == {2: pytest.approx(0.75)} and columns["cleaned hd95"] == {2: pytest.approx(4.0)}
    assert columns["sam box dice"] == {2: 1.0}
