from __future__ import annotations

import nibabel
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.report.gallery import Gallery, image_path, slice_name, with_affine, wrong_voxels
from common.scoring.oddities import compare

SIZE = (16, 16, 16)
MAPS = {"propagation": "propagated", "prediction": "pred", "truth": "label"}


def cube(low: int, affine: np.ndarray) -> MetaTensor:
    volume = torch.zeros(1, *SIZE)
    volume[:, low : low + 8, 4:12, 4:12] = 2
    return MetaTensor(volume, affine=torch.as_tensor(affine))


AFFINE = np.array([[-1.5, 0.3, 0, 0], [0, 1.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]])


def batches(folder, shifts: dict[str, int]):
    """Return batches of one case each, whose prediction lies so many voxels beside the truth."""
    found = []
    for case, shift in shifts.items():
        path = folder / f"{case}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.random.default_rng(shift).random(SIZE), AFFINE), path)
        image = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": str(path)})
        maps = {"image": image, "pred": cube(2 + shift, AFFINE), "label": cube(2, AFFINE)}
        found.append(([{"case": case, "image": image}], [{**maps, "propagated": cube(6, AFFINE)} if shift else maps]))
    return found


def ran(gallery: Gallery, given: list) -> Gallery:
    def step(engine: Engine, pair: tuple) -> list[dict]:
        engine.state.batch, output = pair
        return output

    engine = Engine(step)
    gallery.attach(engine)
    engine.run(given)
    return gallery


def test_the_worst_and_the_best_are_drawn_on_their_own_grid_worst_first(tmp_path):
    given = batches(tmp_path, {"good": 1, "right": 0, "bad": 4, "poor": 3, "fair": 2})
    gallery = ran(Gallery({0: "background", 2: "cube"}, MAPS, limit=2), given)
    assert gallery.worst_first() == ["bad", "poor", "fair", "good", "right"]
    assert list(gallery.pictures) == ["bad", "poor", "right"]
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 2000 for picture in gallery.pictures.values())
    assert gallery.oddities["bad"].dice == 0.5 and gallery.oddities["right"].dice == 1
    again = ran(gallery, given[:1])  # nothing of the run before is left
    assert list(again.oddities) == list(again.pictures) == ["good"]


def test_a_case_without_truth_and_what_a_mask_does_not_tell_about_is_left_out(tmp_path):
    given = batches(tmp_path, {"a": 1, "b": 2})
    del given[0][1][0]["label"]
    given[1][1][0]["known_labels"] = [3]
    gallery = ran(Gallery({0: "background", 2: "cube", 3: "other"}, MAPS), given)
    assert list(gallery.oddities) == ["b"] and [one.value for one in gallery.oddities["b"].differences] == [3]


def test_where_the_worst_structure_is_wrong_is_looked_at():
    pred, label = cube(3, AFFINE), cube(2, AFFINE)
    wrong = wrong_voxels(pred, label, compare(pred[0], label[0], AFFINE, [2]))
    assert wrong.shape == (1, *SIZE) and int(wrong.sum()) == 2 * 8 * 8
    assert set(torch.nonzero(wrong)[:, 1].tolist()) == {2, 10}


def test_a_slice_is_named_as_the_file_counts_it():
    # the grid's first axis runs to the right, the file's to the left: the grid's index 3 is the file's 12, the 13th
    upright, file = np.diag([1.5, 1, 2, 1.0]), np.diag([-1.5, 1, 2, 1.0])
    file[0, 3] = 15 * 1.5
    assert slice_name(upright, SIZE, file, SIZE)(0, 3) == "slice 13 of 16"


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
