"""The server's average, in NVFLARE's own environment: one update in three is what it should be."""

from __future__ import annotations

import json
import subprocess

from support.bundle.path import BUNDLES

PROGRAM = """
import json, logging, sys
import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from tools.federation.average import SoundAverage

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
average = SoundAverage({"w": [2], "pixdim": [1]}, ["pixdim"], least=2)

def send(site, steps, w, pixdim=0.0, kind=ParamsType.DIFF):
    params = {"w": np.array(w, np.float32), "pixdim": np.array([pixdim], np.float32)}
    meta = {"client_name": site, "NUM_STEPS_CURRENT_ROUND": steps}
    average.accept_model(FLModel(params_type=kind, params=params, meta=meta, current_round=1))

average.reset_stats()
send("north", 3, [1.0, 2.0])
send("south", 1, [5.0, -2.0])
send("nan", 100, [float("nan"), 0.0])
send("shape", 100, [1.0])
send("grid", 100, [1.0, 1.0], pixdim=0.5)
send("whole", 100, [1.0, 1.0], kind=ParamsType.FULL)
send("steps", float("inf"), [1.0, 1.0])
found = average.aggregate_model()
average.reset_stats()
send("north", 3, [1.0, 2.0])
send("nan", 3, [float("inf"), 2.0])
try:
    average.aggregate_model()
    said = ""
except RuntimeError as error:
    said = str(error)
print(json.dumps([found.params["w"].tolist(), found.params["pixdim"].tolist(), str(found.params_type), said]))
"""


def test_an_update_that_is_not_sound_is_left_out_and_its_site_named(nvflare_python, client_environment):
    done = subprocess.run(
        [str(nvflare_python), "-c", PROGRAM],
        cwd=BUNDLES.parent,
        env=client_environment(nvflare_python),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    w, pixdim, kind, said = json.loads(done.stdout.splitlines()[-1])
    assert w == [2.0, 1.0] and pixdim == [0.0] and "DIFF" in kind  # (3 * 1 + 5) / 4, (3 * 2 - 2) / 4
    lines = [line[line.index("left out") :] for line in done.stderr.splitlines() if "left out" in line]
    assert [line.split(":")[1].strip() for line in lines] == [
        f"site {name}, round 2" for name in ("nan", "shape", "grid", "whole", "steps", "nan")
    ]
    assert "w has 1 values that are no number" in lines[0] and "pixdim was changed" in lines[2]
    assert said == "sound updates of 1 sites (north); wanted 2 or more"
