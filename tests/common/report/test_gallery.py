from __future__ import annotations

import nibabel
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.report.gallery import Gallery, image_path, with_affine

SIZE = (16, 16, 16)
MAPS = {"propagation": "propagated", "prediction": "pred", "truth": "label"}


def cube(low: int, affine: np.ndarray) -> MetaTensor:
    volume = torch.zeros(1, *SIZE)
    volume[:, low : low + 8, 4:12, 4:12] = 2
    return MetaTensor(volume, affine=torch.as_tensor(affine))


def test_gallery_draws_the_first_cases_on_their_own_grid(tmp_path):
    affine = np.diag([-1.5, 1.0, 2.0, 1.0])
    affine[0, 1] = 0.3
    batches = []
    for number in range(3):
        path = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.random.default_rng(number).random(SIZE), affine), path)
        image = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": str(path)})
        given = [{"case": f"case_{number}", "image": image}]
        maps = {"image": image, "pred": cube(4, affine), "label": cube(5, affine)}
        batches.append((given, [{**maps, "propagated": cube(6, affine)} if number else maps]))

    gallery = Gallery({0: "background", 2: "cube"}, MAPS, limit=2)

    def step(engine: Engine, pair: tuple) -> list[dict]:
        engine.state.batch, output = pair
        return output

    engine = Engine(step)
    gallery.attach(engine)
    engine.run(batches)
    assert list(gallery.pictures) == ["case_0", "case_1"]
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 2000 for picture in gallery.pictures.values())
    engine.run(batches[2:])
    assert len(gallery.pictures) == 2


def test_file_of_an_image_is_found_wherever_its_metadata_is():
    with_meta = MetaTensor(torch.zeros(1), meta={"filename_or_obj": "a.nii.gz"})
    assert image_path({"image": with_meta}, {}) == "a.nii.gz" == image_path({}, {"image": with_meta})
    turned = with_affine(torch.zeros(1, 2, 2, 2, dtype=torch.int16), torch.diag(torch.tensor([2.0, 2, 2, 1])))
    assert turned.dtype == torch.float32 and float(turned.affine[0, 0]) == 2


def test_maps_that_are_not_known_before_are_asked_for_when_they_are_needed():
    known = {"prediction": "pred", "generalist": "sam"}
    gallery = Gallery({0: "background"}, lambda: known)
    del known["generalist"]
    assert gallery.maps == {"prediction": "pred"}
