"""What a site of a federated training runs: NVFLARE starts this file there; it needs the copy of the bundle alone.

    federated_client.py --job JOB [--bundle DIR] [--dataset_dir DIR] [--settings SETTINGS]

JOB and SETTINGS are JSON, percent-encoded, because NVFLARE cuts arguments at spaces. `tools.federated_job` writes them.
Where --bundle and --dataset_dir are left out, as for provisioned sites, the environment variables FEDERATED_BUNDLE and
FEDERATED_DATASET_DIR of the site say where its copy of the bundle and its data lie; SETTINGS are the site's own keys.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

# what a site with labels of its own does: an average of networks whose classes mean different things is neither
SAME_LABELS = (
    "with the same values; a structure that no mask of a site shows stays among its labels, and `known_labels` of its "
    "cases says which they tell about (docs/data.md)"
)
NOTHING = 1e-9  # weight of a site that sits a round out: NVFLARE takes 0 for 1


def main() -> None:
    """Take part in every round until the server ends the training; a failure is a line `error: ...` in the log."""
    try:
        take_part()
    except Exception as error:
        cause: BaseException = error
        while not hasattr(cause, "problems") and cause.__cause__ is not None:
            cause = cause.__cause__
        for line in getattr(cause, "problems", [f"{type(cause).__name__}: {cause}"]):
            logging.getLogger(__name__).error("error: %s", line)
        raise


def take_part() -> None:
    """Set the site up, then answer each round with the change of the weights."""
    import nvflare.client as flare
    from monai.fl.client import MonaiAlgo
    from monai.fl.utils.constants import ExtraItems, FlStatistics
    from monai.fl.utils.exchange_object import ExchangeObject

    job, bundle, dataset_dir, settings = read_arguments()
    flare.init()
    name = flare.get_site_name()
    algo = MonaiAlgo(
        bundle_root=bundle,
        local_epochs=job["local_epochs"],
        send_weight_diff=True,  # of buffers the difference is 0, so that no average can change the grid
        config_evaluate_filename=None,
        train_kwargs=overrides(job, bundle, dataset_dir, settings),
    )
    algo.initialize(extra={ExtraItems.CLIENT_NAME: name})
    cohort = algo.train_workflow.parser.get_parsed_content("cohort")
    require_same_classes(name, cohort.labels, job["labels"])
    has_labels = bool(getattr(cohort, "labeled", True))
    while flare.is_running():
        received = flare.receive()
        number = received.current_round + 1
        require_same_network(name, algo.trainer.network.state_dict(), received.params)
        if not has_labels and number < job["unlabeled_from"]:
            algo.trainer.sit_out(job["local_epochs"])
            params, steps = {key: 0 * value for key, value in received.params.items()}, NOTHING
        else:
            algo.train(ExchangeObject(weights=received.params))
            sent = algo.get_weights()
            params = sent.weights
            require_numbers(name, number, params)
            steps = sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
            steps *= 1.0 if has_labels else job["unlabeled_weight"]
        meta = {"NUM_STEPS_CURRENT_ROUND": max(steps, NOTHING)}
        flare.send(flare.FLModel(params_type=flare.ParamsType.DIFF, params=params, meta=meta))
    algo.finalize()


def read_arguments(arguments: list[str] | None = None) -> tuple[dict[str, Any], str, str, dict[str, Any]]:
    """Return what the job says to all sites, the site's bundle and data set, and its own settings."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", required=True)
    parser.add_argument("--settings", default="%7B%7D")
    parser.add_argument("--bundle")
    parser.add_argument("--dataset_dir")
    found = parser.parse_args(arguments)
    places = []
    for key in ("bundle", "dataset_dir"):
        variable = f"FEDERATED_{key.upper()}"
        place = getattr(found, key) or os.environ.get(variable)
        if not place:
            raise ValueError(f"{variable} is not set at this site; wanted a folder")
        places.append(os.path.abspath(unquote(place)))
    return json.loads(unquote(found.job)), *places, json.loads(unquote(found.settings))


def overrides(job: Mapping[str, Any], bundle: str, dataset_dir: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of train.json that a site trains with: those of the job, its own, and what must be equal."""
    equal = {**job["grid"], "train#total_epochs": job["rounds"] * job["local_epochs"], "resume": False}
    return {**job["settings"], **settings, **equal, "bundle_root": bundle, "dataset_dir": dataset_dir}


def require_same_classes(site: str, found: Mapping[int, str], wanted: Mapping[str, str]) -> None:
    """End with one line where a site's data set has other labels than the job: an average would mix organs."""
    of_job = {int(value): name for value, name in wanted.items()}
    if dict(found) != of_job:
        raise ValueError(f"site {site} has the labels {dict(found)}; wanted those of the job, {of_job}, {SAME_LABELS}")


def require_same_network(site: str, own: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """End with one line where the global model has not the weights of the site's network: MONAI would skip some."""
    for name in sorted({*own, *received}):
        shapes = [list(weights[name].shape) if name in weights else "none" for weights in (own, received)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"site {site} has {name} of the shape {shapes[0]}; wanted {shapes[1]}, as in the global model: "
                "the same version of the bundle, and no setting of the network that is the site's own"
            )


def require_numbers(site: str, number: int, params: Mapping[str, Any]) -> None:
    """End with one line where training left weights that are no number: sent, they would spoil everybody's model."""
    for name, change in params.items():
        if not np.isfinite(np.asarray(change)).all():
            raise ValueError(
                f"site {site} has {name} with values that are no number after round {number}, so it sends nothing; "
                "wanted a lower learning_rate, or scans without such values"
            )


if __name__ == "__main__":
    main()
