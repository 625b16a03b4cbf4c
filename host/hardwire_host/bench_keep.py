"""Results of the bench that are kept as files, and what has changed since the last one.

In: rows of bench.measure. Out: JSON files that differ only where a figure does, and `Change`. Device time is exact, so
a change of more than TOLERANCE is one of the firmware.
"""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import hardwire

from .errors import FAILED, HardwireError
from .image import PROJECT, ROOT

TOLERANCE = 0.02
SCHEMA = 1
DIRTY = "+"  # after a commit's name: files differed from it


@dataclass(frozen=True)
class Change:
    """A figure of ours that differs by more than TOLERANCE."""

    name: str
    unit: str
    before: float
    now: float
    worse: bool

    def __str__(self) -> str:
        percent = f" ({self.now / self.before - 1:+.1%})" if self.before else ""
        return f"{self.name}: {self.before:g} -> {self.now:g} {self.unit}{percent}"


def default_folder() -> Path | None:
    """bench/ of the source tree this runs from; None where it is an installed package."""
    return ROOT / "bench" if PROJECT.exists() else None


def revision() -> str:
    """The commit of the source tree, with DIRTY where files differ; the version where git knows none."""
    describe = ["git", "describe", "--always", "--exclude=*", f"--dirty={DIRTY}"]
    try:
        done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return hardwire.__version__
    known = PROJECT.exists() and done.returncode == 0
    return done.stdout.strip() if known else hardwire.__version__


def record(rows: list[dict], image: str, exchanges: int, of: str, when: datetime) -> dict:
    """What is kept. `image`: the image's name, `of`: as `revision` says, `when`: aware."""
    kept = {row["name"]: {key: row[key] for key in ("unit", "better", "ours", "stock")} for row in rows}
    return {
        "schema": SCHEMA,
        "when": when.astimezone(UTC).isoformat(timespec="seconds"),
        "revision": of,
        "image": image,
        "exchanges": exchanges,
        "results": kept,
    }


def keep(folder: Path, made: dict) -> Path:
    """Write a `record`; returns where. Files sort by time. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    when = datetime.fromisoformat(made["when"])
    path = folder / f"{when:%Y-%m-%dT%H%M%S}-{made['revision']}.json"
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in made["results"].items())
    head = json.dumps({key: value for key, value in made.items() if key != "results"}, indent=1)
    path.write_text(f'{head[:-2]},\n "results": {{\n{lines}\n }}\n}}\n')
    return path


def last(folder: Path, exchanges: int) -> tuple[Path, dict] | None:
    """The newest record of as many exchanges, None without one. Raises HardwireError for a file that is none."""
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            made = json.loads(path.read_text())
            if made["schema"] == SCHEMA and made["exchanges"] == exchanges:
                for row in made["results"].values():
                    _ = row["unit"], row["ours"]
                return path, made
        except (ValueError, KeyError, TypeError, AttributeError):
            raise HardwireError(FAILED, f"{path}: not a result of `hardwire bench`") from None
    return None


def compare(before: dict, rows: list[dict]) -> list[Change]:
    """Ours in the record `before` and in `rows`, where both have a figure of the same unit."""
    changes = []
    for row in rows:
        old = before["results"].get(row["name"])
        if old is None or None in (old["ours"], row["ours"]) or old["unit"] != row["unit"]:
            continue
        step = row["ours"] - old["ours"]
        if abs(step) > TOLERANCE * abs(old["ours"]):
            worse = (step > 0) == (row["better"] == "less")
            changes.append(Change(row["name"], row["unit"], old["ours"], row["ours"], worse))
    return changes
