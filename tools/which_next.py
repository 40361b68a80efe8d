"""Let MONAI Label's server say which scan to annotate next, by the review of a packed bundle: into a copied app.

    python which_next.py monaibundle         by any Python: this file needs no other one

It copies itself into the app's folder and adds one line to the app's main.py; MONAI Label itself stays as it is. A
server that is started with `--conf next_model NAME` then has a scoring method and a strategy `which_next`: the first
predicts the scans without a final label and ranks them, by the packed code of that bundle (docs/review.md), the second
serves them in that order. No label is opened.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "which_next"  # of the strategy, of the scoring method, and of what they keep of an image
CONF = "next_model"
LINE = f"import {NAME}; {NAME}.extend(MyApp)  # see {NAME}.py"
log = logging.getLogger(__name__)


def extend(app: type) -> None:
    """Give an app's class the strategy and the scoring method, where its server is started with `next_model`."""
    strategies, methods = app.init_strategies, app.init_scoring_methods  # type: ignore[attr-defined]  # of MONAI Label

    def init_strategies(self: Any) -> dict[str, Any]:
        return {**strategies(self), **({NAME: Strategy()} if self.conf.get(CONF) else {})}

    def init_scoring_methods(self: Any) -> dict[str, Any]:
        model = self.conf.get(CONF)
        if model and model not in self._infers:
            raise ValueError(f"--conf {CONF} {model}: no such model; wanted one of {', '.join(self._infers)}")
        return {**methods(self), **({NAME: Scoring(self, model)} if model else {})}

    app.init_strategies, app.init_scoring_methods = init_strategies, init_scoring_methods  # type: ignore[attr-defined]


class Strategy:
    """Serve the scans in the order in which they were ranked; one that was served since then comes after all others."""

    def info(self) -> dict[str, str]:
        return {"description": "What the model probably segments badly and what is unlike the labelled scans"}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        if not images:
            return None
        infos = {image: datastore.get_image_info(image) for image in images}

        def place(image: str) -> tuple[int, float, str]:
            own = infos[image].get(NAME, {})
            served = infos[image].get("strategy", {}).get(NAME, {}).get("ts", 0)
            return (served if served >= own.get("ranked", 0) else 0, own.get("rank", float("inf")), image)

        image = min(images, key=place)
        return {"id": image, "why": why(infos[image].get(NAME, {}))}


def why(own: Mapping[str, Any]) -> str:
    """Return in words why a scan is served, of what was kept of it."""
    if "rank" not in own:
        return "it could not be predicted" if own else f"not ranked yet: POST /scoring/{NAME}"
    said = f"number {own['rank']}: a Dice of about {own['predicted_dice']:.2f} is expected, unlike {own['unlike']:.2f}"
    return f"{said}; like no other scan: look at it first" if own["alone"] else said


class Scoring:
    """Rank the scans without a final label; nothing is done where all are ranked by the model as it is.

    A scan that can't be read or predicted is left out and said in the log.

    Args:
        app: of MONAI Label.
        model: name of a bundle in it.
    """

    def __init__(self, app: Any, model: str) -> None:
        self.app, self.model = app, model

    def info(self) -> dict[str, str]:
        return {"description": f"Rank the scans without a label by what {self.model} expects of itself"}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        task = self.app._infers[self.model]
        file = self.app.model_file(self.model) if task.is_valid() else None
        if not file or not Path(file).is_file():
            log.warning("%s: %s has no model yet", NAME, self.model)
            return {}
        version = int(os.stat(file).st_mtime)
        unlabelled = sorted(datastore.get_unlabeled_images())
        known = {image: datastore.get_image_info(image).get(NAME, {}) for image in unlabelled}
        if all(own.get("model") == version for own in known.values()):
            return {}
        labelled = sorted(datastore.get_labeled_images())
        with packed(task.bundle_path) as load:
            choosing = load("atlas.choosing.next_scan")
            rows = {image: self.predict(image, request) for image in unlabelled}
            grid = load("grid.grid").read_grid(str(file), {})
            preprocessing = load("grid.preprocessing").ImagePreprocessing(grid)
            scans = list(loaded(preprocessing, [*unlabelled, *labelled], datastore))
            there = {scan["case"] for scan in scans}
            quality = {
                image: choosing.predicted_quality(found) for image, found in rows.items() if found and image in there
            }
            ids, distances = choosing.scan_distances(load("atlas.choosing.reach").ScanReach(scans))
            kept = [image for image in labelled if image in there]
            ranked = choosing.choose_next(quality, ids, distances, kept, len(quality)) if quality else []
        result: dict[str, Any] = {image: {"model": version} for image in unlabelled}
        for rank, scan in enumerate(ranked, start=1):
            numbers = {"predicted_dice": round(scan.quality, 3), "unlike": round(scan.unlike, 3)}
            result[scan.case] |= {"rank": rank, **numbers, "alone": scan.alone, "ranked": int(time.time())}
        for image, own in result.items():
            datastore.update_image_info(image, {NAME: own})
        return result

    def predict(self, image: str, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of an image's review; none where it could not be predicted."""
        wanted = {"model": self.model, "image": image, "skip_writer": True, "save_label": False}
        try:
            found = self.app.infer({**wanted, **({"device": request["device"]} if "device" in request else {})})
            return list(found["params"]["result"]["review"])
        except Exception:  # whatever a reader, a bundle or MONAI Label raises: the other scans are to be ranked
            log.warning("%s: %s is left out", NAME, image, exc_info=True)
            return []


def loaded(preprocessing: Callable[[dict], dict], images: Iterable[str], datastore: Any) -> Iterator[dict[str, Any]]:
    """Yield the images on the model's grid; what can't be read is left out."""
    for image in images:
        try:
            yield {"case": image, "image": preprocessing({"image": datastore.get_image_uri(image)})["image"]}
        except Exception:  # as above
            log.warning("%s: %s is left out", NAME, image, exc_info=True)


@contextmanager
def packed(bundle: str) -> Iterator[Callable[[str], Any]]:
    """Give what imports a module of the `common` that is packed in a bundle, as MONAI Label does for its configs."""

    def load(name: str) -> Any:
        return importlib.import_module(f"scripts.common.{name}")

    for name in [name for name in sys.modules if name == "scripts" or name.startswith("scripts.")]:
        del sys.modules[name]
    sys.path.insert(0, bundle)
    try:
        yield load
    finally:
        sys.path.remove(bundle)


def install(app: Path) -> str:
    """Copy this file into an app's folder and let its main.py use it; return what was done.

    Raises:
        ValueError: it is no copy of MONAI Label's app for bundles.
    """
    main_py = app / "main.py"
    text = main_py.read_text(encoding="utf-8") if main_py.is_file() else ""
    if "class MyApp(MONAILabelApp)" not in text:
        raise ValueError(f"{app}: no main.py with a class MyApp; wanted a copy of MONAI Label's app monaibundle")
    write(app / f"{NAME}.py", Path(__file__).read_text(encoding="utf-8"))
    if LINE not in text:
        write(main_py, f"{text.rstrip()}\n\n{LINE}\n")
    return f"{app}: start its server with --conf {CONF} NAME; then POST /scoring/{NAME} and /activelearning/{NAME}"


def write(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def place(word: str) -> Path:
    """Return a path, `~` read as the home folder; `common`, which does that elsewhere, is not beside a copied file."""
    return Path(word).expanduser()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", type=place, help="a copy of MONAI Label's app monaibundle")
    try:
        print(install(parser.parse_args(arguments).app))
    except (ValueError, OSError) as error:
        print(f"error: {json.dumps(str(error))[1:-1]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
