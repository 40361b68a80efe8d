from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from support.bundle.path import import_bundle
from support.semisam_plus.fake import Knowing, cubes, use_fake_sams

module, panel_module = import_bundle("semisam_plus", "evaluation"), import_bundle("semisam_plus", "generalists.panel")


def item():
    image = cubes(1)[0]["image"]
    return {"image": MetaTensor(image), "pred": Knowing()(image[None]).softmax(1)[0].detach()}


def test_cleaned_prediction_stands_beside_the_prediction():
    given = item()
    given["pred"][:, 14:, 14:, 14:] = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1)
    found = module.AddCleanedd(sigma=0.4)(given)
    assert found["pred"] is given["pred"] and int(given["pred"].argmax(0)[15, 15, 15]) == 1
    assert int(found["cleaned"].argmax(0)[15, 15, 15]) == 0 and int(found["cleaned"].argmax(0)[7, 7, 7]) == 1


def test_every_generalist_and_prompt_gives_a_mask_of_its_own(tmp_path, monkeypatch):
    built = use_fake_sams(monkeypatch, tmp_path)
    panel = panel_module.GeneralistPanel("mobile_sam", str(tmp_path / "sam"), prompt="box", compared_prompts=["point"])
    found = module.AddGeneralistsd(panel)(item())
    assert set(found) == {"image", "pred", "mobile_sam box", "mobile_sam point"}
    box, point = (found[f"mobile_sam {kind}"].argmax(0).sum() for kind in ("box", "point"))
    assert int(box) > int(point) > 0 and built["mobile_sam"].slices == 16
    nobody = panel_module.GeneralistPanel(None, str(tmp_path / "sam"))
    assert set(module.AddGeneralistsd(nobody)(item())) == {"image", "pred"}


def test_columns_are_the_dice_of_each_map_and_the_distance_of_the_control():
    affine = torch.diag(torch.tensor([2.0, 1, 1, 1]))

    def cube(low):
        volume = torch.zeros(1, 16, 16, 16)
        volume[:, low : low + 8, 4:12, 4:12] = 2
        return MetaTensor(volume, affine=affine)

    maps = {"label": cube(4), "cleaned": cube(6), "mobile_sam box": cube(4)}
    found = module.ComparedColumns([0, 2, 3], ["cleaned", "mobile_sam box", "absent"])(maps)
    assert set(found) == {"cleaned dice", "cleaned hd95", "mobile_sam box dice"}
    assert found["cleaned dice"][2] == pytest.approx(0.75) and found["cleaned hd95"][2] == pytest.approx(4.0)
    assert found["mobile_sam box dice"][2] == 1 and np.isnan(found["cleaned dice"][3])
