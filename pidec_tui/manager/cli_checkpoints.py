"""`pidec-jobs checkpoints`: what the browser of the dashboard lists, as a table or JSON."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from pidec_train.protocol.errors import EXIT_FAILED, PidecError

from . import cli_output as output
from .catalogue import Entry, check_hash
from .catalogue_order import COLUMNS, Lineage, matcher, sort_entries
from .manager import Manager
from .shelf import Shelf


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "filter", nargs="*", metavar="WORD", help="words that must all be there; column:word, success>80%%, step>=100k"
    )
    parser.add_argument("--sort", choices=tuple(COLUMNS), default="age", help="default: newest first")
    parser.add_argument("--hash", action="store_true", help="read each file whole, and hold it against its .json")
    parser.add_argument(
        "--no-inspect", action="store_true", help="do not look into files without a .json (seconds each)"
    )


def checkpoints(manager: Manager, options: argparse.Namespace) -> int:
    """Returns 1 if a hash that was asked for does not hold."""
    matches = matcher(" ".join(options.filter))
    shelf = Shelf(manager)
    catalogue = shelf.read()
    if catalogue.pending and not options.no_inspect:
        for number, path in enumerate(catalogue.pending, 1):
            _say(f"looking into {path} ({number} of {len(catalogue.pending)}; once, it is remembered)")
            shelf.inspect(path)
        catalogue = shelf.read()
    for trouble in catalogue.troubles:
        _say(f"warning: {trouble}")
    lineage = Lineage(catalogue.entries)
    found = sort_entries((entry for entry in catalogue.entries if matches(entry)), options.sort)
    foreign = [entry for entry in found if entry.condition == "foreign"]
    hashes = {entry.path: _hash(entry) for entry in found if options.hash and entry.condition != "foreign"}
    if options.json:
        output.as_json([entry_json(entry, lineage, hashes.get(entry.path)) for entry in found])
    else:
        shown = [entry for entry in found if entry.condition != "foreign"]
        if shown:
            output.checkpoint_table([_row(entry, hashes.get(entry.path)) for entry in shown])
        else:
            _say("no checkpoints" + (" like that" if options.filter else " yet: pidec-jobs add quickstart makes some"))
        if foreign:
            _say(f"and {len(foreign)} .pt that cannot be read as checkpoints: --json tells why")
    return EXIT_FAILED if any(text.startswith("wrong") for text in hashes.values()) else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _hash(entry: Entry) -> str:
    try:
        check_hash(entry)
    except PidecError as error:
        return f"wrong: {error.message}"
    return "ok" if entry.told else "no .json to hold it against"


def entry_json(entry: Entry, lineage: Lineage, hashed: str | None = None) -> dict[str, Any]:
    """One checkpoint as `checkpoints --json` gives it: the fields of `Entry` by their names, and its parent's path."""
    best, parent = entry.evaluation, lineage.parent(entry)
    return {
        "path": str(entry.path),
        "run": entry.run,
        "job": entry.job,
        "tags": list(entry.tags),
        "kind": entry.kind or None,
        "step": entry.step,
        "env_id": entry.env_id,
        "control_mode": entry.control_mode,
        "success_rate": best.rate if best else None,
        "wilson_95": list(best.interval()) if best else None,
        "evaluations": [
            {
                "successes": each.successes,
                "episodes": each.episodes,
                "wilson_95": list(each.interval()),
                "job": each.job,
                "time": each.when,
                "settings": each.settings,
            }
            for each in entry.evaluations
        ],
        "obs_dim": entry.obs_dim,
        "act_dim": entry.act_dim,
        "obs_norm": entry.obs_norm if entry.kind else None,
        "action_norm": entry.action_norm if entry.kind else None,
        "size": entry.size,
        "created": entry.created,
        "origin": entry.origin or None,
        "sha256": entry.sha256,
        "parent_sha256": entry.parent_sha256,
        "parent": str(parent.path) if parent else None,
        "condition": entry.condition,
        "note": entry.note,
        **({"hash": hashed} if hashed is not None else {}),
    }


def _row(entry: Entry, hashed: str | None) -> tuple[str, ...]:
    told = entry.evaluation
    success = "-"
    if told:
        low, high = told.interval()
        success = f"{told.rate * 100:.0f}% ({low * 100:.0f}–{high * 100:.0f}, n={told.episodes})"
    state = entry.note if entry.condition != "ok" else hashed or ""
    return (
        entry.run,
        " ".join(entry.tags),
        f"{entry.step:,}" if entry.step is not None else "-",
        success,
        entry.kind or "?",
        entry.env_id or "?",
        str(entry.obs_dim or "?"),
        entry.normalised or "?",
        f"{entry.size / 1e6:.1f} MB",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created)),
        entry.origin or "?",
        state,
    )
