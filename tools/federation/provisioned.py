"""A federation between real sites: the job goes to the server of a provisioned project, and its model comes back."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from common.errors import InputError, printable
from common.files.tensor_files import atomic_save

from .recipe import MODEL, RECORD, make_recipe
from .sites import Plan, Site, write_model

DONE = "FINISHED:COMPLETED"
LEFT_OUT = re.compile(r"(left out: site .*)")


def read_kit(kit: Path) -> tuple[Path, str]:
    """Return the folder of an admin's startup kit and the admin's name in it.

    Args:
        kit: that folder, or `startup` inside.

    Raises:
        InputError: there is no fed_admin.json, which a server's or a client's kit has not.
    """
    kit = kit.parent if kit.name == "startup" else kit
    file = kit / "startup" / "fed_admin.json"
    try:
        return kit, str(json.loads(file.read_text(encoding="utf-8"))["admin"]["username"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"--kit {kit}: no startup/fed_admin.json that names an admin; wanted an admin's kit") from None


def submit(sites: list[Site], shared: Plan, arguments: argparse.Namespace) -> Path:
    """Send the job to the server that the admin's kit names, wait until it ends, and write `workspace`/model.pt.

    Raises:
        InputError: no server answers, or the job has ended otherwise than completed; the line says where its logs are.
    """
    from nvflare.recipe import ProdEnv

    kit, admin = read_kit(arguments.kit)
    start: Path = arguments.workspace / "start.pt"
    atomic_save(shared.weights, start)
    recipe = make_recipe(sites, shared, arguments, start)
    environment = ProdEnv(startup_kit_location=str(kit.absolute()), username=admin, login_timeout=30.0)
    try:
        run = recipe.execute(environment)
    except RuntimeError as error:
        raise InputError(f"{kit}: the job was not taken: {error}") from error
    job = run.get_job_id()
    print(f"job {job}: waiting until it ends; {arguments.rounds} rounds")
    found = Path(shutil.move(str(environment.get_job_result(job)), arguments.workspace / "result"))
    status = str(environment.get_job_status(job))
    for line in [*left_out(found), *(lines := describe_rounds(found, [site.name for site in sites]))]:
        print(line)
    model = arguments.workspace / ("model.pt" if len(lines) == arguments.rounds else f"after_round_{len(lines)}.pt")
    for result in sorted(found.rglob(MODEL)) if lines else []:
        write_model(result, shared, model)
    if len(lines) < arguments.rounds:
        rest = f"; --start {model} goes on from there" if lines else ""
        raise InputError(
            f"job {job}: ended as {status} after {len(lines)} of {arguments.rounds} rounds{rest}; the log of the "
            f"server is in {found}, those of the sites are in their kits"
        )
    if status != DONE:  # such as FINISHED:ABNORMAL, of a job that a site didn't see to its end
        print(f"warning: job {job}: ended as {status}, but after its last round")
    return model


def describe_rounds(folder: Path, sites: list[str]) -> list[str]:
    """Return a line for each round of a job's result that was averaged, with the sites that were no part of it."""
    records = sorted(folder.rglob(RECORD))
    rounds = json.loads(records[0].read_text(encoding="utf-8")) if records else []
    lines = []
    for number, averaged in enumerate(rounds, start=1):
        missing = ", ".join(site for site in sites if site not in averaged)
        lines.append(f"round {number}: {', '.join(averaged)}" + f"; without {missing}" * bool(missing))
    return lines


def left_out(folder: Path) -> list[str]:
    """Return what the server's log says of updates that were no part of the average, each line once."""
    found: dict[str, None] = {}
    for log in sorted(folder.rglob("log.txt")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            match = LEFT_OUT.search(line)
            if match:
                found[printable(match[1])] = None
    return list(found)
