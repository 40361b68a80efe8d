from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd

from common.serving.probabilities import ToProbabilitiesd


@pytest.mark.parametrize("most", [10**9, 10])
def test_what_monai_gives(most, monkeypatch):
    monkeypatch.setattr("common.levels.windows.LARGE", most)
    logits = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    wanted = Activationsd("pred", softmax=True)({"pred": logits})["pred"]
    for given in (logits.clone(), MetaTensor(logits.clone())):
        item = {"pred": given, "image": 1}
        found = ToProbabilitiesd("pred")(item)
        torch.testing.assert_close(found["pred"], wanted.as_tensor(), atol=1e-6, rtol=0)
        assert found["image"] == 1 and (found["pred"].data_ptr() == given.data_ptr()) == (most == 10)
