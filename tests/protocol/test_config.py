"""The configs: what a mistyped value costs a user, and that a command line says what the config says."""

from __future__ import annotations

import pytest

from pidec_train.protocol.config import (
    CONFIG_MODELS,
    DiffusionConfig,
    EvaluateConfig,
    command_line,
    field_errors,
    parse_config,
    shell_line,
)
from pidec_train.protocol.errors import PidecError, did_you_mean


def test_upstreams_defaults_are_the_defaults() -> None:
    """Lost: the paper's commands no longer port by eye."""
    config = DiffusionConfig()
    assert (config.total_iters, config.batch_size, config.lr) == (1_000_000, 1024, 1e-4)
    assert (config.obs_horizon, config.act_horizon, config.pred_horizon) == (2, 4, 16)
    assert (config.unet_dims, config.n_groups, config.diffusion_step_embed_dim) == ((64, 128, 256), 8, 64)
    assert (config.log_freq, config.eval_freq, config.save_freq) == (1000, 10_000, 100_000)
    assert (config.num_eval_episodes, config.num_eval_envs, config.control_mode) == (100, 10, "pd_ee_delta_pose")


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("difusion", {}, ["difusion", '"diffusion"']),
        ("diffusion", {"batchsize": 3}, ['"batchsize"', '"batch_size"']),
        ("diffusion", {"lr": -1.0}, ["lr", "-1.0", "greater than 0"]),
        ("diffusion", {"unet_dims": [60, 128]}, ["[60]", "n_groups 8"]),
        ("diffusion", {"obs_horizon": 14}, ["obs_horizon 14", "pred_horizon 16"]),
        ("diffusion", {"pred_horizon": 18}, ["pred_horizon 18", "divisible by 4"]),
        ("diffusion", {"action_norm": "minmax"}, ["action_norm", "'min_max'"]),
        ("evaluate", {}, ["evaluate", '"ckpt"']),
        ("evaluate", {"ckpt": ""}, ["evaluate", "ckpt = ''"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(kind: str, values: dict[str, object], words: list[str]) -> None:
    """Lost: a night, because a job with a typo trained something else, or failed with a traceback."""
    with pytest.raises(PidecError) as caught:
        parse_config(kind, values)
    line = caught.value.line()
    assert "\n" not in line
    for word in words:
        assert word in line


def test_form_errors_stand_beside_their_field() -> None:
    """Lost: the form says that something is wrong, but not where."""
    assert field_errors("diffusion", {}) == {}
    assert set(field_errors("diffusion", {"lr": -1, "seed": "x"})) == {"lr", "seed"}
    assert set(field_errors("diffusion", {"unet_dims": [60]})) == {""}


def test_command_line_holds_exactly_what_is_no_default() -> None:
    """Lost: the command that the form shows, and that the runner starts, trains another config."""
    config = DiffusionConfig(unet_dims=(32, 64), track=True, lr=1e-3)
    assert command_line("diffusion", config) == ["diffusion", "--lr", "0.001", "--unet-dims", "32", "64", "--track"]
    assert command_line("evaluate", EvaluateConfig(ckpt="a b.pt")) == ["evaluate", "a b.pt"]
    assert shell_line("evaluate", EvaluateConfig(ckpt="a b.pt")) == "pidec-train evaluate 'a b.pt'"


def test_a_value_that_costs_hours_is_said() -> None:
    """Lost: a user who evaluates every 1,000 iterations waits days, and nobody told."""
    hints = DiffusionConfig(eval_freq=1000).hints()
    assert "1,000 evaluations" in hints["eval_freq"] and "100,000" in hints["eval_freq"]
    assert DiffusionConfig(eval_freq=100_000).hints() == {}
    assert "save_freq" in DiffusionConfig(eval_freq=0, save_freq=0).hints()


def test_every_field_says_what_it_is() -> None:
    """Lost: a field in the form without a word of explanation."""
    for model in CONFIG_MODELS.values():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_each_kind_has_at_most_six_first_fields() -> None:
    """Lost: the form opens with a wall of thirty fields."""
    for model in CONFIG_MODELS.values():
        first = [n for n, f in model.model_fields.items() if (f.json_schema_extra or {}).get("first")]  # type: ignore[union-attr]
        assert 1 <= len(first) <= 6


def test_the_nearest_name_forgives_dashes_and_case() -> None:
    assert did_you_mean("Batch-Size", ["batch_size", "lr"]) == 'did you mean "batch_size"?'
    assert did_you_mean("zzz", ["b", "a"]) == "allowed: a, b"
