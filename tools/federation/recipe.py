"""NVFLARE's recipe of a federation: what the server and the sites are sent."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .sites import FIXED, Plan, Site

CLIENT = Path(__file__).parent / "client.py"
NAME = "federated"
MODEL = "FL_global_model.pt"
RECORD = "rounds.json"  # beside the model, see `rounds`, which is not imported where NVFLARE is not


def make_recipe(sites: list[Site], shared: Plan, arguments: argparse.Namespace, start: Path) -> Any:
    """Return NVFLARE's recipe: federated averaging that begins with the weights in `start`, which travel with the job.

    Args:
        sites: one without `bundle` finds its folders by its own environment (`client`).
        shared: what is equal at all of them.
        arguments: rounds, local_epochs, min_sites, wait, unlabeled_from and unlabeled_weight.
    """
    from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe.utils import set_per_site_config

    from .average import SoundAverage
    from .rounds import PatientRounds

    class PatientRecipe(FedAvgRecipe):
        def _create_controller(self, *args: Any, **kwargs: Any) -> Any:
            plain = super()._create_controller(*args, **kwargs)
            return PatientRounds(
                num_clients=len(sites),
                num_rounds=arguments.rounds,
                persistor_id=plain._persistor_id,
                aggregator=plain.aggregator,
                least=arguments.min_sites,
                wait=arguments.wait,
            )

    job = {
        "settings": shared.settings,
        "grid": shared.grid,
        "labels": shared.labels,
        "rounds": arguments.rounds,
        "local_epochs": arguments.local_epochs,
        "unlabeled_from": arguments.unlabeled_from,
        "unlabeled_weight": arguments.unlabeled_weight,
    }
    given = f"--job {encode(job)}"
    recipe = PatientRecipe(
        name=NAME,
        min_clients=arguments.min_sites,
        num_rounds=arguments.rounds,
        # the server needs no code of the bundle: it adds up tensors by their names
        model_persistor=PTFileModelPersistor(source_ckpt_file_full_name=start.name, load_device="cpu"),
        aggregator=SoundAverage(
            shapes={name: list(tensor.shape) for name, tensor in shared.weights.items()},
            fixed=[name for name in FIXED if name in shared.weights],
            least=arguments.min_sites,
        ),
        train_script=str(CLIENT),
        train_args=given,
    )
    recipe.add_server_file(str(start.absolute()))
    own = {site.name: f"{given} {_folders(site)} --settings {encode(site.settings)}" for site in sites}
    set_per_site_config(recipe, {name: {"train_args": line} for name, line in own.items()})
    return recipe


def _folders(site: Site) -> str:
    """Return where a simulated site's folders are; nothing for a site without any here, which knows its own."""
    if not site.bundle.parts:
        return ""
    return f"--bundle {quote(str(site.bundle.absolute()))} --dataset_dir {quote(str(site.dataset_dir.absolute()))}"


def encode(value: Any) -> str:
    """Return JSON without a space or quote in it."""
    return quote(json.dumps(value))
