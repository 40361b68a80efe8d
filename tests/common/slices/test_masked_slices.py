from __future__ import annotations

import math
from collections import Counter

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, Orientationd, ResizeWithPadOrCropd, Spacingd

from common.errors import InputError, find_input_error
from common.slices.masked_slices import AddLabelSlicesd, draw_label_slices, read_label_slices
from common.slices.presence_volume import AddPresenced

SIZE = (8, 10, 13)
POISON = 99


def bits_of(cases: int = 6, slices: int = 12) -> dict[str, np.ndarray]:
    """Label 0 on slices 2 to 7, label 1 on slices 6 to 9; one case without label 1."""
    bits = np.zeros((2, slices), dtype=bool)
    bits[0, 2:8] = bits[1, 6:10] = True
    found = {f"case_{number}": bits.copy() for number in range(cases)}
    found["case_0"][1] = False
    return found


def test_the_draw_is_nested_and_takes_patients_in_turn():
    bits = bits_of()
    for seed in range(4):
        whole = draw_label_slices(bits, 40, seed)
        assert len(set(whole)) == 40
        for count in (1, 5, 6, 20):
            assert draw_label_slices(bits, count, seed) == whole[:count]
        assert len({case for case, _ in whole[:6]}) == 6 and len({case for case, _ in whole[6:12]}) == 6
        assert all(bits[case][:, index].any() for case, index in whole)
    assert len({tuple(draw_label_slices(bits, 5, seed)) for seed in range(6)}) == 6
    backwards = dict(reversed(bits.items()))
    assert draw_label_slices(backwards, 7, 3) == draw_label_slices(bits, 7, 3)


def test_every_label_gets_masks():
    rare = bits_of(cases=40)
    for case in list(rare)[2:]:
        rare[case][1] = False  # one of 40 has it
    for seed in range(5):
        drawn = draw_label_slices(rare, 40, seed)
        assert sum(rare[case][1, index] for case, index in drawn) == 1
        even = draw_label_slices(bits_of(), 12, seed)
        shown = Counter()
        for case, index in even:
            shown.update(np.flatnonzero(bits_of()[case][:, index]).tolist())
        assert shown[0] >= 5 and shown[1] >= 5


def test_slices_from_the_middle_of_a_structure_come_first():
    bits = {f"case_{number}": np.zeros((1, 20), dtype=bool) for number in range(8)}
    for number, case in enumerate(bits):
        bits[case][0, 2 : 10 + number] = True  # 8 to 15 slices
    for seed in range(3):
        whole = draw_label_slices(bits, sum(int(b.sum()) for b in bits.values()), seed, middle=0.5)
        for number, case in enumerate(bits):
            turns = [index for name, index in whole if name == case]
            inner = math.ceil(0.5 * (8 + number))
            first = 2 + (8 + number - inner) // 2
            assert sorted(turns[:inner]) == list(range(first, first + inner)) and len(turns) == 8 + number
        assert draw_label_slices(bits, 11, seed, middle=0.5) == whole[:11]
    with pytest.raises(InputError, match="draw_from_middle is 0; wanted a share above 0 and up to 1"):
        draw_label_slices(bits, 3, 0, middle=0)


def test_a_case_gives_only_slices_it_has_masks_for():
    bits = bits_of(2)
    drawn = draw_label_slices(bits, 4, 0, among={"case_0": [3, 11], "case_1": [6, 7, 9]})
    assert sorted(drawn) == [("case_0", 3), ("case_1", 6), ("case_1", 7), ("case_1", 9)]
    with pytest.raises(InputError, match="num_label_slices is 5; wanted 1 to 4, the positive slices"):
        draw_label_slices(bits, 5, 0, among={"case_0": [3, 11], "case_1": [6, 7, 9]})


@pytest.mark.parametrize("count", [0, -1, 15, 2.0, True, "5"])
def test_a_budget_that_is_none(count):
    with pytest.raises(InputError, match="wanted 1 to 14"):
        draw_label_slices(bits_of(2), count)


