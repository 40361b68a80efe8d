"""The temperature that was put in comes out, is judged by cases left out, and isn't used where it doesn't help."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.review.calibration import Calibration
from common.review.knowledge import Knowledge, read_knowledge
from common.review.temperature import ModelTemperature, calibrate
from common.review.voxels import Voxels


def case(seed, sharpened=1.0, count=4000, classes=3):
    """Voxels whose classes are drawn from their probabilities, which then are sharpened."""
    generator = torch.Generator().manual_seed(seed)
    logs = torch.log_softmax(2 * torch.randn(count, classes, generator=generator), 1)
    truth = torch.multinomial(logs.exp(), 1, generator=generator)[:, 0]
    around = torch.arange(count) % classes
    return Voxels(torch.log_softmax(logs * sharpened, 1), truth, around, torch.ones(count))


@pytest.mark.parametrize("sharpened", [0.5, 2.5])
def test_the_temperature_of_what_was_sharpened_or_blurred_is_found(sharpened):
    found = calibrate([case(n, sharpened) for n in range(5)], [0, 4, 7])
    assert found.temperature == pytest.approx(sharpened, rel=0.06) and found.cases == 5
    assert found.nll[1] < found.nll[0] and found.ece[1] < 0.03 < found.ece[0]
    assert found.before.keys() == found.after.keys() == {4, 7}
    for bins in (*found.before.values(), *found.after.values()):
        assert sum(count for *_, count in bins) == 5 * sum(1 for n in range(4000) if n % 3 == 1)


def test_of_what_comes_true_already_nothing_is_made():
    found = calibrate([case(n) for n in range(4)], [0, 4, 7])
    assert found.fitted == pytest.approx(1, abs=0.06)
    if found.temperature != 1:
        assert found.ece[1] < found.ece[0]


def test_cases_that_contradict_each_other_get_none():
    """Each is judged by the others, which are wrong of it: fitted to all, a temperature would seem to help."""
    found = calibrate([case(0, 6.0), case(1, 0.3), case(2, 0.3)], [0, 4, 7])
    assert found.nll[1] > found.nll[0] and found.temperature == 1 != found.fitted


def test_voxels_count_as_many_as_they_stand_for():
    good, sharp = case(0), case(1, 3.0)
    both = Voxels(*(torch.cat([getattr(one, name) for one in (good, sharp)]) for name in ("logs", "truth", "around")),
                  torch.cat([good.weight, 1e-6 * sharp.weight]))  # fmt: skip
    assert calibrate([both] * 3, [0, 4, 7]).fitted == pytest.approx(1, abs=0.06)


def test_of_two_cases_nothing_is_said():
    assert calibrate([case(0, 3.0), case(1, 3.0)], [0, 4, 7]) == Calibration()


def test_what_lies_beside_a_model_is_used_and_said_once(tmp_path, capsys):
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    asked = ModelTemperature(str(model))
    assert asked() == 1 and capsys.readouterr().out == "probabilities as the network gives them\n"
    found = calibrate([case(n, 2.5) for n in range(4)], [0, 4, 7])
    Knowledge(calibration=found).save(model)
    assert asked() == asked() == found.temperature
    assert capsys.readouterr().out == found.describe() + "\n"
    assert read_knowledge(model).calibration == found
    assert ModelTemperature(str(model), wanted=False)() == 1
    model.write_bytes(b"others")  # it is of one model alone
    assert asked() == 1
    with pytest.raises(InputError, match="calibrate is 'perhaps'"):
        ModelTemperature(str(model), wanted="perhaps")


def test_a_file_of_before_is_read(tmp_path):
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    Knowledge(calibration=calibrate([case(n, 2.5) for n in range(4)], [0, 4, 7])).save(model)
    path = tmp_path / "review.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("calibration")
    path.write_text(json.dumps(content), encoding="utf-8")
    assert ModelTemperature(str(model))() == 1 and np.isfinite(read_knowledge(model).predict(0.5)).all()
