from __future__ import annotations

import pytest

from common.data.datalist import read_datalist
from common.run.privacy import hash_dataset
from support.data.written_datalist import LABELS, make_dataset, pair, problems_of

V2 = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 2, "file_ending": ".nii.gz"}


def files(*cases: str, folder: str = "Tr", ending: str = ".nii.gz", labels: bool = True, channel: str = "_0000"):
    images = tuple(f"images{folder}/{case}{channel}{ending}" for case in cases)
    return images + tuple(f"labels{folder}/{case}{ending}" for case in cases if labels)


def test_v1_lists_images_without_the_channel_of_their_files(tmp_path):
    content = {"labels": LABELS, "modality": {"0": "CT"}, "training": [pair("a")], "test": ["./imagesTs/b.nii.gz"]}
    folder = make_dataset(tmp_path, content, files("a") + files("b", folder="Ts", labels=False))
    datalist = read_datalist(folder)
    image, label = str(tmp_path / "imagesTr/a_0000.nii.gz"), str(tmp_path / "labelsTr/a.nii.gz")
    assert datalist.training == [{"case": "a", "image": image, "label": label}]
    assert datalist.test == [{"case": "b", "image": str(tmp_path / "imagesTs/b_0000.nii.gz")}]
    assert hash_dataset(folder)["files"] == 3  # the images count


def test_a_file_that_is_there_as_listed_is_taken_before_that_of_a_channel(tmp_path):
    content = {"labels": LABELS, "training": [pair("a"), pair("b_0000") | {"label": "labelsTr/b.nii.gz"}]}
    datalist = read_datalist(make_dataset(tmp_path, content, (*files("a", "b"), "imagesTr/a.nii.gz")))
    named = [(case["case"], case["image"].rpartition("/")[2]) for case in datalist.training]
    assert named == [("a", "a.nii.gz"), ("b_0000", "b_0000.nii.gz")]


def test_of_several_channels_the_first_stands_for_all(tmp_path):
    found = files("a", "b") + files("a", "b", channel="_0001", labels=False)
    names = {"0": "T1", "1": "T2"}
    v1 = {"labels": LABELS, "modality": names, "training": [pair("a"), pair("b")]}
    for name, content in {"v1": v1, "v2": {**V2, "channel_names": names}}.items():
        cases = read_datalist(make_dataset(tmp_path / name, content, found)).training
        named = [(case["case"], case["image"].rpartition("/")[2]) for case in cases]
        assert named == [("a", "a_0000.nii.gz"), ("b", "b_0000.nii.gz")]
        assert hash_dataset(tmp_path / name)["files"] == 6  # all channels count


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_v2_has_the_cases_of_its_folders(tmp_path, ending):
    found = files("b", "a", ending=ending) + files("bare", labels=False, ending=ending)
    found += files("t", "u", folder="Ts", labels=False, ending=ending)
    found += (f"labelsTs/t{ending}", "imagesTr/.hidden_0000.nii.gz", "imagesTr/notes.txt")
    folder = make_dataset(tmp_path, {**V2, "file_ending": ending}, found)
    datalist = read_datalist(folder)
    assert datalist.labels == {0: "background", 1: "liver"}
    assert [case["case"] for case in datalist.training] == ["a", "b"]
    assert datalist.training[0]["image"] == str(tmp_path / f"imagesTr/a_0000{ending}")
    assert datalist.training[0]["label"] == str(tmp_path / f"labelsTr/a{ending}")
    assert [sorted(case) for case in datalist.unlabeled] == [["case", "image"]]
    assert datalist.unlabeled[0]["case"] == "bare"
    assert [(case["case"], "label" in case) for case in datalist.test] == [("t", True), ("u", False)]
    assert datalist.other["file_ending"] == ending
    hashed = hash_dataset(folder)
    assert hashed["files"] == 8 and hashed["cases"] == {"training": 2, "test": 2, "unlabeled": 1}


def test_v2_scans_of_imagesun_are_unlabelled(tmp_path):
    found = files("a", "b") + files("bare", labels=False) + files("x", "y", folder="Un", labels=False)
    datalist = read_datalist(make_dataset(tmp_path, V2, (*found, "labelsUn/x.nii.gz")))
    assert [case["case"] for case in datalist.unlabeled] == ["bare", "x", "y"]
    assert not any("label" in case for case in datalist.unlabeled)
    (line,) = problems_of(tmp_path / "again", V2, (*found, "imagesUn/a_0000.nii.gz"))
    assert "case a names two images in training and unlabeled" in line


def test_v2_may_have_lists_too(tmp_path):
    content = {**V2, "training": [pair("b")], "validation": [pair("a")]}
    datalist = read_datalist(make_dataset(tmp_path, content, files("a", "b")))
    assert [case["case"] for case in datalist.training + datalist.validation] == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (
            {"channel_names": {"0": "T1", "1": "T2"}},
            files("a", "b") + files("b", channel="_0002"),
            "imagesTr/b_0002.nii.gz: is another channel of b; wanted 2 channels",
        ),
        ({}, files("a", "b") + files("a", channel="_0001"), "imagesTr/a_0001.nii.gz: is another channel of a; wanted"),
        ({"labels": {"background": 0, "all": [1, 2]}}, files("a", "b"), "labels has regions, which are several values"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, files("a", "b"), 'labels has "ignore"'),
        ({"file_ending": ".tif"}, files("a", "b"), "file_ending is '.tif'; wanted one of .nii.gz, "),
        ({}, (), "nnU-Net v2's, whose cases are files imagesTr/CASE_0000.nii.gz; found no such folder in "),
        ({"file_ending": ".mha"}, files("a", "b"), "whose cases are files imagesTr/CASE_0000.mha; found none in "),
        (
            {},
            files("a", "b", channel=""),
            "imagesTr/a.nii.gz: has no number of a channel, as 2 files of",
        ),
        ({}, (*files("a", "b"), "labelsTr/c.nii.gz"), "1 labels have no image (the first: labelsTr/c.nii.gz); wanted"),
        (
            {"numTraining": 4},
            files("a", "b"),
            "numTraining is 4, imagesTr has 2 images, 2 with a file in labelsTr",
        ),
        ({}, files("a", "b", labels=False), "training is missing or empty"),
    ],
)
def test_what_v2_has_and_is_not_read_is_one_line(tmp_path, change, found, expected):
    problems = problems_of(tmp_path, {**V2, **change}, found)
    assert len(problems) == 1 and expected in problems[0]


@pytest.mark.parametrize(
    ("modality", "found", "expected"),
    [
        (
            {"0": "T1", "1": "T2"},
            files("a", channel="_0002"),
            "beside imagesTr/a_0000.nii.gz there is a_0002.nii.gz; wanted 2 channels, or that modality names all",
        ),
        (
            {"0": "T1"},
            files("a", channel="_0001"),
            "beside imagesTr/a_0000.nii.gz there is a_0001.nii.gz; wanted 1 channel, or that modality names all",
        ),
    ],
)
def test_more_channels_of_v1_than_are_named_are_one_line(tmp_path, modality, found, expected):
    content = {"labels": LABELS, "modality": modality, "training": [pair("a"), pair("b")]}
    problems = problems_of(tmp_path, content, found + files("a", "b"))
    assert len(problems) == 1 and expected in problems[0]