def truth() -> np.ndarray:
    """A mask of the values 0, 3 and 7 that differs on every axial slice."""
    label = np.zeros(SIZE, np.uint8)
    for index in range(SIZE[2]):
        label[1:4, 1 : 3 + index % 5, index] = 3
        label[5:7, 2 : 4 + index % 4, index] = 7
    return label


def save(folder, array: np.ndarray, name: str, codes: str = "RAS", affine: np.ndarray | None = None) -> str:
    image = nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 1.0, 1.0]) if affine is None else affine)
    wanted = nibabel.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))
    path = folder / name
    nibabel.save(image, path)
    return str(path)


def poisoned(indices: list[int]) -> np.ndarray:
    label = np.full(SIZE, POISON, np.uint8)
    label[..., indices] = truth()[..., indices]
    return label


def item_of(folder, codes: str = "RAS", indices: list[int] | None = None, **changes) -> dict:
    indices = [4, 9] if indices is None else indices
    image = np.random.default_rng(0).random(SIZE).astype(np.float32)
    axis = nibabel.orientations.axcodes2ornt(codes)[:, 0].tolist().index(2)
    bits = {"axis": axis, "labels": {"3": {"first": 0, "last": 12}, "7": {"first": 0, "last": 12}}}
    stored = [SIZE[2] - 1 - i for i in indices] if codes[axis] == "I" else indices
    return {
        "case": "a",
        "image": save(folder, image, "image.nii.gz", codes),
        "label": save(folder, poisoned(indices), "label.nii.gz", codes),
        "slice_labels": bits,
        "label_slices": stored,
    } | changes


def prepare(item: dict, pixdim=(2.0, 2.0, 1.0), size=SIZE, **options) -> dict:
    return Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=pixdim, mode="nearest", padding_mode="border"),
            ResizeWithPadOrCropd("image", spatial_size=size, mode="edge"),
            AddLabelSlicesd("image", [0, 3, 7], **options),
        ]
    )(item)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SRA", "PIR"])
def test_other_slices_influence_nothing(tmp_path, codes):
    done = prepare(item_of(tmp_path, codes))
    expected = torch.zeros(SIZE)
    expected[..., [4, 9]] = torch.from_numpy(np.searchsorted([0, 3, 7], truth()[..., [4, 9]])).float()
    assert torch.equal(done["label"][0].float(), expected)
    wanted = torch.zeros(SIZE)
    wanted[..., [4, 9]] = 1
    assert torch.equal(done["annotated"][0].float(), wanted)
    assert "label_slices" not in done and "slice_labels" in done


@pytest.mark.parametrize("codes", ["RAS", "LPI"])
@pytest.mark.parametrize("step", [0.5, 1.0, 1.3, 2.0, 2.7, 3.0, 4.4])
def test_a_coarser_grid_loses_no_labelled_slice(tmp_path, step, codes):
    grid = (*SIZE[:2], round((SIZE[2] - 1) / step) + 1)
    for index in range(SIZE[2]):
        done = prepare(item_of(tmp_path, codes, [index]), pixdim=(2.0, 2.0, step), size=grid)
        on = (done["annotated"][0].float().mean((0, 1)) > 0.5).nonzero()[:, 0].tolist()
        assert len(on) == 1 if step >= 1 else 1 <= len(on) <= 3
        expected = torch.from_numpy(np.searchsorted([0, 3, 7], truth()[..., index])).float()
        for place in on:
            assert abs(place * step - index) <= max(step, 1) / 2 + 1e-6
            assert torch.equal(done["label"][0, ..., place].float(), expected)


