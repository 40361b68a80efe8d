"""The strategy that a copied app of MONAI Label gets: by a stand-in for its app and datastore; the real server is in
tests/clients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from common.review.features import Features
from tools.which_next import LINE, NAME, Scoring, Strategy, extend, install, main, packed

APP = "class MyApp(MONAILabelApp):\n    pass\n\n\nif __name__ == '__main__':\n    main()\n"


class Store:
    """Images a to e, of which e has a label."""

    def __init__(self) -> None:
        self.infos: dict[str, dict] = {image: {} for image in "abcde"}

    def get_unlabeled_images(self, *_):
        return list("dcba")

    def get_labeled_images(self, *_):
        return ["e"]

    def get_image_info(self, image):
        return dict(self.infos[image])

    def get_image_uri(self, image):
        return f"{image}.nii.gz"

    def update_image_info(self, image, info):
        self.infos[image].update(info)


def own(rank: int, ranked: int = 100) -> dict:
    return {NAME: {"rank": rank, "predicted_dice": 0.4, "unlike": 1.5, "alone": False, "model": 1, "ranked": ranked}}


def served(ts: int) -> dict:
    return {"strategy": {NAME: {"ts": ts}}}


def test_scans_are_served_in_their_order_and_one_that_was_served_comes_again_last():
    store, ask = Store(), Strategy()
    for image, rank in zip("abcd", (3, 1, 2, 4), strict=True):
        store.infos[image].update(own(rank))
    found = []
    for ts in range(101, 106):
        found.append(ask({"strategy": NAME}, store)["id"])
        store.infos[found[-1]].update(served(ts))
    assert found == ["b", "c", "a", "d", "b"]
    store.infos["c"].update(own(1, ranked=200))  # a new model: what was served before it counts no more
    assert ask({"strategy": NAME}, store)["id"] == "c"


def test_why_is_said():
    store = Store()
    assert Strategy()({}, store) == {"id": "a", "why": f"not ranked yet: POST /scoring/{NAME}"}
    store.infos["a"].update({NAME: {"model": 1}})
    store.infos["b"].update(own(1))
    assert Strategy()({}, store) == {
        "id": "b",
        "why": "number 1: a Dice of about 0.40 is expected, unlike 1.50",
    }
    store.infos["b"][NAME]["alone"] = True
    assert Strategy()({}, store)["why"].endswith("; like no other scan: look at it first")
    store.get_unlabeled_images = lambda *_: []
    assert Strategy()({}, store) is None


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Stand for MONAI Label's app: a model whose predicted Dice is known, and a bundle with this `common` packed."""
    bundle = tmp_path / "bundle"
    (bundle / "scripts").mkdir(parents=True)
    (bundle / "scripts" / "__init__.py").touch()
    (bundle / "scripts" / "common").symlink_to(Path(__file__).parents[3] / "common")
    model = tmp_path / "model.pt"
    grid = {"spatial_size": [16, 16, 12], "pixdim": [1.0, 1.0, 1.0], "label_values": [0, 1]}
    torch.save({name: torch.tensor(value) for name, value in grid.items()}, model)
    dice, asked = {"a": 0.9, "b": 0.3, "c": 0.8}, []

    def infer(request):
        asked.append(request)
        features = Features(dice[request["image"]], None, 3.0, 1.0)  # of d there is none: a KeyError
        return {"params": {"result": {"review": [{"predicted_dice": features.score, **features.as_dict()}]}}}

    task = SimpleNamespace(bundle_path=str(bundle), is_valid=lambda: True)
    made = SimpleNamespace(
        _infers={"ours": task}, model_file=lambda _: str(model), infer=infer, asked=asked, file=model
    )
    yield made
    for name in [name for name in sys.modules if name == "scripts" or name.startswith("scripts.")]:
        del sys.modules[name]


def test_scans_are_ranked_by_the_packed_code_and_a_bad_one_costs_the_others_nothing(app, monkeypatch):
    store = Store()

    def preprocess(self, item):
        number = "abcde".index(item["image"][0])
        axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (16, 16, 12)), indexing="ij")
        return {"image": (sum(axis**2 for axis in axes) < 0.4 + 0.1 * number).float()[None]}

    with packed(app._infers["ours"].bundle_path) as load:
        module = load("grid.preprocessing")
        assert module.__name__ == "scripts.common.grid.preprocessing"
        assert app._infers["ours"].bundle_path in sys.path
    assert app._infers["ours"].bundle_path not in sys.path
    monkeypatch.setattr("monai.transforms.Compose.__call__", preprocess)
    found = Scoring(app, "ours")({"device": "cpu"}, store)
    assert [request["image"] for request in app.asked] == ["a", "b", "c", "d"]
    assert all(request["device"] == "cpu" and request["skip_writer"] for request in app.asked)
    version = int(os.stat(app.file).st_mtime)
    assert found["d"] == {"model": version} and "e" not in found
    assert found["b"]["rank"] == 1 and found["b"]["predicted_dice"] == 0.3 and found["b"]["alone"] is False
    assert sorted(found[image]["rank"] for image in "abc") == [1, 2, 3]
    assert store.infos["b"][NAME] == found["b"] and store.infos["e"] == {}
    assert Strategy()({}, store)["id"] == "b"
    assert Scoring(app, "ours")({}, store) == {} and len(app.asked) == 4  # the same model: nothing to do
    os.utime(app.file, (1, 1))
    assert Scoring(app, "ours")({}, store)["b"]["model"] == 1 and len(app.asked) == 8


def test_without_a_model_nothing_is_ranked(app):
    app.file.unlink()
    assert Scoring(app, "ours")({}, Store()) == {} and not app.asked
    app._infers["ours"].is_valid = lambda: False  # MONAI Label then knows no path, either
    app.model_file = lambda _: pytest.fail("asked")
    assert Scoring(app, "ours")({}, Store()) == {}


def test_an_app_has_both_only_where_a_model_is_named():
    class App:
        def __init__(self, conf):
            self.conf, self._infers = conf, {"ours": None}

        def init_strategies(self):
            return {"random": 1}

        def init_scoring_methods(self):
            return {}

    extend(App)
    assert App({}).init_strategies() == {"random": 1} and App({}).init_scoring_methods() == {}
    made = App({"next_model": "ours"})
    assert set(made.init_strategies()) == {"random", NAME} and set(made.init_scoring_methods()) == {NAME}
    assert all(one.info()["description"] for one in (made.init_strategies()[NAME], made.init_scoring_methods()[NAME]))
    with pytest.raises(ValueError, match="--conf next_model other: no such model; wanted one of ours"):
        App({"next_model": "other"}).init_scoring_methods()


def test_a_copied_app_gets_the_file_and_one_line_once(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    assert "--conf next_model NAME" in install(tmp_path)
    install(tmp_path)
    assert (tmp_path / "main.py").read_text() == f"{APP}\n{LINE}\n"
    # as a site without this repository does: the copied file alone, by another Python
    done = subprocess.run([sys.executable, "-I", tmp_path / f"{NAME}.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path}: start its server")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.py", f"{NAME}.py"]


@pytest.mark.parametrize("text", [None, "print('an app of another kind')\n"])
def test_what_is_no_copy_of_the_app_is_left_alone(tmp_path, text, capsys):
    if text is not None:
        (tmp_path / "main.py").write_text(text)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "wanted a copy of MONAI Label's app monaibundle" in said
    assert not (tmp_path / f"{NAME}.py").exists()
