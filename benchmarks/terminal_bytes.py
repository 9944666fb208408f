"""Bytes a second that the dashboard sends to its terminal, over one live run: what an ssh line has to carry.

    python -m benchmarks.terminal_bytes [--seconds 20] [--size 160x45]

A line of 100 kbit/s carries 12.5 kB/s. The run logs a row a second; the episodes are a bundled demonstration's, two
policies side by side, which is the most that is ever drawn. All numbers are after the first picture of each screen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py

import pidec_train
from pidec_train.protocol.episodes import BASE_EPISODES, Episode, EpisodeFile, episodes_file, write_episodes
from pidec_train.protocol.rundir import step_file
from pidec_tui.manager.manager import Manager

from ._terminal import Session, dashboard
from .workspace import add_live

LINE = 12_500  # bytes a second
SETTLE = 4.0  # seconds until a screen has been drawn
# What is pressed, one after the other, and what is then on the screen.
SCREENS = (
    (b"", "main screen"),
    (b"o", "charts"),
    (b"\x1bl", "log"),
    (b"\x1bv", "episodes, 5 a second"),
    (b"f", "episodes, 10 a second"),
    (b"f", "episodes, 20 a second"),
    (b"f", "episodes, 2 a second"),
)


def prepare(root: Path) -> None:
    """A live job, and episodes as if it had kept some."""
    manager = Manager.open(root)
    try:
        job = add_live(manager)
        with h5py.File(Path(pidec_train.__file__).parent / "assets" / "PushCube-v1.h5") as demos:
            frames = demos["traj_0"]["obs"][:].tolist()
        folder = manager.checkpoint_dir(job.id)
        folder.mkdir(parents=True)
        step = folder / step_file(100)
        step.write_bytes(b"")
        for policy, path in (("diffusion", folder / BASE_EPISODES), ("decorator", episodes_file(step))):
            kept = [Episode(seed=1, success=True, frames=frames)]
            write_episodes(
                path,
                EpisodeFile(
                    env_id="PushCube-v1", control_mode="pd_ee_delta_pose", policy=policy, step=100, episodes=kept
                ),
            )
    finally:
        manager.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each screen")
    parser.add_argument("--size", default="160x45", help="columns x lines")
    options = parser.parse_args()
    columns, lines = (int(word) for word in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        env = {"XDG_STATE_HOME": str(Path(folder) / "state"), "XDG_CONFIG_HOME": str(Path(folder) / "config")}
        os.environ.update(env)
        prepare(root)
        session = Session(*dashboard(str(root)), env=env, size=(columns, lines))
        try:
            session.until(b"live run")
            print(f"{'screen':<26} {'bytes/s':>8}   share of 12,500 bytes/s   load {os.getloadavg()[0]:.1f}")
            for keys, name in SCREENS:
                for key in keys.decode():
                    session.press(key.encode())
                    session.drain(0.5)  # an escape and a letter in one go would be one key
                session.drain(SETTLE)
                begun = time.perf_counter()
                count = session.drain(options.seconds)
                rate = count / (time.perf_counter() - begun)
                print(f"{name:<26} {rate:>8,.0f}   {rate / LINE:.0%}", flush=True)
            session.press(b"\x1b")
            session.drain(1.0)
        finally:
            session.close()
            jobs = [sys.executable, "-m", "pidec_tui.manager.cli", "--workspace", str(root)]
            for command in (["cancel", "1"], ["runner", "stop"]):
                subprocess.run([*jobs, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
