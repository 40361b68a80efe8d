from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from common.data.datalist import read_datalist, read_labels
from common.data.selection import few_labeled, labeled_cases, require_scored, scored_cases
from common.errors import InputError
from support.data.written_datalist import LABELS, files_of, make_dataset, pair, problems_of

SHARED = Path(__file__).parents[4] / "shared"


def test_msd_as_published(tmp_path):
    content = {
        "name": "LIVER",
        "modality": {"0": "CT"},
        "labels": {"2": "tumour", "0": "background", "1": "liver"},
        "numTraining": 2,
        "training": [pair("a"), pair("b")],
        "test": ["./imagesTs/c.nii.gz"],
    }
    datalist = read_datalist(make_dataset(tmp_path, content, (*files_of("a", "b"), "imagesTs/c.nii.gz")))
    assert datalist.name == "LIVER"
    assert list(datalist.labels.items()) == [(0, "background"), (1, "liver"), (2, "tumour")]
    image, label = str(tmp_path / "imagesTr/a.nii.gz"), str(tmp_path / "labelsTr/a.nii.gz")
    assert datalist.training[0] == {"case": "a", "image": image, "label": label}
    assert datalist.test == [{"case": "c", "image": str(tmp_path / "imagesTs/c.nii.gz")}]
    assert datalist.validation == datalist.unlabeled == []
    assert datalist.other == {"modality": {"0": "CT"}, "numTraining": 2}


def test_labels_of_nnunet_and_missing_background(tmp_path):
    content = {"labels": {"background": 0, "tumour": 7, "liver": 3}, "training": [pair("a")]}
    assert read_datalist(make_dataset(tmp_path / "x", content, files_of("a"))).labels == {
        0: "background",
        3: "liver",
        7: "tumour",
    }
    content["labels"] = {"1": "liver"}
    assert read_datalist(make_dataset(tmp_path / "y", content, files_of("a"))).labels == {0: "background", 1: "liver"}


def test_labels_alone_need_no_cases(tmp_path):
    file = tmp_path / "agreed.json"
    file.write_text(json.dumps({"labels": {"2": "spleen", "0": "background", "1": "liver"}}))
    assert read_labels(file) == {0: "background", 1: "liver", 2: "spleen"}
    file.write_text(json.dumps({"labels": {"0": "background"}}))
    with pytest.raises(InputError, match=r"agreed.json: labels has only the background"):
        read_labels(file)


def test_other_keys_of_a_case_are_kept_and_name_falls_back_to_the_folder(tmp_path):
    content = {"labels": LABELS, "reject": ["a"], "training": [pair("a") | {"slice_labels": [0, 1], "reject": True}]}
    datalist = read_datalist(make_dataset(tmp_path / "scans", content, files_of("a")))
    assert datalist.training[0]["slice_labels"] == [0, 1] and datalist.training[0]["reject"] is True
    assert datalist.name == "scans" and datalist.other == {"reject": ["a"]}


def test_labels_of_unlabeled_cases_are_dropped(tmp_path):
    content = {"labels": LABELS, "training": [pair("a")], "unlabeled": [pair("b"), "imagesTr/c.nii.gz"]}
    datalist = read_datalist(make_dataset(tmp_path, content, (*files_of("a", "b"), "imagesTr/c.nii.gz")))
    assert [sorted(case) for case in datalist.unlabeled] == [["case", "image"]] * 2


