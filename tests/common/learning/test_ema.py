from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.learning.ema import MutualEMA, average_into, mutual_ema, weight_gap


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return tuple(nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3)) for _ in range(2))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_mutual_ema_follows_the_printed_equations_in_their_order():
    general, medical = networks()
    g, m, a = flat(general), flat(medical), 0.99
    mutual_ema(general, medical, a)
    g_new = a * g + (1 - a) * m
    torch.testing.assert_close(flat(general), g_new, rtol=0, atol=1e-7)
    torch.testing.assert_close(flat(medical), a * m + (1 - a) * g_new, rtol=0, atol=1e-7)


def test_one_step_shrinks_the_difference_by_alpha_squared():
    general, medical = (module.double() for module in networks())
    before = flat(general) - flat(medical)
    mutual_ema(general, medical, 0.99)
    torch.testing.assert_close(flat(general) - flat(medical), 0.9801 * before)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_alpha(alpha):
    target, source = networks()
    wanted = flat(target if alpha == 1 else source)
    average_into(target, source, alpha)
    torch.testing.assert_close(flat(target), wanted)


def test_buffers_stay_each_networks_own():
    general, medical = networks()
    medical[1].running_mean += 5
    mutual_ema(general, medical)
    assert general[1].running_mean.eq(0).all() and medical[1].running_mean.eq(5).all()


def test_networks_of_different_shape_are_refused():
    general, _ = networks()
    with pytest.raises(ValueError, match="shorter"):
        average_into(general, nn.Conv3d(1, 3, 3), 0.99)


def test_weight_gap_by_hand():
    general, medical = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        general.weight.copy_(torch.tensor([[3.0, 8.0]]))
        medical.weight.copy_(torch.tensor([[3.0, 4.0]]))
    assert weight_gap(general, medical) == pytest.approx(4 / 5)


@pytest.mark.parametrize(("ema_every", "times"), [(0, 0), (1, 6), (4, 1)])
def test_handler_averages_every_so_many_iterations_and_logs_the_gap(ema_every, times):
    general, medical = networks()
    wanted = 0.9801**times * float((flat(general) - flat(medical)).norm())
    engine = Engine(lambda engine, batch: None)
    MutualEMA(general, medical, ema_every=ema_every).attach(engine)
    engine.run([0, 0, 0], max_epochs=2)
    assert float((flat(general) - flat(medical)).norm()) == pytest.approx(wanted, rel=1e-4)
    assert engine.state.metrics["weight_gap"] == pytest.approx(wanted / float(flat(medical).norm()), rel=1e-4)


@pytest.mark.parametrize(("alpha", "ema_every"), [(1.1, 1), (-0.1, 1), (0.9, -1)])
def test_impossible_settings_are_refused(alpha, ema_every):
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        MutualEMA(*networks(), alpha=alpha, ema_every=ema_every)
