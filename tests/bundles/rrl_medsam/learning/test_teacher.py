from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.learning.distillation import FeatureDistillation
from support.bundle.path import import_bundle
from support.bundle.run import use_fake_sam

teacher_module = import_bundle("rrl_medsam", "learning.teacher")
GRID = (4, 3, 2)


@pytest.fixture
def images() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [{"case": f"case_{n}", "image": torch.rand(1, 32, 24, 10, generator=generator)} for n in range(3)]


@pytest.fixture
def sam(monkeypatch, tmp_path):
    return use_fake_sam(monkeypatch, tmp_path)


def make_teacher(folder, **options):
    module = import_bundle("rrl_medsam", "learning.teacher")
    return module.SamTeacher("mobile_sam", str(folder / "cache"), image_size=64, **{"slices": 5, **options})


def test_features_lie_on_the_students_grid(sam, images, tmp_path):
    teacher, distillation = make_teacher(tmp_path), FeatureDistillation(8)
    teacher.prepare(images, distillation, GRID)
    for item in images:
        assert teacher.features(item["case"]).shape == (256, *GRID)
    assert sam.slices == 5 * len(images)
    # standardised by the cohort: mean 0 and deviation 1 of each channel over all cases
    features = torch.stack([teacher.features(item["case"]) for item in images])
    standard = (features - distillation.mean) / distillation.deviation
    assert standard.mean((0, 2, 3, 4)).abs().max() < 1e-3
    assert (standard.std((0, 2, 3, 4), correction=0) - 1).abs().max() < 0.1


def test_what_is_on_disk_is_not_encoded_again(sam, images, tmp_path):
    first, second = make_teacher(tmp_path), make_teacher(tmp_path)
    first.prepare(images, FeatureDistillation(8), GRID)
    before = sam.slices
    second.prepare(images, FeatureDistillation(8), GRID)
    assert sam.slices == before
    for item in images:
        assert torch.equal(first.features(item["case"]), second.features(item["case"]))
    images[0]["image"] = images[0]["image"] / 2
    make_teacher(tmp_path).prepare(images, FeatureDistillation(8), GRID)
    assert sam.slices == before + 5  # another image is another key
    make_teacher(tmp_path, slices=4).prepare(images, FeatureDistillation(8), GRID)
    assert sam.slices == before + 5 + 4 * len(images)  # and so are other settings


def test_teacher_is_frozen(sam, images, tmp_path):
    teacher, distillation = make_teacher(tmp_path), FeatureDistillation(8)
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    teacher.prepare(images, distillation, GRID)
    student = torch.nn.Conv3d(1, 8, 1)
    optimizer = torch.optim.AdamW([*student.parameters(), *distillation.parameters()], lr=0.1)
    for item in images:
        target = teacher.features(item["case"])[None]
        assert not target.requires_grad
        loss = distillation(student(torch.rand(1, 1, *GRID)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert not teacher.model.training


@pytest.mark.parametrize("word", [None, "null", "None"])
def test_null_leaves_the_teacher_out(word, sam, images, tmp_path, capsys):
    teacher = import_bundle("rrl_medsam", "learning.teacher").SamTeacher(word, str(tmp_path / "cache"))
    teacher.prepare(images, FeatureDistillation(8), GRID)
    assert teacher.name is None and teacher.model is None and sam.slices == 0
    assert "sam is null" in capsys.readouterr().out and not (tmp_path / "cache").exists()
    item = {"case": "case_0", "image": images[0]["image"]}
    assert import_bundle("rrl_medsam", "learning.teacher").AddTeacherd(teacher)(item) == item


def test_transform_adds_the_features_of_the_case(sam, images, tmp_path):
    teacher = make_teacher(tmp_path)
    teacher.prepare(images, FeatureDistillation(8), GRID)
    item = import_bundle("rrl_medsam", "learning.teacher").AddTeacherd(teacher)(images[1])
    assert item["teacher"] is teacher.features("case_1") and item["image"] is images[1]["image"]


def test_missing_weights_are_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Exception, match="found no weights at") as error:
        teacher_module.SamTeacher("sam_vit_b", str(tmp_path / "cache"))
    assert type(error.value).__name__ == InputError.__name__ and not (tmp_path / "cache").exists()