@pytest.mark.parametrize("codes", ["RAS", "LPI"])
@pytest.mark.parametrize("index", [0, SIZE[2] - 1])
def test_an_end_slice_counts_once_on_a_grid_that_goes_on(tmp_path, index, codes):
    bits = np.zeros(SIZE[2], dtype=int)
    bits[index] = 1
    item = item_of(tmp_path, codes, [index])
    stored = bits[::-1] if item["label_slices"] != [index] else bits
    item["slice_labels"]["labels"] = {"3": stored.tolist(), "7": None}
    done = prepare(item, size=(*SIZE[:2], 32))  # 9 or 10 slices of padding on either side
    done |= AddPresenced("image", [0, 3, 7])(done)
    place = (32 - SIZE[2]) // 2 + index
    for profile in (done["annotated"][0], done["presence"][0], done["label"][0] > 0):
        assert profile.flatten(0, 1).any(0).nonzero()[:, 0].tolist() == [place]
    assert (done["presence"][0, ..., place] == 1).all()  # a slice of the grid stays one, whatever is beside the scan


def test_where_two_meet_on_the_grid_the_nearer_one_is_taken(tmp_path):
    done = prepare(item_of(tmp_path, "LPI", [5, 6, 9]), pixdim=(2.0, 2.0, 3.0), size=(*SIZE[:2], 5))
    classes = np.searchsorted([0, 3, 7], truth())
    assert done["annotated"][0, 0, 0].tolist() == [0, 0, 1, 1, 0]
    for place, source in {2: 6, 3: 9}.items():
        assert np.array_equal(done["label"][0, ..., place].numpy(), classes[..., source])


def test_cases_without_labelled_slices_are_not_opened(tmp_path):
    item = item_of(tmp_path, label=str(tmp_path / "nowhere.nii.gz"))
    assert not prepare(item, labelled={"b": [1]})["annotated"].any()
    del item["label"], item["label_slices"]
    done = prepare(item)
    assert not done["label"].any() and done["annotated"].shape == (1, *SIZE)


def test_named_slices_take_the_place_of_the_items_own(tmp_path):
    done = prepare(item_of(tmp_path), labelled={"a": [9]})
    assert done["annotated"][0, 0, 0].nonzero()[:, 0].tolist() == [9]


def problems(call) -> str:
    with pytest.raises(Exception) as error:
        call()
    return "\n".join(find_input_error(error.value).problems)


def test_what_is_wrong_is_said(tmp_path):
    item = item_of(tmp_path)
    said = problems(lambda: prepare(item | {"label_slices": [4, 5]}))
    assert said == (
        "a: label label.nii.gz: slices 4, 5: the mask has the values 99; wanted only those declared: 0, 3, 7"
    )
    said = problems(lambda: prepare(item | {"label_slices": [4, 13]}))
    assert said == "a: label label.nii.gz: label_slices has 13; wanted 0 to 12, slices along axis 2"
    other = save(tmp_path, poisoned([4, 9])[:, :-1], "small.nii.gz")
    assert "small.nii.gz: shape (8, 9, 13); wanted (8, 10, 13)" in problems(lambda: prepare(item | {"label": other}))
    moved = save(tmp_path, poisoned([4, 9]), "moved.nii.gz", affine=np.eye(4))
    assert "spacing 1, 1, 1 mm; wanted 2, 2, 1 mm" in problems(lambda: prepare(item | {"label": moved}))
    gone = {key: value for key, value in item.items() if key not in ("slice_labels", "label")}
    assert "no slice_labels and no label" in problems(lambda: prepare(gone))
    (tmp_path / "label.nii.gz").write_bytes(b"")
    assert "a: label label.nii.gz: the file is empty" in problems(lambda: prepare(item))


def test_other_formats_are_cut_too(tmp_path):
    SimpleITK = pytest.importorskip("SimpleITK")
    image = SimpleITK.GetImageFromArray(poisoned([4]).transpose(2, 1, 0))
    image.SetSpacing((2.0, 2.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "label.mha"))
    affine = np.diag([-2.0, -2.0, 1.0, 1.0])
    found = read_label_slices(tmp_path / "label.mha", 2, [4], [0, 3, 7], (SIZE, affine), "a")
    assert np.array_equal(found[..., 0], np.searchsorted([0, 3, 7], truth()[..., 4]))
