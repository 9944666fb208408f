"""The bench: an upstream way that is no straw man, figures that say what they mean, torch and numpy alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers.optimization import get_scheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch.nn import functional

from pidec_train.__main__ import main as pidec_train
from pidec_train.algos.dispatches import count_dispatches
from pidec_train.algos.stepping import Stepper
from pidec_train.bench.__main__ import main as bare_bench
from pidec_train.bench.contenders import PARTS, OurRacer, Setting, UpstreamRacer, contenders_on
from pidec_train.bench.guard import STEPS, _losses
from pidec_train.bench.measure import Stopwatch, flops_of_iteration
from pidec_train.bench.options import CONTENDERS, Options
from pidec_train.bench.report import report
from pidec_train.bench.results import BatchResult, Results, Row, duration
from pidec_train.bench.synthetic import ACT_DIM, OBS_DIM, peg_like_demos
from pidec_train.bench.upstream_way import UpstreamWay
from pidec_train.data.windows import build_windows
from pidec_train.models.diffusion_policy import DiffusionPolicy
from tests.fakes import fake_cuda_graphs

CPU = torch.device("cpu")
# Counted in upstream's own program at batch 1024 on PegInsertionSide's demos; 4,092 together.
UPSTREAM_CALLS = {"data": 2496, "forward": 293, "backward": 547, "AdamW": 308, "EMA": 444}


@pytest.fixture(scope="module")
def setting() -> Setting:
    demos = peg_like_demos()
    return Setting(demos, build_windows(demos, obs_horizon=2, pred_horizon=16), CPU, batch_size=8)


def test_the_upstream_way_makes_as_many_calls_as_upstream() -> None:
    """More would flatter us, fewer would hide what the user's runs cost today."""
    torch.manual_seed(0)
    way = UpstreamWay(peg_like_demos(), device=CPU, batch_size=1024)
    for group in way.optimizer.param_groups:
        group["foreach"] = True  # what AdamW chooses by itself on CUDA, where upstream was counted
    way()  # the optimizer makes its state, the loader its first permutation
    passed: dict[str, object] = {}
    counts = {
        "data": count_dispatches(lambda: passed.update(batch=way.fetch())),
        "forward": count_dispatches(lambda: passed.update(loss=way.forward(passed["batch"]))),
        "backward": count_dispatches(lambda: way.backward(passed["loss"])),
        "AdamW": count_dispatches(way.optimize),
        "EMA": count_dispatches(way.average),
    }
    for part, expected in UPSTREAM_CALLS.items():
        assert sum(counts[part].values()) == pytest.approx(expected, rel=0.05), part


def test_the_upstream_way_cuts_the_windows_that_we_gather(setting: Setting) -> None:
    way = UpstreamWay(setting.demos, device=CPU, batch_size=8)
    samples = [way.dataset[i] for i in range(len(way.dataset))]
    obs, actions = setting.windows.gather(torch.arange(len(setting.windows)))
    assert torch.equal(torch.stack([sample["observations"] for sample in samples]), obs)
    assert torch.equal(torch.stack([sample["actions"] for sample in samples]), actions)


def test_the_upstream_way_computes_the_loss_that_we_do(setting: Setting) -> None:
    """Same weights, same noise: otherwise the two would be timed at different problems."""
    way = UpstreamWay(setting.demos, device=CPU, batch_size=8)
    policy = DiffusionPolicy(OBS_DIM, ACT_DIM)
    way.net.load_state_dict(policy.noise_pred_net.state_dict())
    batch = way.fetch()
    noise, steps = torch.randn_like(batch["actions"]), torch.randint(0, 100, (8,))
    noisy = way.add_noise(batch["actions"], noise, steps)
    theirs = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    assert torch.allclose(noisy, theirs.add_noise(batch["actions"], noise, steps), atol=1e-6)
    plain = functional.mse_loss(way.net(noisy, steps, batch["observations"].flatten(1)), noise)
    ours = functional.mse_loss(policy.predict_noise(noisy, steps, batch["observations"]), noise)
    assert float(plain) == pytest.approx(float(ours), rel=1e-5)


