from __future__ import annotations

import getpass
import json
import platform

import pytest
import torch

from common.run.machine import describe_machine


def test_says_what_the_run_was_made_on_and_not_where():
    facts = describe_machine("cpu")
    assert facts["device"] == "cpu" and facts["threads"] == torch.get_num_threads() and facts["cores"] >= 1
    values = [value for value in json.loads(json.dumps(facts)).values() if isinstance(value, str)]
    assert platform.node() not in values and getpass.getuser() not in values


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_names_the_gpu():
    assert describe_machine("cuda:0")["gpu"] == torch.cuda.get_device_name(0)
