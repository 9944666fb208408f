"""The noise predictor does upstream's arithmetic with fewer calls, and in a form that compilers and graphs take."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pidec_train.algos.diffusion_step import DiffusionStep, noise_loss
from pidec_train.algos.dispatches import count_dispatches
from pidec_train.data.windows import Batches, Windows
from pidec_train.models.diffusion_policy import DiffusionPolicy
from pidec_train.models.unet1d import ConditionalUnet1D, ConvBlock, FilmResidualBlock, films

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # observations, actions, noise, diffusion steps


def batch(obs_dim: int = 43, act_dim: int = 7, rows: int = 4, device: str = "cpu") -> Batch:
    torch.manual_seed(1)
    made = torch.randn(rows, 2, obs_dim), torch.rand(rows, 16, act_dim), torch.randn(rows, 16, act_dim)
    obs, actions, noise, steps = (tensor.to(device) for tensor in (*made, torch.randint(0, 100, (rows,))))
    return obs, actions, noise, steps


def gradients(policy: DiffusionPolicy, inputs: Batch) -> tuple[Tensor, ...]:
    return torch.autograd.grad(noise_loss(policy, *inputs), list(policy.parameters()))


def test_one_iteration_makes_few_calls() -> None:
    """Each call costs microseconds of one CPU core. Upstream's way: 4,090 an iteration."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(43, 7)
    averaged = copy.deepcopy(policy).requires_grad_(False)
    table = Windows(
        observations=torch.randn(200, 43),
        actions=torch.rand(200, 7),
        padding=torch.zeros(200, dtype=torch.bool),
        index=torch.randint(0, 200, (100, 16)),
        obs_horizon=2,
    )
    batches = Batches(table, 4, torch.Generator().manual_seed(0))
    step = DiffusionStep(
        policy,
        averaged,
        table,
        batch_size=4,
        lr=1e-4,
        warmup_steps=2,
        total_iters=50,
        noise=torch.Generator().manual_seed(0),
    )

    def iteration(number: int) -> None:
        step.load(batches, number, 1)
        step(0)

    iteration(0)
    counts = count_dispatches(lambda: iteration(1))
    assert counts["_fused_adamw_.tensor_lr"] == 1, "the optimizer must be in what is counted"
    assert sum(counts.values()) <= 600, counts.most_common()


def test_network_makes_few_calls() -> None:
    """Forward, loss and backward; upstream's structure makes 823 calls for that."""
    policy, inputs = DiffusionPolicy(43, 7), batch()
    counts = count_dispatches(lambda: gradients(policy, inputs))
    assert sum(counts.values()) <= 545, counts.most_common()
    assert counts["addmm.default"] == 3, "two layers for the diffusion step, one for the FiLM layers of all blocks"


def plain_block(block: FilmResidualBlock, x: Tensor, feature: Tensor) -> Tensor:
    """Upstream's block: (B, C, T), and a FiLM layer of its own."""

    def conv(layer: nn.Conv1d, of: Tensor) -> Tensor:
        return functional.conv1d(of, layer.weight, layer.bias, padding=layer.padding)  # type: ignore[arg-type]

    def conv_block(part: ConvBlock, of: Tensor) -> Tensor:
        layer, norm, mish = part.block
        return mish(norm(conv(layer, of)))  # type: ignore[no-any-return,arg-type]

    first, second = block.blocks
    scale, shift = block.cond_encoder(feature).unsqueeze(-1).chunk(2, dim=1)
    shortcut = conv(block.residual_conv, x) if isinstance(block.residual_conv, nn.Conv1d) else x
    return conv_block(second, scale * conv_block(first, x) + shift) + shortcut  # type: ignore[arg-type]


