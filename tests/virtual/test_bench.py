"""`hardwire bench` runs to its end and says what the README quotes. No figure is judged here that a busy PC changes."""

import json
import subprocess
import sys

WAIT_S = 400  # takes 25 s of a quiet PC
NAMES = [
    "fc03_1",
    "fc03_1_spi_frames",
    "fc03_1_spi_bytes",
    "fc03_125",
    "fc03_125_spi_frames",
    "fc03_125_spi_bytes",
    "boot_to_listening",
    "free_heap",
]
WALL = ["in_process_exchanges", "emulated_exchange", "emulated_idle_speed", "emulated_idle_cpu"]


def test_bench(image):
    done = subprocess.run(
        [sys.executable, "-m", "hardwire_host.cli", "bench", "--json", "--image", str(image)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    answer = json.loads(done.stdout)
    results = {row["name"]: row for row in answer["results"]}
    assert list(results) == NAMES
    assert all(row["ours"] > 0 and row["stock"] > 0 for row in results.values())
    # Counted by others, too, for this version of the library.
    assert results["fc03_1_spi_frames"]["stock"] == 42
    wall = {row["name"]: row["value"] for row in answer["wall"]}
    assert list(wall) == WALL
    assert all(value > 0 for value in wall.values())
    assert (
        wall["emulated_idle_speed"] <= 1.1
    )  # it never runs ahead; naps make the ends of the measurement blurred
