"""Every base method as an objective of a tiny specialist."""

from __future__ import annotations

from support.bundle.path import import_bundle
from support.semisam_plus.batch import CLASSES, make_network

InputError = import_bundle("semisam_plus", "common.errors").InputError


methods = import_bundle("semisam_plus", "methods.registry")


NAMES = list(methods.METHODS)


TEACHERS = ["mean_teacher", "ua_mt"]


def make(method: str, body=None, **options):
    channels = methods.body_channels(method, CLASSES)
    network = make_network(channels, body(channels) if body else None)
    defaults = {"total_steps": 10, "consistency_weight": 1.0, "consistency_ramp": 0.0, "passes": 2}
    return methods.build_objective(method, network, **(defaults | {"discriminator_width": 4} | options))


def step(it, batch, optimizer):
    losses = it(batch)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    optimizer.step()
    return losses