def test_the_upstream_way_updates_as_upstream_constructs_it(setting: Setting) -> None:
    """AdamW with torch's defaults, diffusers' schedule and averaging, against the real diffusers."""
    torch.manual_seed(0)
    way = UpstreamWay(setting.demos, device=CPU, batch_size=8)
    weights = [torch.nn.Parameter(weight.detach().clone()) for weight in way.net.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    assert {**optimizer.defaults} == {k: v for k, v in way.optimizer.defaults.items() if k != "initial_lr"}
    schedule = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=1_000_000)
    ema = EMAModel(parameters=weights, power=0.75)
    for _ in range(4):
        way()
        for weight, other in zip(weights, way.net.parameters(), strict=True):
            weight.grad = other.grad.clone()
        optimizer.step()
        schedule.step()
        ema.step(weights)
    for ours, theirs in zip(way.net.parameters(), weights, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(way.ema.averaged, ema.shadow_params, strict=True):
        assert torch.equal(ours, theirs)


def test_an_iteration_is_the_115_gflop_that_the_notes_say() -> None:
    """Shares of the peak would be wrong without anybody noticing."""
    assert flops_of_iteration(1024, OBS_DIM, ACT_DIM) == pytest.approx(115.2e9, rel=0.01)
    assert flops_of_iteration(4096, OBS_DIM, ACT_DIM) == 4 * flops_of_iteration(1024, OBS_DIM, ACT_DIM)


def test_every_part_of_an_iteration_is_told_apart(setting: Setting) -> None:
    """A part that nobody marks would go to the next one."""
    ours = OurRacer(setting, graph=False, compiled=False, precision="fp32")
    for racer in (UpstreamRacer(setting), ours):
        parts: list[str] = []
        racer.run_in_parts(parts.append)
        racer.run_in_parts(parts.append)
        assert parts == list(PARTS) * 2
        watch = Stopwatch(CPU)
        racer.run_in_parts(watch.mark)
        assert list(watch.milliseconds()) == list(PARTS)


def test_the_guard_compares_the_same_iterations(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same weights, batches and noise, loss by loss: else it would measure chance and not the graph.

    Captured on a stand-in for CUDA's graphs, which runs the same operations, so that nothing may differ.
    """
    eager = _losses(OurRacer(setting, graph=False, compiled=False, precision="fp32"))
    monkeypatch.setattr("pidec_train.bench.contenders.Stepper", partial(Stepper, cuda=fake_cuda_graphs))
    captured = _losses(OurRacer(setting, graph=True, compiled=False, precision="fp32"))
    assert len(eager) == STEPS and torch.equal(eager, captured)
    assert len(torch.unique(eager)) == STEPS, "the same batch again and again"


def test_what_needs_cuda_says_so_on_a_cpu() -> None:
    by_name = {c.name: c.missing for c in contenders_on("cpu", (), quick=False)}
    assert tuple(by_name) == CONTENDERS
    assert by_name["graph"] == by_name["bf16"] == "needs CUDA" and not by_name["compile"]
    assert "quick" in {c.name: c.missing for c in contenders_on("cpu", (), quick=True)}["compile"]
    assert not any(c.missing for c in contenders_on("cuda", (), quick=True))
    assert [c.name for c in contenders_on("cuda", ("bf16",), quick=True)] == ["upstream", "bf16"]


def figures(**rates: list[float]) -> Results:
    rows = [Row(name, name, "tf32", rates=rates[name]) for name in rates]
    machine = {"cores": 16, "cpu": "a CPU", "torch": "2.11", "cuda": "12.8", "python": "3.12", "threads": 8}
    machine |= {"load": 0.1, "date": "today", "gpu": "a GPU", "cuda_driver": "12.8"}
    return Results(machine, 3, 1.0, {"tf32": 82e12}, [BatchResult(1024, 115_000_000_000, rows)], guard=3e-7)


def test_the_sentence_is_about_the_fastest_of_ours() -> None:
    results = figures(upstream=[940.0, 952.0, 990.0], eager=[3000.0] * 3, graph=[19_000.0, 18_000.0, 19_500.0])
    assert results.sentence() == (
        "upstream's way 952/min, pidec 19,000/min at batch 1024: your 1 M run takes 53 min instead of 17.5 h"
    )
    upstream = results.as_json()["batches"][0]["contenders"][0]
    assert upstream["ratio"] == 1.0 and upstream["share_of_peak"] == pytest.approx(952 / 60 * 115e9 / 82e12)
    text = report(results)
    assert "19.96x" in text and "(18,000 to 19,500)" in text and "3.0e-07 (good" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_contender_that_failed_midway_has_no_figures() -> None:
    results = figures(upstream=[950.0], eager=[3000.0], graph=[19_000.0])
    results.batches[0].rows[2].reason = "out of memory at batch 1024"
    results.guard = 2e-3
    assert "pidec 3,000/min" in results.sentence()
    assert "out of memory" in report(results) and "19,000" not in report(results) and "NOT good" in report(results)
    results.batches[0].rows[0].reason = "out of memory at batch 1024"
    assert results.sentence() == "upstream's way could not be measured at batch 1024: out of memory at batch 1024"


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.7, "42 s"), (17.0, "17 min"), (1050.0, "17.5 h"), (60 * 24 * 3.2, "3.2 days")]
)
def test_durations_are_in_units_that_people_use(minutes: float, text: str) -> None:
    assert duration(minutes) == text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--batch-sizes", "0"], "batch size 0 is not possible"),
        (["--batch-sizes", "1024", "99999"], "batch size 99999 is not possible"),
        (["--contenders", "grahp"], 'did you mean "graph"?'),
        (["--device", "tpu"], "allowed are auto, cpu and cuda"),
        (["--rounds", "0"], "rounds 0 is not possible"),
        (["--seconds", "-1"], "seconds -1.0 is not possible"),
    ],
)
def test_bad_input_is_one_line_at_both_doors(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for door in (bare_bench, lambda given: pidec_train(["bench", *given])):
        assert door(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and line in err and err.count("\n") == 1


def test_pidec_train_bench_is_the_same_bench(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--quick", "--device", "cpu", "--batch-sizes", "4", "--seconds", "0.01", "--rounds", "1"]
    assert pidec_train(arguments) == 0
    out, err = capsys.readouterr()
    assert "upstream's way" in out and "your 1 M run takes" in out and "needs CUDA" in out
    assert "round 1 of 1" in err


BARE = """
import re, runpy, sys
from importlib import metadata

def torch_needs(name, seen):
    if name not in seen:
        seen.add(name)
        for line in metadata.requires(name) or []:
            if "extra" not in line and "nvidia" not in line and "triton" not in line:
                try:
                    torch_needs(re.match(r"[\\w.-]+", line)[0].lower().replace("_", "-"), seen)
                except metadata.PackageNotFoundError:
                    pass
    return seen

names = {name.replace("-", "_") for name in torch_needs("torch", set())} | {"torchgen", "functorch", "numpy"}
allowed = names | set(sys.stdlib_module_names) | {"pidec_train"}

class Bare:
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
            return None  # as if it were not installed
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec), None)

