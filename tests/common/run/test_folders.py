from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.run.folders import without_paths


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/joe/data/set", "…/set"),
        ("/home/joe/my data/set/", "…/set"),
        ("/srv", "…/srv"),
        ("~/data/set", "…/set"),
        ("~joe/data/set", "…/set"),
        ("~joe", "…"),
        ("../patients/Meier", "…/Meier"),
        ("../patients/Hans Meier/scan 1.nii", "…/scan 1.nii"),
        ("patients/Hans Meier/scan.nii", "…/scan.nii"),
        ("patients/Meier/", "…/Meier"),
        ("imagesTr/a.nii.gz", "…/a.nii.gz"),
        ("a/b/c", "…/c"),
        ("file:///home/joe/my data/set", "…/set"),
        ("s3://bucket/set", "…/set"),
        ("https://joe:secret@host/a/set?signature=1", "…/set"),
        ("C:\\Users\\joe\\set", "…/set"),
        ("C:/Users/joe/set", "…/set"),
        ("\\\\server\\share\\Meier\\a.nii", "…/a.nii"),
        ("//server/share/a", "…/a"),
        ("$HOME/data/set", "…/set"),
        ("${DATA}/set", "…/set"),
        ("%USERPROFILE%\\data\\set", "…/set"),
        (Path("/home/joe/set"), "…/set"),
        (Path("joe's data/set"), "…/set"),
    ],
)
def test_a_place_is_shortened_to_its_last_part(text, wanted):
    assert without_paths(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model is /home/joe/models/model.pt, done", "model is …/model.pt, done"),
        ("$os.path.join('/home/joe/x', 'y')", "$os.path.join('…/x', 'y')"),
        ("/home/joe/a.nii: shape (3, 4), found /home/joe/b.nii", "…/a.nii: shape (3, 4), found …/b.nii"),
        ("/home/Hans Meier/a b/a.nii: shape (3, 4)", "…/a.nii: shape (3, 4)"),
        ("/data/Dr. Meier, Hans (old)/a.nii: bad", "…/a.nii: bad"),
        ("saved to C:\\Users\\Hans Meier\\a.nii", "saved to …/a.nii"),
        ("can't read ../patients/Meier now", "can't read …/Meier now"),
        ("model in ~joe/models/model.pt", "model in …/model.pt"),
        ("No such file: '/home/joe/Hans Meier/x.nii'", "No such file: '…/x.nii'"),
        ("found 'patients/Hans Meier', wanted \"labels/b c\"", "found '…/Hans Meier', wanted \"…/b c\""),
        ("from s3://bucket/Meier/x.nii?key=abc it came", "from …/x.nii it came"),
        ("/home/joe/x and /home/ann/y", "…/x and …/y"),
    ],
)
def test_places_inside_a_sentence_are_shortened(text, wanted):
    assert without_paths(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Dice / HD95",
        "Dice/HD95",
        "left/right lobe",
        "$@lr / 2",
        "0.05 s/step",
        "~3 s/step",
        "/",
        "",
        "mm/h, 1/2",
        "2026/11/28",
        "5 MB/s or 6 GB/s",
        "and/or N/A",
        "label '\\x1b[2K'",
        "…/set",
    ],
)
def test_other_texts_stay(text):
    assert without_paths(text) == text


def test_what_a_key_calls_a_place_is_one():
    places = {"dataset_dir": "patients/Meier", "ckpt_path": "Hans Meier/model", "bundle_root": "~meier", "x_dir": ".."}
    assert without_paths(places) == {
        "dataset_dir": "…/Meier",
        "ckpt_path": "…/model",
        "bundle_root": "…",
        "x_dir": "…",
    }
    assert without_paths({"files": ["a/b", "c", 3], "label": "liver/spleen", "cache_dir": "$HOME"}) == {
        "files": ["…/b", "c", 3],
        "label": "liver/spleen",
        "cache_dir": "…",
    }


def test_goes_through_lists_and_dicts_and_leaves_numbers():
    assert without_paths({"a": ["/x/y", 1, None], "/x/k": ({"b": 2.5},)}) == {
        "a": ["…/y", 1, None],
        "…/k": [{"b": 2.5}],
    }


@pytest.mark.parametrize("text", ["a/" * 9000, "/a b c d e f g h" * 1500, "/" + "a " * 9000, "'" * 1000 + "/" * 1000])
def test_no_text_takes_long(text):
    start = time.process_time()
    without_paths(text)
    assert time.process_time() - start < 5
