"""Which masks stand out among all, of numbers whose middle and span are known."""

from __future__ import annotations

from support.bundle.path import import_bundle

flags = import_bundle("ada_sam", "volume.flags")
NAMES = {0: "background", 1: "front", 4: "back"}


def judged(dices=(), boxes=None, runs=None, volumes=None, missing=()):
    """Return what is known of cases whose front jumps at these Dices of neighbours; the back is as it should be."""
    found = {}
    for n, dice in enumerate(dices):
        box = 0.9 if boxes is None else boxes[n]
        parts = 1 if runs is None else runs[n]
        raised = {"missing": n in missing, "box": box < 0.5, "jump": dice < 0.6, "run": parts > 1}
        found[f"case_{n}"] = {
            "box_overlap": {"1": box, "4": None},
            "neighbour_dice": {"1": dice, "4": 0.9},
            "runs": {"1": parts, "4": 1},
            "volume_ml": {"1": 10.0 if volumes is None else volumes[n], "4": 5.0},
            "flags": {"1": [flag for flag, up in raised.items() if up], "4": []},
            "jump_slices": {"1": [7, 8] if dice < 0.6 else [], "4": []},
        }
    return found


def told(cases):
    return {case: of["1"] for case, of in flags.stand_out(cases).items() if of["1"]}


def test_what_is_odd_everywhere_is_told_once_and_only_the_odd_one_out_of_itself():
    cases = judged([0.50, 0.52, 0.48, 0.51, 0.49, 0.50, 0.10])
    assert told(cases) == {"case_6": ["jump"]}
    assert all(one["flags"]["1"] for one in cases.values())  # as it was: 7 of 7
    (usual,) = flags.everywhere(cases, NAMES)
    assert usual.startswith(
        "In most of the 7 scans the mask jumps from slice to slice (front 7):"
    ) and not flags.everywhere(judged([0.9] * 7), NAMES)


def test_far_from_the_others_is_no_flag_where_nothing_is_wrong():
    assert told(judged([0.95] * 9 + [0.7])) == {}


def test_each_kind_stands_out_by_its_own_number():
    assert told(judged([0.9] * 8, boxes=[0.45] * 7 + [0.1])) == {"case_7": ["box"]}
    assert told(judged([0.9] * 8, runs=[1] * 7 + [2])) == {"case_7": ["run"]}
    assert told(judged([0.9] * 8, runs=[2] * 7 + [3])) == {"case_7": ["run"]}
    assert told(judged([0.9] * 8, runs=[2] * 8)) == {}
    # e^.8 is four spans of the least one, .2: 10 ml -> 22.3 ml
    assert told(judged([0.9] * 8, volumes=[10] * 6 + [22.0, 22.5])) == {"case_7": ["volume"]}
    assert told(judged([0.9] * 8, missing=range(8))).keys() == {f"case_{n}" for n in range(8)}


def test_of_a_few_cases_all_that_is_odd_is_told():
    assert told(judged([0.5, 0.5, 0.9, 0.5])) == {"case_0": ["jump"], "case_1": ["jump"], "case_3": ["jump"]}
    assert flags.stand_out({}) == {} and flags.everywhere({}, NAMES) == []


def test_sentences_name_structure_slices_and_numbers():
    cases = judged(
        [0.9] * 7 + [0.2], boxes=[0.9] * 7 + [0.1], runs=[1] * 7 + [3], volumes=[10] * 7 + [100], missing=[7]
    )
    said = flags.sentences(cases["case_7"], flags.stand_out(cases)["case_7"], NAMES)
    assert said == [
        "front: ADA-SAM itself found nothing.",
        "front: the mask is not where the slice classifier looked (overlap of the boxes 0.10).",
        "front: the mask jumps at slice 7 to 8 (lowest Dice of neighbours 0.20).",
        "front: its slices fall into 3 parts.",
    ]
    large = judged([0.9] * 8, volumes=[10] * 7 + [100])
    said = flags.sentences(large["case_7"], flags.stand_out(large)["case_7"], NAMES)
    assert said == ["front: a volume of 100.0 ml is unlike that of the other scans."]
    assert flags.sentences(cases["case_0"], flags.stand_out(cases)["case_0"], NAMES) == []