def test_relative_dataset_dir_and_datalist_elsewhere(tmp_path, monkeypatch):
    make_dataset(tmp_path / "data", {"labels": LABELS, "training": [pair("a"), pair("b")]}, files_of("a", "b"))
    other = {"labels": LABELS, "training": [pair("b")]}
    (tmp_path / "fold0.json").write_text(json.dumps(other), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_datalist("data").training[0]["image"] == str(tmp_path / "data/imagesTr/a.nii.gz")
    assert [case["case"] for case in read_datalist("data", "fold0.json").training] == ["b"]


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: found nothing; wanted a folder"):
        read_datalist(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"dataset\.json: no such file"):
        read_datalist(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="found a file"):
        read_datalist(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        ('{"labels": ', "not valid JSON"),
        ("[1, 2]", "found a list; wanted an object"),
        ({"training": [pair("a")]}, "labels missing or empty"),
        ({"labels": ["liver"], "training": [pair("a")]}, "labels found a list"),
        ({"labels": {"0": "background"}, "training": [pair("a")]}, "labels has only the background"),
        ({"labels": {"one": "liver"}, "training": [pair("a")]}, 'labels has {"one": "liver"}'),
        ({"labels": {"1": "liver", "-1": "x"}, "training": [pair("a")]}, 'labels has {"-1": "x"}'),
        ({"labels": {"whole": [1, 2]}, "training": [pair("a")]}, 'labels has {"whole": [1, 2]}'),
        ({"labels": {"1": "liver", "2": "liver"}, "training": [pair("a")]}, "the name liver twice"),
        ({"labels": {"liver": 1, "tumour": 1}, "training": [pair("a")]}, "the value 1 twice"),
        (
            {"labels": {str(n): f"x{n}" for n in range(70_000)}, "training": [pair("a")]},
            "labels has 70000 entries; wanted",
        ),
        ({"labels": {"liver": 10**4000}, "training": [pair("a")]}, "labels has"),
        ('{"labels": {"liver": 1' + "0" * 5000 + "}}", "not valid JSON"),
        ('{"labels": {"liver": 1e999}, "training": ["imagesTr/a.nii.gz"]}', 'labels has {"liver": Infinity}'),
        ('{"labels": ' + "[" * 3000 + "]" * 3000 + "}", "nested"),
        ({"labels": LABELS}, "training is missing or empty"),
        ({"labels": LABELS, "training": []}, "training is missing or empty"),
        ({"labels": LABELS, "training": {"image": "a"}}, "training is a dict; wanted a list"),
        ({"labels": LABELS, "training": [3]}, "training[0] is 3"),
        ({"labels": LABELS, "training": [{"label": "labelsTr/a.nii.gz"}]}, "training[0]: image is null"),
        ({"labels": LABELS, "training": [{"image": ["x", "y"]}]}, 'training[0]: image is ["x", "y"]'),
        ({"labels": LABELS, "training": [pair("a") | {"label": None}]}, "training[0]: label is null"),
        ({"labels": LABELS, "training": [{"image": "imagesTr/z.nii.gz"}]}, "imagesTr/z.nii.gz does not exist"),
        ({"labels": LABELS, "training": [{"image": "../a.nii.gz"}]}, "../a.nii.gz leads outside"),
        ({"labels": LABELS, "training": [{"image": "/etc/hostname"}]}, "/etc/hostname leads outside"),
        ({"labels": LABELS, "training": [{"image": "a\0b.nii"}]}, "is no usable path"),
    ],
)
def test_wrong_content_gives_one_line(tmp_path, content, expected):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    problems = problems_of(tmp_path / "data", content, files_of("a"))
    assert expected in problems[0] and "dataset.json" in problems[0]
    assert len([line for line in problems if "training is missing" not in line]) <= 1
    assert all("\n" not in line for line in problems)


def test_many_labels_take_no_time(tmp_path):
    labels = {str(number): f"region {number}" for number in range(4096)}
    start = time.perf_counter()
    assert (
        len(read_datalist(make_dataset(tmp_path, {"labels": labels, "training": [pair("a")]}, files_of("a"))).labels)
        == 4096
    )
    assert time.perf_counter() - start < 1


def test_all_problems_come_together(tmp_path):
    content = {
        "labels": {"one": 1.5},
        "training": [pair("a"), pair("b"), {"image": "../x.nii.gz"}, pair("a")],
        "test": ["imagesTr/a.nii.gz"],
    }
    problems = problems_of(tmp_path, content, files_of("a"))
    expected = ["labels has", "imagesTr/b.nii.gz does not exist", "labelsTr/b.nii.gz does not", "leads outside"]
    expected += ["case a is twice in training", "case a is in training and in test"]
    assert len(problems) == len(expected)
    for text, line in zip(expected, problems, strict=True):
        assert text in line