sys.meta_path[:] = [Bare(list(sys.meta_path))]
try:
    import pydantic
except ModuleNotFoundError:
    runpy.run_module("pidec_train.bench", run_name="__main__", alter_sys=True)
else:
    sys.exit("the machine is not bare: it has pydantic")
"""


def test_a_bare_machine_with_torch_and_numpy_can_run_it(tmp_path: Path) -> None:
    """From a checkout, on a rented GPU, before anything is installed. There, a compiler is missing too."""
    arguments = ["--quick", "--device", "cpu", "--batch-sizes", "4", "--seconds", "0.01", "--rounds", "2", "--json"]
    environment = os.environ | {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", BARE, *arguments, "--contenders", "eager", "graph", "compile"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)  # nothing else on stdout
    assert result["machine"]["torch"] == torch.__version__ and result["machine"]["device"] == "cpu"
    assert "your 1 M run takes" in result["sentence"] and result["guard"]["reason"] == "needs CUDA"
    rows = {row["name"]: row for row in result["batches"][0]["contenders"]}
    assert list(rows) == ["upstream", "eager", "graph", "compile"]
    for name in ("upstream", "eager"):
        assert len(rows[name]["turns"]) == 2 and rows[name]["iterations_per_min"] > 0
        assert sum(rows[name]["parts_ms"].values()) > 0
    assert rows["eager"]["dispatches"] < rows["upstream"]["dispatches"] / 2
    assert rows["graph"]["reason"] == "needs CUDA"
    assert "compiler" in rows["compile"]["reason"] and rows["compile"]["iterations_per_min"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_contender_has_a_figure_and_the_guard_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert bare_bench(["--quick", "--batch-sizes", "256", "--seconds", "0.2", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["batches"][0]["contenders"]
    assert [row["reason"] for row in rows] == [None] * len(CONTENDERS)
    assert all(row["iterations_per_min"] and row["share_of_peak"] and row["memory_bytes"] for row in rows)
    assert result["guard"]["largest_relative_loss_difference"] < 1e-5
    assert set(result["peak_flops_per_second"]) == {"fp32", "tf32", "bf16"}


def test_options_choose_the_batch_sizes() -> None:
    assert Options().sizes_on("cuda") == (1024, 4096) == Options().sizes_on("cpu")
    assert Options(quick=True).sizes_on("cuda") == (1024,) and Options(quick=True).sizes_on("cpu") == (128,)
    assert Options(quick=True, batch_sizes=(64, 32, 64)).sizes_on("cpu") == (64, 32)
