from __future__ import annotations

import threading
import time

import pytest
import torch

from common.threads import MOST, side_by_side


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_pieces_come_in_their_order_each_on_its_share_of_the_threads(four_threads):
    def do(number):
        time.sleep(0.02 * (3 - number % 4))  # the first takes longest
        return number, threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()

    with torch.no_grad():
        found = list(side_by_side(do, range(9)))
    assert [number for number, *_ in found] == list(range(9))
    assert 1 < len({thread for _, thread, _, _ in found}) <= MOST
    assert {(threads, grad) for _, _, threads, grad in found} == {(1, True)}
    assert torch.get_num_threads() == 4


def test_what_is_read_for_them_is_read_as_they_are_done(four_threads):
    read, done = [], []

    def pieces():
        for number in range(20):
            read.append(number)
            assert len(read) - len(done) <= MOST + 1
            yield number

    for number in side_by_side(lambda number: number, pieces()):
        done.append(number)
    assert done == read == list(range(20))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_failure_is_told_at_once_and_nothing_further_begins(four_threads, threads):
    torch.set_num_threads(threads)
    begun = []

    def do(number):
        begun.append(number)
        if number == 2:
            raise ValueError("no such scan")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="no such scan"):
        list(side_by_side(do, range(50)))
    assert len(begun) <= 2 + MOST + 1 and torch.get_num_threads() == threads


def test_with_one_thread_or_a_gpu_there_is_nobody_else(four_threads):
    own = threading.get_ident()
    assert set(side_by_side(lambda _: threading.get_ident(), range(3), "cuda")) == {own}
    torch.set_num_threads(1)
    assert set(side_by_side(lambda _: threading.get_ident(), range(3))) == {own}
