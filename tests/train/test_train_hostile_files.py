"""A checkpoint may come from anybody: whatever it holds, one line, exit code 2, nothing run, memory bounded."""

from __future__ import annotations

import json
import os
import pickle
import resource
import stat
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pidec_train.__main__ import main
from pidec_train.checkpoint import load_policy, open_checkpoint
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.protocol.errors import PidecError

NET = "noise_pred_net."


def weights(**kwargs: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return DiffusionPolicy(43, 7, unet_dims=(8, 16), **kwargs).state_dict()


def saved(value: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def forged(index: bytes, junk: int = 0) -> Callable[[Path], None]:
    """A zip as torch.save writes it, with a pickle of our making."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", index)
            archive.writestr("x/byteorder", "little")
            archive.writestr("x/version", "3\n")
            archive.writestr("x/data/0", bytes(junk))

    return write


def overlapping(path: Path) -> None:
    """Many entries of the central directory that point to the same bytes."""
    torch.save({"agent": weights()}, path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(40):
            copy = zipfile.ZipInfo(f"best/data/{900 + number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, name, getattr(largest, name))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]


def many_claims(path: Path) -> None:
    """A thousand tensors that each claim the whole storage: a megabyte that would become a gigabyte in use."""
    whole = torch.zeros(1 << 18)
    torch.save({"agent": {f"{NET}{number}": whole for number in range(1000)}}, path)


def fan_out(path: Path) -> None:
    """Lists of lists of the same lists: a walk through them would not end before the sun does."""
    nested: Any = [1]
    for _ in range(60):
        nested = [nested] * 10
    torch.save({"agent": weights(), "extra": nested}, path)


def deep(path: Path) -> None:
    forged(b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".")(path)


class Odd(torch.Tensor):
    """Its class would have to be imported from wherever the file says."""


def subclass(path: Path) -> None:
    torch.save({"agent": {**weights(), "odd": torch.zeros(2).as_subclass(Odd)}}, path)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge_network(path: Path) -> None:
    """A few thin tensors that speak of a network of 200 GB."""
    state = weights()
    state[NET + "down_modules.0.0.blocks.0.block.0.weight"] = torch.zeros(200_000, 7, 5)
    torch.save({"ema_agent": state}, path)


def changed(name: str, tensor: torch.Tensor) -> Callable[[Path], None]:
    return saved({"ema_agent": {**weights(), NET + name: tensor}})


BERT = {"gpt.transformer.h.0.attn.weight": torch.zeros(3, 3)}

HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "overlapping entries": (overlapping, "its parts overlap"),
    "many claims on one storage": (many_claims, "its tensors claim 1,048,576,000 bytes out of a file of"),
    "one view of terabytes": (
        saved({"agent": {NET + "x": torch.zeros(1).expand(1 << 40)}}),
        "a tensor in it claims 4,398,046,511,104 bytes",
    ),
    "endless lists": (fan_out, ""),
    "deep lists": (deep, "neither agent nor ema_agent"),
    "a pickle of many megabytes": (forged(b"\x80\x02" + b"}" * (5 << 20) + b"."), "its index has 5,242,883 bytes"),
    "a million dictionaries": (forged(b"\x80\x02" + b"}" * (1 << 20) + b"."), "neither agent nor ema_agent"),
    "bytes of any length": (
        forged(b"\x80\x02cbuiltins\nbytearray\n" + b"\x8a\x05" + (1 << 38).to_bytes(5, "little") + b"\x85R."),
        "it holds builtins.bytearray",
    ),
    "a tensor without a storage": (
        forged(b"\x80\x02ctorch\nTensor\n" + b"\x8a\x05" + (1 << 37).to_bytes(5, "little") + b"\x85R."),
        "it holds torch.Tensor",
    ),
    "code": (forged(b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00touch\x85R."), "it holds os.system"),
    "code in another protocol": (
        forged(pickle.dumps({"agent": OrderedDict(x=print)}, protocol=4)), "another pickle protocol"
    ),
    "terminal escapes": (forged(b"\x80\x02c\x1b[31mred\nx\n."), "\\x1b[31mred"),
    "no pickle": (forged(b"hello"), "damaged"),
    "a huge step": (saved({"agent": weights(), "step": 10**600}), "its step is no number of iterations"),
    "a step of another kind": (saved({"agent": weights(), "step": "many"}), "its step is no number of iterations"),
    "a huge version": (saved({"agent": weights(), "format_version": 10**600}), "newer version of pidec (format unknow"),
    "a config of nonsense": (saved({"agent": weights(), "config": {"pred_horizon": 10**9}}), "allowed are 1 to 1,000"),
    "horizons that do not fit": (
        saved({"agent": weights(), "config": {"obs_horizon": 3}}), "condition of 86 numbers is no 3 observations"
    ),
    "a horizon that the network cannot halve": (
        saved({"agent": weights(), "config": {"pred_horizon": 15}}), "pred_horizon 15 cannot be halved"
    ),
    "groups that do not divide": (saved({"agent": weights(), "config": {"n_groups": 3}}), "do not fit a diffusion"),
    "a network of gigabytes": (huge_network, "do not fit a diffusion policy"),
    "integer weights": (changed("final_conv.1.bias", torch.zeros(7, dtype=torch.int64)), "holds torch.int64 under"),
    "weights that are no tensors": (
        saved({"ema_agent": {**weights(), NET + "final_conv.1.bias": [0.0] * 7}}), "holds list under"
    ),
    "weights too many": (changed("extra.weight", torch.zeros(3)), "there are 1 more"),
    "a scalar for a matrix": (changed("mid_modules.0.cond_encoder.1.weight", torch.zeros(())), "do not fit"),
    "a tensor subclass": (subclass, "more than tensors and numbers"),
    "a sparse tensor": (saved({"agent": {"x": torch.eye(3).to_sparse()}}), "more than tensors and numbers"),
    "a Behavior Transformer": (saved({"agent": BERT, "ema_agent": BERT}), "those of a Behavior Transformer"),
    "no weights at all": (saved({"agent": {}}), "is not a diffusion policy"),
    "weights in a list": (saved({"ema_agent": [torch.zeros(3)]}), "its ema_agent is no table of weights"),
    "statistics of another size": (
        saved({"agent": weights(), "config": {}, "obs_norm": {"kind": "mean_std", "offset": [0.0], "scale": [1.0]}}),
        "its offset has 1 numbers instead of 43",
    ),
    "statistics that divide by zero": (
        saved({"agent": weights(), "config": {},
               "obs_norm": {"kind": "mean_std", "offset": torch.zeros(43), "scale": torch.zeros(43)}}),
        "obs_norm divides by 0",
    ),
    "statistics of no kind": (saved({"agent": weights(), "action_norm": {"kind": 3}}), "of no known kind"),
    "constant inputs out of place": (
        saved({"agent": weights(), "constant_inputs": {"index": 40, "values": [1.0] * 7}}),
        "constant_inputs do not fit an observation of 43",
    ),
    "a pipe": (pipe, "is no ordinary file (a pipe or a device)"),
}  # fmt: skip

IN_A_PROCESS = """
import json, resource, sys
import torch
from pidec_train.__main__ import main
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = main(["inspect", sys.argv[1]])
print(json.dumps([code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_and_nothing_run(tmp_path: Path, capsys: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, told = HOSTILE[name]
    path = tmp_path / "best.pt"
    write(path)
    harmless = name == "endless lists"
    assert main(["inspect", str(path)]) == (0 if harmless else 2)
    error = capsys.readouterr().err
    if not harmless:
        assert error.count("\n") == 1 and error.startswith("pidec-train: ") and told in error and str(path) in error
        assert "\x1b" not in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.pt"], "something was run"


@pytest.mark.parametrize("name", ["many claims on one storage", "a million dictionaries", "a network of gigabytes",
                                  "one view of terabytes", "bytes of any length", "deep lists"])  # fmt: skip
def test_memory_stays_bounded(tmp_path: Path, name: str) -> None:
    """A file of a megabyte that takes a gigabyte ends somebody else's training on the same machine."""
    path = tmp_path / "best.pt"
    HOSTILE[name][0](path)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(path)], capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    code, kilobytes = json.loads(done.stdout.splitlines()[-1])
    assert code == 2 and kilobytes < 400_000


def test_a_device_is_not_read() -> None:
    for path in ("/dev/zero", "/dev/stdin"):
        if not stat.S_ISREG(os.stat(path).st_mode):
            with pytest.raises(PidecError, match="is no ordinary file"):
                load_policy(path)


def test_a_file_of_terabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PidecError, match="it has 1,099,511,627,776 bytes, allowed are"):
        load_policy(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_odd_names_of_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "best.pt", tmp_path / ("x" * 300), Path(f"{tmp_path}/a\0b")):
        with pytest.raises(PidecError, match=r"does not exist|cannot be read"):
            load_policy(path)


# --- files that are odd and yet good ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floating_point_weights_work_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"ema_agent": {name: tensor.to(dtype) for name, tensor in weights().items()}}, tmp_path / "best.pt")
    found = open_checkpoint(tmp_path / "best.pt")
    assert f"ema_agent holds {dtype} weights: computing in float32" in found.notes
    actions = found.policy().sample_actions(torch.zeros(1, 2, 43), sampler="ddim", num_steps=2)
    assert actions.dtype == torch.float32


def test_weights_that_are_not_finite_are_told(tmp_path: Path) -> None:
    """Else a run that diverged looks like a policy that is bad."""
    state = weights()
    state[NET + "final_conv.1.bias"] = torch.full((7,), float("nan"))
    torch.save({"agent": weights(), "ema_agent": state}, tmp_path / "best.pt")
    notes = open_checkpoint(tmp_path / "best.pt").notes
    assert f"1 of the {len(state)} tensors of ema_agent hold NaN or Inf: this policy cannot work" in notes


def test_weights_that_are_views_of_one_buffer_are_fine(tmp_path: Path) -> None:
    """So a trainer with flat weights saves them."""
    state = weights()
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    views, at = {}, 0
    for name, tensor in state.items():
        views[name] = flat[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    torch.save({"agent": views, "ema_agent": views}, tmp_path / "best.pt")
    loaded = load_policy(tmp_path / "best.pt").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_parameters_and_ordered_dicts_are_fine(tmp_path: Path) -> None:
    state = OrderedDict((name, torch.nn.Parameter(tensor)) for name, tensor in weights().items())
    torch.save({"agent": state, "ema_agent": state}, tmp_path / "best.pt")
    assert load_policy(tmp_path / "best.pt").obs_dim == 43