def plain_forward(net: ConditionalUnet1D, sample: Tensor, steps: Tensor, cond: Tensor) -> Tensor:
    """Upstream's forward, with the weights of `net`."""
    feature = torch.cat((net.diffusion_step_encoder(steps), cond), dim=-1)
    x, shortcuts = sample.transpose(1, 2), []
    for first, second, halve in net.down_modules:  # type: ignore[misc]
        x = plain_block(second, plain_block(first, x, feature), feature)
        shortcuts.append(x)
        if not isinstance(halve, nn.Identity):
            x = functional.conv1d(x, halve.conv.weight, halve.conv.bias, stride=2, padding=1)
    for block in net.mid_modules:
        x = plain_block(block, x, feature)  # type: ignore[arg-type]
    for first, second, double in net.up_modules:  # type: ignore[misc]
        x = plain_block(first, torch.cat((x, shortcuts.pop()), dim=1), feature)
        x = plain_block(second, x, feature)
        x = functional.conv_transpose1d(x, double.conv.weight, double.conv.bias, stride=2, padding=1)
    conv_block, last = net.final_conv
    layer, norm, mish = conv_block.block  # type: ignore[union-attr,misc]
    x = mish(norm(functional.conv1d(x, layer.weight, layer.bias, padding=layer.padding)))
    return functional.conv1d(x, last.weight, last.bias).transpose(1, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("unet_dims", [(64, 128, 256), (32, 64), (16, 48, 32, 64), (16,)])
def test_merged_layers_learn_what_single_ones_learn(unet_dims: tuple[int, ...]) -> None:
    """A block that got another block's scale and shift would still train, only worse, and be no diffusion policy
    to anybody else."""
    torch.manual_seed(0)
    net = ConditionalUnet1D(7, 86, unet_dims)
    obs, sample, target, steps = batch(rows=8)
    weights = dict(net.named_parameters())

    def learn(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(functional.mse_loss(out, target), list(weights.values()))

    ours, theirs = net(sample, steps, obs.flatten(1)), plain_forward(net, sample, steps, obs.flatten(1))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for name, mine, plain in zip(weights, learn(ours), learn(theirs), strict=True):
        assert (mine - plain).norm() <= 2e-5 * plain.norm() + 1e-7, name


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_lie_in_memory_as_the_weights_do(bf16: bool) -> None:
    """Fused AdamW pairs numbers by where they lie: on a CPU it would silently give gradients to the wrong weights."""
    policy, inputs = DiffusionPolicy(5, 3, unet_dims=(16, 32)), batch(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        found = gradients(policy, inputs)
    for (name, weight), gradient in zip(policy.named_parameters(), found, strict=True):
        assert gradient.stride() == weight.stride(), name


def test_channels_stay_last_in_memory() -> None:
    """One operation that turns them back costs a copy before every convolution behind it."""
    net = ConditionalUnet1D(3, 10, (16, 32))
    wrong: list[str] = []

    def look(name: str, out: Tensor) -> None:
        if not out.is_contiguous(memory_format=torch.channels_last):
            wrong.append(name)

    blocks = [(name, m) for name, m in net.named_modules() if isinstance(m, FilmResidualBlock | ConvBlock)]
    for name, module in blocks:
        module.register_forward_hook(lambda _module, _args, out, name=name: look(name, out))
    obs, sample, _, steps = batch(5, 3)
    net(sample, steps, obs.flatten(1))
    assert len(blocks) == 8 * 3 + 1 and not wrong


def test_a_copy_uses_its_own_weights() -> None:
    """Averaged weights are a deep copy's: one that computed with the original's would be evaluated as if it were it."""
    policy = DiffusionPolicy(5, 3, unet_dims=(16, 32))
    obs, sample, _, steps = batch(5, 3)
    before = policy.predict_noise(sample, steps, obs)
    twin = copy.deepcopy(policy)
    assert torch.equal(twin.predict_noise(sample, steps, obs), before)
    state = {name: value + 0.1 if "cond_encoder" in name else value for name, value in twin.state_dict().items()}
    twin.load_state_dict(state, strict=True)
    assert not torch.allclose(twin.predict_noise(sample, steps, obs), before)
    assert torch.equal(policy.predict_noise(sample, steps, obs), before)


def test_nothing_in_the_network_waits_for_the_device() -> None:
    """A number read back, or a tensor made on the host, cannot be captured into a CUDA graph. Tensors on "meta" have
    no numbers to read and refuse to meet the host's."""
    policy = DiffusionPolicy(5, 3, unet_dims=(16, 32)).to("meta")
    found = gradients(policy, batch(5, 3, device="meta"))
    assert [g.shape for g in found] == [p.shape for p in policy.parameters()]


def agrees_when_compiled(module: nn.Module, loss: Callable[[], Tensor], backend: str) -> None:
    weights = dict(module.named_parameters())
    plain = torch.autograd.grad(loss(), list(weights.values()))
    compiled = torch.compile(loss, fullgraph=True, dynamic=False, backend=backend)
    found = torch.autograd.grad(compiled(), list(weights.values()))
    for (name, weight), mine, expected in zip(weights.items(), found, plain, strict=True):
        assert mine.stride() == weight.stride(), name
        assert (mine - expected).norm() <= 1e-4 * expected.norm() + 1e-6, name


def test_is_traced_as_one_graph() -> None:
    """A break in it would leave the trainer uncompiled."""
    torch.manual_seed(0)
    policy, inputs = DiffusionPolicy(5, 3, unet_dims=(16, 32)), batch(5, 3)
    agrees_when_compiled(policy, lambda: noise_loss(policy, *inputs), "aot_eager")


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_block_learns_the_same() -> None:
    """One block: the compiler takes minutes for a network on a slow CPU."""
    torch.manual_seed(0)
    block = FilmResidualBlock(4, 8, cond_dim=10, kernel_size=5, n_groups=4)
    x, cond = torch.randn(4, 16, 4).transpose(1, 2).unsqueeze(2), torch.randn(4, 10)
    agrees_when_compiled(block, lambda: block(x, films([block], cond)[0]).square().mean(), "inductor")
