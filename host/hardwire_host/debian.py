"""Debian as a source of build tools and of pinned source packages.

In: names of packages, a suite, upstream versions. Out: tools installed (root only) and downloaded files.
Never: a change to the machine's apt sources, or to its package lists beyond `apt-get update`; a mirror's host
name: the mirror is the one this machine is configured with.
"""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .errors import FAILED, HardwireError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LOCK_WAIT = 300  # s to wait for another apt (an unattended upgrade) to finish
RETRIES = 3  # per file

# apt, Python, compilers and CMake, linker, make
_ERROR = re.compile(r"^E: |Error: |error: |CMake Error|undefined reference|will not fit|\*\*\* ")

READY_IMAGE = "or give a ready image: --image PATH"


class Log:
    """Output of the commands run, in a file; the user sees one line of it when a command fails."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """`lock`: file descriptor of a lock; a command holds it too, should this process be killed."""
        self.path = path
        self._inherited = () if lock is None else (lock,)
        path.write_bytes(b"")

    def run(self, what: str, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
        """Run `command`; its output goes to the log only.

        Raises:
            HardwireError: it cannot be started or fails.
        """
        with self.path.open("ab") as log:
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            start = log.tell()
            done = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._inherited,
                check=False,
            )
        if done.returncode:
            with self.path.open("rb") as log:
                log.seek(start)
                reason = first_error(log.read().decode(errors="replace"))
            raise HardwireError(FAILED, f"{what} failed: {reason}", f"see {self.path}")


def first_error(output: str) -> str:
    """The line of a failed command's output that says why: the first error, else the last line."""
    before = ""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if _ERROR.search(line):
            return (
                f"{before}: {line}" if before.startswith('File "') else line
            )  # a Python traceback's last two
        before = line
    return lines[-1] if lines else "no output"


def install(packages: Iterable[str], log: Log, report: Callable[[str], None]) -> None:
    """Install packages of the machine's own release; `report` gets a line when that starts.

    Raises:
        HardwireError: not a Debian machine, not root, or apt-get fails.
    """
    names = sorted(packages)
    command = f"apt-get install {' '.join(names)}"
    if not shutil.which("apt-get"):
        raise HardwireError(
            FAILED, "the image is built with Debian's tools, and there is no apt-get", READY_IMAGE
        )
    if os.geteuid():
        raise HardwireError(
            FAILED, "to build the image, packages are missing", f"as root: {command}; {READY_IMAGE}"
        )
    report(f"image: {command}")
    env = _environment() | {"DEBIAN_FRONTEND": "noninteractive"}
    options = [f"-oDPkg::Lock::Timeout={LOCK_WAIT}", f"-oAcquire::Retries={RETRIES}"]
    root = Path("/")
    log.run("apt-get update", ["apt-get", *options, "-q", "update"], cwd=root, env=env)
    install = ["apt-get", *options, "-q", "-y", "--no-install-recommends", "install", *names]
    log.run(command, install, cwd=root, env=env)


def fetch(
    suite: str, sources: Mapping[str, str], packages: Mapping[str, str], folder: Path, log: Log
) -> None:
    """Download source and binary packages of `suite` into `folder`; apt checks signatures and hashes.

    Args:
        sources: source package -> upstream version or its leading part ("3.6" takes 3.6.x).
        packages: binary package -> the same.

    Raises:
        HardwireError: no mirror, no network, or the suite has other versions.
    """
    if not shutil.which("apt-get"):
        raise HardwireError(
            FAILED, "MicroPython's sources come from Debian, and there is no apt-get", READY_IMAGE
        )
    env = _environment()
    with tempfile.TemporaryDirectory(prefix="hardwire-apt-") as temporary:
        state = Path(temporary)
        for place in ("lists/partial", "cache/archives/partial"):
            (state / place).mkdir(parents=True)
        options = [
            f"-oDir::Etc::sourcelist={state}/sources.list",
            "-oDir::Etc::sourceparts=-",
            f"-oDir::State::Lists={state}/lists",
            f"-oDir::Cache={state}/cache",
            "-oAPT::Sandbox::User=root",  # or apt drops to a user that cannot write here
            "-oAcquire::Languages=none",
            f"-oAcquire::Retries={RETRIES}",
        ]
        apt_get = ["apt-get", *options, "-q"]
        _update(suite, state, apt_get, log, env)
        listing = _output(["apt-cache", *options, "madison", *sources, *packages], env)
        wanted = [f"{name}={pick(listing, suite, name, pin, 'Sources')}" for name, pin in sources.items()]
        log.run("the download", [*apt_get, "source", "--download-only", *wanted], cwd=folder, env=env)
        wanted = [f"{name}={pick(listing, suite, name, pin, 'Packages')}" for name, pin in packages.items()]
        log.run("the download", [*apt_get, "download", *wanted], cwd=folder, env=env)


def _update(suite, state, apt_get, log, env):
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    targets = _output(["apt-get", "indextargets", "--no-release-info", "--format", form], env)
    found = mirrors(targets, {platform.freedesktop_os_release().get("VERSION_CODENAME", ""), suite})
    if not found:
        raise HardwireError(FAILED, "this machine's apt sources name no Debian mirror", READY_IMAGE)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    failures = []
    for uri in found:
        lines = [f"{kind} {signed}{uri} {suite} main\n" for kind in ("deb", "deb-src")]
        (state / "sources.list").write_text("".join(lines))
        try:
            return log.run("apt-get update", [*apt_get, "update", "--error-on=any"], cwd=state, env=env)
        except HardwireError as failure:
            failures.append(failure)
    raise failures[0]


def mirrors(targets: str, releases: set[str]) -> list[str]:
    """Mirrors of a Debian release's main archive, from lines "URI|release|component" of apt's targets."""
    releases = releases | {"stable", "testing", "unstable", "sid"}
    lines = (line.split("|") for line in targets.splitlines())
    return list(dict.fromkeys(uri for uri, release, part in lines if release in releases and part == "main"))


def pick(listing: str, suite: str, name: str, pin: str, kind: str) -> str:
    """Full version of a package whose upstream version is `pin` or starts with it, from `apt-cache madison`.

    Args:
        kind: "Sources" or "Packages", as madison's lines end.

    Raises:
        HardwireError: the suite has no such version.
    """
    rows = [[field.strip() for field in line.split("|")] for line in listing.splitlines()]
    versions = [row[1] for row in rows if len(row) == 3 and row[0] == name and row[2].endswith(kind)]
    for version in versions:
        upstream = version.partition(":")[2] or version
        if re.match(re.escape(pin) + r"(?![0-9])", upstream.rpartition("-")[0] or upstream):
            return version
    have = ", ".join(versions) or "none"
    raise HardwireError(
        FAILED,
        f"{name} {pin} is not in {suite} (it has {have})",
        "change the pin in pyproject.toml, " + READY_IMAGE,
    )


def _output(command, env):
    """What it prints; nothing if it fails."""
    return subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    ).stdout


def _environment():
    return os.environ | {"LC_ALL": "C"}
