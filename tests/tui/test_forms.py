"""The form's logic: fields from the config model, what was typed and back, paths that were found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pidec_train.protocol.config import CONFIG_MODELS, parse_config
from pidec_train.protocol.rundir import Workspace
from pidec_tui.forms import errors_of, form_fields, found_paths, from_text, to_text, values_of
from tests.tui.scene import Scene


@pytest.mark.parametrize("kind", sorted(CONFIG_MODELS))
def test_defaults_survive_the_form(kind: str) -> None:
    """Lost: a form that changes a value by being opened."""
    fields = form_fields(kind)
    texts = {field.name: field.default if field.default is not None else "x.pt" for field in fields}
    config = parse_config(kind, values_of(fields, texts))
    for field in fields:
        info = type(config).model_fields[field.name]
        if not info.is_required():
            assert getattr(config, field.name) == info.default


def test_the_six_come_first() -> None:
    """Lost: the fields that people change, among thirty others."""
    names = [field.name for field in form_fields("diffusion")]
    assert names[:6] == ["env_id", "demo_path", "total_iters", "batch_size", "lr", "seed"]
    assert not form_fields("diffusion")[6].first


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("total_iters", "300k", 300_000),
        ("total_iters", "1M", 1_000_000),
        ("total_iters", "1,000,000", 1_000_000),
        ("total_iters", "1_000", 1000),
        ("total_iters", "1.5M", 1_500_000),
        ("lr", "3e-4", 3e-4),
        ("num_demo_traj", "", None),
        ("unet_dims", "32 64, 128", (32, 64, 128)),
        ("track", "yes", True),
        ("action_norm", "min_max", "min_max"),
    ],
)
def test_numbers_as_people_type_them(name: str, text: str, value: object) -> None:
    """Lost: half a minute each time, counting zeros."""
    field = next(field for field in form_fields("diffusion") if field.name == name)
    assert getattr(parse_config("diffusion", {name: from_text(field, text)}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("batch_size", "lots", "valid integer"),
        ("batch_size", "0", "greater than or equal to 1"),
        ("lr", "", "valid number"),
        ("unet_dims", "30 64", "divisible by n_groups"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(name: str, text: str, says: str) -> None:
    """Lost: a job that fails hours later, when its turn comes."""
    fields = form_fields("diffusion")
    texts = {field.name: field.default or "" for field in fields} | {name: text}
    errors = errors_of("diffusion", fields, texts)
    assert says in (errors.get(name) or errors.get("") or "")


def test_a_value_that_must_be_given_is_asked_for() -> None:
    """Lost: an evaluation of nothing."""
    fields = form_fields("evaluate")
    assert errors_of("evaluate", fields, {f.name: f.default or "" for f in fields}) == {"ckpt": "needs a value"}


def test_demos_and_checkpoints_are_found(scene: Scene) -> None:
    """Lost: paths typed by hand."""
    ws = scene.manager.workspace
    (ws.root / "demos").mkdir()
    for name in ("demos/Peg.h5", "own.h5"):
        (ws.root / name).write_bytes(b"")
    found = found_paths("demo", ws)
    assert found[:2] == ["demos/Peg.h5", "own.h5"] and "bundled:PushCube-v1.h5" in found
    job = scene.add("diffusion", {}, name="peg")
    scene.checkpoint(job, 100, ago=10)
    scene.checkpoint(job, 200, ago=5, best=True)
    folder = f"checkpoints/{job.id:06d}-peg"
    assert found_paths("checkpoint", ws, scene.manager.jobs()) == [
        f"@{job.id}/best",
        f"{folder}/best.pt",
        f"{folder}/step-000000200.pt",
        f"{folder}/step-000000100.pt",
    ]


def test_nothing_is_found_in_an_empty_place(tmp_path: Path) -> None:
    """Lost: a traceback in a new workspace."""
    assert found_paths("checkpoint", Workspace(tmp_path)) == [] and found_paths("output", Workspace(tmp_path)) == []


def test_values_are_shown_as_typed() -> None:
    """Lost: `(64, 128, 256)` or `1e-04` in a field that does not take them back."""
    assert [to_text(v) for v in (None, True, (64, 128), 1e-4, 0.5, 7)] == ["", "yes", "64 128", "0.0001", "0.5", "7"]
    assert [to_text(v) for v in (0.12345678, 1e-7, 123456789.0)] == ["0.12345678", "1e-07", "123456789.0"]
