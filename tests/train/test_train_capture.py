"""The captured step: what a replay must do as the eager way does, and what must not cost the run.

Captures run on a stand-in for CUDA's graphs (tests/fakes/fake_cuda_graphs.py), and on a real device where there is one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pidec_train.algos.diffusion_step import BLOCK
from pidec_train.algos.stepping import AHEAD
from tests.fakes import fake_cuda_graphs
from tests.train.learning import damaged_windows, learning, windows

on_gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_captured_equals_eager_bit_for_bit() -> None:
    """Three blocks and four single steps, over several epochs: losses, weights, averages and generators."""
    eager, captured = learning(), learning(graph=True, cuda=fake_cuda_graphs)
    assert captured.run(3 * BLOCK + 4) == eager.run(3 * BLOCK + 4)
    assert captured.stepper.graph and not captured.stepper.notes
    assert same(captured.weights(), eager.weights())
    assert torch.equal(captured.step.noise.get_state(), eager.step.noise.get_state())
    assert captured.batches.state()["position"] == eager.batches.state()["position"]


def test_blocks_and_what_is_left() -> None:
    """Rows, checkpoints and the end fall between blocks: not one iteration more may run than was asked for."""
    captured = learning(graph=True, cuda=fake_cuda_graphs)
    assert [captured.stepper.advance(n) for n in (BLOCK + 5, 5, 1, BLOCK, BLOCK - 1)] == [BLOCK, 1, 1, BLOCK, 1]
    assert captured.stepper.iteration == 2 * BLOCK + 3


def test_noise_and_rate_change_inside_a_block() -> None:
    """A graph with frozen noise also shows a falling loss: the rate 0 keeps the weights, so only noise moves it."""
    captured = learning(graph=True, cuda=fake_cuda_graphs, lr=1e-12, table=windows(lengths=(5, 5)))
    losses = captured.run(BLOCK)
    assert len(set(losses)) == BLOCK
    warming = learning(graph=True, cuda=fake_cuda_graphs, warmup_steps=BLOCK)
    before = warming.weights()
    warming.stepper.advance(1)
    assert same(before[: len(before) // 2], warming.weights()[: len(before) // 2]), "the first rate of a warm-up is 0"
    warming.stepper.advance(1)
    assert not same(before, warming.weights())


def test_the_stand_in_freezes_what_comes_from_python() -> None:
    """Otherwise the tests above could not fail."""
    step = learning(cuda=fake_cuda_graphs).step
    rates = iter(range(1, 9))
    total, graph = torch.zeros(()), fake_cuda_graphs.CUDAGraph()
    with fake_cuda_graphs.graph(graph):
        total.add_(next(rates))
    assert float(total) == 0.0
    graph.replay()
    graph.replay()
    assert float(total) == 2.0
    with pytest.raises(RuntimeError, match="capturing"), fake_cuda_graphs.graph(graph):
        float(total)
    with pytest.raises(RuntimeError, match="generator"), fake_cuda_graphs.graph(graph):
        torch.randn(3, generator=step.noise)


def test_a_step_that_cannot_be_captured_runs_eagerly_and_says_so() -> None:
    """A driver that refuses must cost speed, not the night."""

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(fake_cuda_graphs, name)

        class CUDAGraph(fake_cuda_graphs.CUDAGraph):
            def register_generator_state(self, generator: torch.Generator) -> None:
                pass  # so the capture fails in its middle, at the first random number

    refused, eager = learning(graph=True, cuda=Refusing()), learning()
    assert refused.run(7) == eager.run(7)
    assert same(refused.weights(), eager.weights()), "the attempt left traces"
    assert not refused.stepper.graph
    assert "cannot be captured" in refused.stepper.notes[0]


def test_a_compiler_that_fails_costs_speed_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        def call(*args: Any) -> Any:
            raise RuntimeError("no C++ compiler\nmany\nlines")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    failed, eager = learning(compiled=True), learning()
    assert failed.run(4) == eager.run(4)
    assert failed.stepper.notes == [
        "torch.compile does not work here, going on without it: RuntimeError: no C++ compiler"
    ]


def test_out_of_memory_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must reach the line that names a smaller batch."""
    captured = learning(graph=True, cuda=fake_cuda_graphs)

    def full(slot: int) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(type(captured.step), "__call__", lambda self, slot: full(slot))
    with pytest.raises(torch.OutOfMemoryError):
        captured.stepper.advance(1)


def test_a_captured_run_goes_on_from_a_saved_optimizer() -> None:
    """Loading replaces the optimizer's tensors; a capture of the old ones would train something else."""
    undisturbed = learning()
    undisturbed.run(30)
    first = learning()
    first.run(12)
    second = learning(graph=True, cuda=fake_cuda_graphs)
    second.policy.load_state_dict(first.policy.state_dict())
    second.averaged.load_state_dict(first.averaged.state_dict())
    second.step.load_optimizer_state(first.step.optimizer_state(12))
    second.step.noise.set_state(first.step.noise.get_state())
    second.batches.restore(first.batches.state())
    second.stepper.iteration = 12
    second.run(18)
    assert same(second.weights(), undisturbed.weights())


def test_updates_are_left_out_inside_a_graph_too() -> None:
    captured = learning(graph=True, cuda=fake_cuda_graphs, table=damaged_windows())
    losses = captured.run(2 * BLOCK)
    assert int(captured.step.skipped) == sum(loss != loss for loss in losses) > 0
    assert all(bool(torch.isfinite(weight).all()) for weight in captured.weights())


def test_the_host_does_not_run_away() -> None:
    """A stop or a checkpoint would wait for everything that is queued."""
    fake_cuda_graphs.Event.pending.clear()
    captured = learning(graph=True, cuda=fake_cuda_graphs)
    for _ in range(3 * AHEAD):
        captured.stepper.advance(1)
    assert len(fake_cuda_graphs.Event.pending) == AHEAD


@on_gpu
@needs_gpu
def test_on_a_gpu_captured_fp32_equals_eager_fp32() -> None:
    from pidec_train.placement import set_precision

    set_precision("fp32")
    eager, captured = learning(device="cuda", total_iters=200), learning(device="cuda", graph=True, total_iters=200)
    assert captured.run(100) == pytest.approx(eager.run(100), rel=1e-5)
    assert captured.stepper.graph, captured.stepper.notes
    assert captured.step.noise.get_state().equal(eager.step.noise.get_state())


@on_gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_every_engine_learns(precision: str, compiled: bool) -> None:
    from pidec_train.placement import set_precision

    set_precision(precision)
    fast = learning(device="cuda", graph=True, precision=precision, compiled=compiled)
    losses = fast.run(60)
    assert fast.stepper.graph and not fast.stepper.notes
    assert losses == pytest.approx(learning().run(60), rel=0.2)
    assert sum(losses[-20:]) < sum(losses[:20])