def test_links_are_resolved_on_both_sides(tmp_path):
    data = make_dataset(tmp_path / "data", {"labels": LABELS, "training": [pair("a")]}, files_of("a"))
    (tmp_path / "link").symlink_to(data)
    datalist = read_datalist(tmp_path / "link")  # the data set itself behind a link is fine
    assert datalist.training[0]["image"] == str(tmp_path / "link/imagesTr/a.nii.gz")
    (tmp_path / "outside.nii.gz").write_bytes(b"x")
    (data / "imagesTr/b.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    (data / "imagesTr/c.nii.gz").symlink_to("a.nii.gz")
    content = {"labels": LABELS, "training": [pair("a"), {"image": "imagesTr/b.nii.gz"}]}
    content["validation"] = ["imagesTr/c.nii.gz"]
    problems = problems_of(data, content)
    assert "imagesTr/b.nii.gz leads outside" in problems[0]
    assert "case c is in training and in validation" in problems[1]  # the same file under another name
    assert len(problems) == 2


def test_one_id_for_two_images(tmp_path):
    content = {"labels": LABELS, "training": [pair("a"), {"image": "other/a.nii.gz"}]}
    problems = problems_of(tmp_path, content, (*files_of("a"), "other/a.nii.gz"))
    assert len(problems) == 1 and "case a names two images" in problems[0]


def test_one_labelled_case_strips_all_others(tmp_path):
    content = {
        "labels": LABELS,
        "training": [
            pair("a") | {"slice_labels": [1]},
            pair("b") | {"slice_labels": [1]},
            {"image": "imagesTr/c.nii.gz"},
        ],
        "unlabeled": ["imagesTr/d.nii.gz"],
        "validation": [pair("v")],
    }
    files = (*files_of("a", "b", "v"), "imagesTr/c.nii.gz", "imagesTr/d.nii.gz")
    datalist = read_datalist(make_dataset(tmp_path, content, files))
    (atlas,), unlabeled = few_labeled(datalist, None, labeled="b", kind="atlas")
    assert atlas["case"] == "b" and atlas["label"].endswith("labelsTr/b.nii.gz")
    assert [case["case"] for case in unlabeled] == ["a", "c", "d"]
    assert all(set(case) == {"case", "image"} for case in unlabeled)
    assert "label" in datalist.training[0]  # the datalist itself is untouched
    with pytest.raises(InputError, match=r"atlas x is not a training case; wanted one of a, b$"):
        few_labeled(datalist, None, labeled="x", kind="atlas")
    with pytest.raises(InputError, match=r"atlas c has no label; wanted one of a, b$"):
        few_labeled(datalist, None, labeled="c", kind="atlas")
    numbered = {"labels": LABELS, "training": [pair("12"), pair("13")]}
    datalist_of_numbers = read_datalist(make_dataset(tmp_path / "numbers", numbered, files_of("12", "13")))
    # python-fire reads `--labeled 12` as a number
    assert few_labeled(datalist_of_numbers, None, labeled=12, kind="atlas")[0][0]["case"] == "12"
    with pytest.raises(InputError, match="atlas v is not a training case"):
        few_labeled(datalist, None, labeled="v", kind="atlas")


@pytest.fixture
def ten(tmp_path):
    """Ten labelled training cases, one without a label, one unlabeled, one of validation."""
    names = [f"case_{number}" for number in range(10)]
    content = {
        "labels": LABELS,
        "training": [pair(name) | {"slice_labels": [1]} for name in names] + ["imagesTr/bare.nii.gz"],
        "unlabeled": ["imagesTr/more.nii.gz"],
        "validation": [pair("v")],
    }
    files = (*files_of(*names, "v"), "imagesTr/bare.nii.gz", "imagesTr/more.nii.gz")
    return read_datalist(make_dataset(tmp_path, content, files))


def ids(cases):
    return [case["case"] for case in cases]


def test_few_labeled_draws_by_seed_and_nested(ten):
    draws = {}
    for seed in range(5):
        for count in (1, 2, 4, 10):
            labelled, unlabelled = few_labeled(ten, count, seed)
            assert ids(labelled)[: len(draws.get(seed, []))] == draws.get(seed, [])
            draws[seed] = ids(labelled)
            assert len(set(ids(labelled))) == count and all("label" in case for case in labelled)
            assert sorted(ids(labelled) + ids(unlabelled)) == sorted(ids(ten.training + ten.unlabeled))
            assert all(set(case) == {"case", "image"} for case in unlabelled)
            assert not set(ids(labelled) + ids(unlabelled)) & set(ids(ten.validation + ten.test))
            assert few_labeled(ten, count, seed)[0] == labelled
    assert len({tuple(draw) for draw in draws.values()}) == 5
    assert ids(few_labeled(ten, None, 3)[0]) == draws[3]
    assert "label" in ten.training[0]  # the datalist itself is untouched


def test_few_labeled_does_not_depend_on_the_order_of_the_datalist(ten):
    wanted = ids(few_labeled(ten, 3, 7)[0])
    ten.training.reverse()
    assert ids(few_labeled(ten, 3, 7)[0]) == wanted


def test_named_cases_take_the_place_of_a_draw(ten):
    labelled, unlabelled = few_labeled(ten, 99, 0, ["case_7", "case_2"])
    assert ids(labelled) == ["case_7", "case_2"]
    assert len(unlabelled) == 10 and not {"case_7", "case_2"} & set(ids(unlabelled))
    assert ids(few_labeled(ten, 1, 0, "case_4")[0]) == ids(few_labeled(ten, 1, 0, ("case_4",))[0]) == ["case_4"]


@pytest.mark.parametrize("count", [0, -1, 11, 2.0, True, "2"])
def test_wrong_num_labeled(ten, count):
    with pytest.raises(InputError, match=f"num_labeled is {count}; wanted 1 to 10, the training cases of "):
        few_labeled(ten, count)


def test_wrong_ids_give_one_line_each(ten):
    with pytest.raises(InputError) as caught:
        few_labeled(ten, 1, 0, ["case_3", "case_3", "case_33", "bare", "v"])
    twice, unknown, bare, validation = caught.value.problems
    assert twice == "labeled case case_3 comes twice; wanted it once"
    assert unknown.startswith("labeled case case_33 is not a training case; wanted one of case_3, ")
    assert bare.startswith("labeled case bare has no label; wanted one of ")
    assert validation.startswith("labeled case v is not a training case; ")
    with pytest.raises(InputError, match="labeled is an empty list"):
        few_labeled(ten, 1, 0, [])


def test_candidates_start_with_the_closest(tmp_path):
    names = [f"case_{number:03d}" for number in range(30)]
    content = {"labels": LABELS, "training": [pair(name) for name in names]}
    datalist = read_datalist(make_dataset(tmp_path, content, files_of(*names)))
    with pytest.raises(InputError) as caught:
        few_labeled(datalist, None, labeled="case_29", kind="atlas")
    assert "wanted one of case_029, " in caught.value.problems[0]
    assert caught.value.problems[0].endswith("and 20 more")


def test_no_labelled_case(tmp_path):
    content = {"labels": LABELS, "training": ["imagesTr/a.nii.gz"]}
    datalist = read_datalist(make_dataset(tmp_path, content, files_of("a")))
    for call in (
        lambda: labeled_cases(datalist),
        lambda: few_labeled(datalist, None, labeled="a", kind="atlas"),
        lambda: few_labeled(datalist, 1),
        lambda: few_labeled(datalist, 1, labeled=["a"]),
    ):
        with pytest.raises(InputError, match="none of 1 training cases has a label; wanted at least one"):
            call()


@pytest.mark.parametrize(("name", "counts"), [("la2018", (50, 4, 10)), ("hippocampus", (140, 20, 40))])
def test_real_data_sets(name, counts):
    if not (SHARED / "data" / name).is_dir():
        pytest.skip(f"{name} is not here")
    datalist = read_datalist(SHARED / "data" / name)
    assert (len(datalist.training), len(datalist.validation), len(datalist.test)) == counts
    assert all("label" in case for case in datalist.training + datalist.validation + datalist.test)


def test_truth_may_be_looked_at_on_test_cases_and_else_on_validation_cases(tmp_path):
    files = files_of("a", "b", "c", "d")
    content = {"labels": LABELS, "training": [pair("a")], "validation": [pair("b")], "test": [pair("c"), pair("d")]}
    content["test"][1] = {"image": pair("d")["image"]}
    content["test"][0]["slice_labels"] = {"axis": 2, "labels": {"1": None}}
    scored = scored_cases(read_datalist(make_dataset(tmp_path / "both", content, files)))
    assert [case["case"] for case in scored] == ["c"] and set(scored[0]) == {"case", "image", "label"}
    del content["test"][0]
    assert [c["case"] for c in scored_cases(read_datalist(make_dataset(tmp_path / "one", content, files)))] == ["b"]


def test_auto3dseg_calls_its_test_list_testing(tmp_path):
    content = {"labels": LABELS, "training": [pair("a")], "testing": [{"image": "imagesTr/b.nii.gz"}], "test": []}
    datalist = read_datalist(make_dataset(tmp_path / "x", content, files_of("a", "b", "c")))
    assert [case["case"] for case in datalist.test] == ["b"] and "testing" not in datalist.other
    content["test"] = ["imagesTr/c.nii.gz"]
    problems = problems_of(tmp_path / "y", content, files_of("a", "b", "c"))
    assert problems == ["dataset.json: has test and testing; wanted one of the two"]


@pytest.mark.parametrize("entries", [[pair("b")], ["imagesTr/b.nii.gz"]])
def test_a_list_of_cases_under_another_name_is_not_dropped(tmp_path, entries):
    content = {"labels": LABELS, "training": [pair("a")], "val": entries}
    problems = problems_of(tmp_path, content, files_of("a", "b"))
    assert len(problems) == 1 and problems[0].startswith(
        "dataset.json: val is a list of cases; wanted them in training"
    )


def test_nothing_to_score_is_one_line(tmp_path):
    content = {"labels": LABELS, "training": [pair("a")], "test": ["imagesTr/b.nii.gz"]}
    datalist = read_datalist(make_dataset(tmp_path / "x", content, files_of("a", "b", "c")))
    with pytest.raises(InputError, match="nothing to score, of 1 test cases and 0 validation cases none has a label"):
        require_scored(datalist)
    content["validation"] = [pair("c")]
    require_scored(read_datalist(make_dataset(tmp_path / "x", content)))
