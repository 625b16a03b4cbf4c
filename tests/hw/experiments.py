"""Experiments on the registers of a W5500: what the chip does where its datasheet leaves room, one line each.

On a board (pins of the W5500-EVB-Pico, any MicroPython, nothing installed), its cable in a switch; no peer needed:

    mpremote run tests/hw/experiments.py >seen.txt
    sed 's/ *#.*//' tests/hw/experiments.txt | diff --strip-trailing-cr - seen.txt

In: a bench: the SPI frame, RSTn, INTn and time, as in `Board`. Out: lines "name: value" in a fixed order, the same
on every run; experiments.txt is what the model prints, with [?] where no source settles what silicon does.
Never: a wait without an end; a datagram to a host that could exist (addresses for documentation, RFC 5737), but a
few broadcasts to port 5000.
Numbers are those of the datasheet (v1.0.9), on purpose not of hardwire's regs.py: driver and model share that file.

Left to experiments with a peer: accept, RECV, reset and FIN by the peer, retransmission, which listener takes a SYN.
"""

WRITE = 0x04
COMMON, SOCKET, TX, RX, STEP = 0x00, 0x08, 0x10, 0x18, 0x20

MR, GAR, INTLEVEL, IR, SIR, SIMR = 0x00, 0x01, 0x13, 0x15, 0x17, 0x18
RTR, RCR, UIPR, PHYCFGR, VERSIONR = 0x19, 0x1B, 0x28, 0x2E, 0x39
SN_MR, SN_CR, SN_IR, SN_SR, SN_PORT = 0x00, 0x01, 0x02, 0x03, 0x04
SN_DHAR, SN_DIPR, SN_MSSR, SN_RXBUF, SN_TXBUF, SN_IMR = 0x06, 0x0C, 0x12, 0x1E, 0x1F, 0x2C
SN_TX_FSR, SN_TX_RD, SN_TX_WR, SN_RX_RSR, SN_RX_RD, SN_RX_WR = 0x20, 0x22, 0x24, 0x26, 0x28, 0x2A
TCP, UDP, MACRAW = 1, 2, 4
OPEN, LISTEN, CONNECT, DISCON, CLOSE, SEND, SEND_MAC, RECV = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x21, 0x40
SENDOK, TIMEOUT = 0x10, 0x08
LINK = 0x01  # in PHYCFGR
VERSION = 0x04
POWER_DOWN, AUTO = 0x70, 0x38  # PHYCFGR without RST

NETWORK = (  # GAR, SUBR, SHAR, SIPR
    b"\xc0\x00\x02\x01" + b"\xff\xff\xff\x00" + b"\x02\x00\x00\x00\x00\x14" + b"\xc0\x00\x02\x14"
)
NOBODY = b"\xc0\x00\x02\x63"
EVERYBODY = b"\xff\xff\xff\xff"
FAR = b"\xc6\x33\x64\x01"  # 198.51.100.1: by the gateway, which is nobody either
PORT = 50000

LINK_MS = 5000  # auto-negotiation takes 2 to 3 s
POLL_MS = 4
ROUND_MS = 20  # times are rounded to this: a poll is late by POLL_MS and what the interpreter takes
SHORT_RTR = 1000  # 100 ms: long beside a poll
SOON_MS = 20  # for what takes microseconds


class Chip:
    """Registers of the chip on `bench`. `sn` is a socket number."""

    def __init__(self, bench):
        self.bench = bench
        self.frame = bench.frame
        self.sleep_ms = bench.sleep_ms
        self.intn = bench.intn

    def read(self, block, address, n):
        return self.frame(bytes((address >> 8, address & 0xFF, block)) + bytes(n))[3:]

    def write(self, block, address, data):
        self.frame(bytes((address >> 8, address & 0xFF, block | WRITE)) + data)

    def common(self, address, n=1):
        return int.from_bytes(self.read(COMMON, address, n), "big")

    def set_common(self, address, value, n=1):
        self.write(COMMON, address, value.to_bytes(n, "big"))

    def get(self, sn, address, n=1):
        return int.from_bytes(self.read(SOCKET + sn * STEP, address, n), "big")

    def set(self, sn, address, value, n=1):
        self.write(SOCKET + sn * STEP, address, value.to_bytes(n, "big"))

    def command(self, sn, value):
        self.set(sn, SN_CR, value)

    def open(self, sn, mode):
        self.set(sn, SN_MR, mode)
        self.set(sn, SN_PORT, PORT + sn, 2)
        self.command(sn, OPEN)

    def reset(self):
        """Reset by MR; then our addresses, and timeouts that do not bore."""
        self.set_common(MR, 0x80)
        self.sleep_ms(2)
        self.write(COMMON, GAR, NETWORK)
        self.set_common(RTR, SHORT_RTR, 2)
        self.set_common(RCR, 1)
        self.wait_link()

    def wait_link(self):
        """True once there is link."""
        return self.elapsed(lambda: self.common(PHYCFGR) & LINK, LINK_MS) is not None

    def elapsed(self, done, limit_ms=3000):
        """Poll until `done()`; returns the time it took, rounded, or None after `limit_ms`."""
        start = self.bench.now_ms()
        while not done():
            if self.bench.now_ms() - start > limit_ms:
                return None
            self.sleep_ms(POLL_MS)
        return (self.bench.now_ms() - start + ROUND_MS // 2) // ROUND_MS * ROUND_MS

    def aim(self, sn, ip):
        self.write(SOCKET + sn * STEP, SN_DIPR, ip + b"\x13\x88")  # port 5000

    def send(self, sn, data, command=SEND):
        """Copy `data` to transmit memory and give the command."""
        pointer = self.get(sn, SN_TX_WR, 2)
        self.write(TX + sn * STEP, pointer, data)
        self.set(sn, SN_TX_WR, pointer + len(data) & 0xFFFF, 2)
        self.command(sn, command)

    def shout(self, sn, data=b"experiment"):
        """Open for UDP and broadcast once: the way to an interrupt without a peer."""
        self.open(sn, UDP)
        self.aim(sn, EVERYBODY)
        self.send(sn, data)
        self.sleep_ms(SOON_MS)

    def answer(self, sn):
        """Sn_IR, Sn_SR and the milliseconds until any bit of Sn_IR was set."""
        ms = self.elapsed(lambda: self.get(sn, SN_IR))
        return "IR %02x SR %02x after %s ms" % (self.get(sn, SN_IR), self.get(sn, SN_SR), ms)

    def flags(self, sn):
        """Sn_CR, Sn_IR and Sn_SR, read at once."""
        return "CR %02x IR %02x SR %02x" % tuple(self.read(SOCKET + sn * STEP, SN_CR, 3))

    def pointers(self, sn):
        return "FSR %04x TX_RD %04x TX_WR %04x RSR %04x RX_RD %04x RX_WR %04x" % tuple(
            self.get(sn, address, 2)
            for address in (SN_TX_FSR, SN_TX_RD, SN_TX_WR, SN_RX_RSR, SN_RX_RD, SN_RX_WR)
        )

    def lines(self):
        """SIR and the level of INTn."""
        return "SIR %02x INTn %d" % (self.common(SIR), self.intn())


def spaced(data):
    return " ".join("%02x" % byte for byte in data)


def reset_values(chip):
    chip.bench.reset(True)
    chip.sleep_ms(1)
    chip.bench.reset(False)
    chip.sleep_ms(2)
    yield "VERSIONR 2 ms after RSTn", "%02x" % chip.common(VERSIONR)
    yield "link within 5 s of RSTn", chip.wait_link()
    yield "PHYCFGR with link", "%02x" % chip.common(PHYCFGR)
    for first, end in ((0x00, 0x13), (0x13, 0x1C), (0x1C, 0x28), (0x28, 0x2E), (0x2F, 0x3A)):
        yield "common %02x..%02x" % (first, end - 1), spaced(chip.read(COMMON, first, end - first))
    for first, end in ((0x00, 0x10), (0x10, 0x20), (0x20, 0x30)):
        yield "socket 0 %02x..%02x" % (first, end - 1), spaced(chip.read(SOCKET, first, end - first))
    first = chip.read(SOCKET, 0, 0x30)
    same = [chip.read(SOCKET + sn * STEP, 0, 0x30) == first for sn in range(1, 8)]
    yield "sockets 1 to 7 like socket 0", all(same)
    yield "INTn", chip.intn()


def reset_by_mr(chip):
    chip.shout(0)
    chip.set_common(MR, 0x80)
    chip.sleep_ms(2)
    yield "MR after RST", "%02x" % chip.common(MR)
    yield "PHYCFGR 2 ms after MR.RST", "%02x" % chip.common(PHYCFGR)
    yield "addresses after MR.RST", spaced(chip.read(COMMON, GAR, 18))
    yield "socket after MR.RST", chip.flags(0) + " PORT %04x" % chip.get(0, SN_PORT, 2)


def spi_frames(chip):
    yield "MISO of a frame", spaced(chip.frame(b"\x00\x39\x00\x00"))
    yield "MISO of a write", spaced(chip.frame(b"\x00\x01\x04\xc0\x00"))
    for n in (1, 2, 3):
        chip.frame(b"\x00\x00\x04\x10"[:n])
        yield "MR after a frame of %d bytes" % n, "%02x" % chip.common(MR)
    chip.frame(b"\x00\x19\x04\x12")
    yield "RTR after its high byte alone", "%04x" % chip.common(RTR, 2)
    chip.set_common(RTR, 0x1234, 2)
    yield "RTR in one frame", "%04x" % chip.common(RTR, 2)
    chip.frame(b"\x00\x19\x05\xab\xcd")
    yield "RTR after 2 bytes in mode FDM 1", "%04x" % chip.common(RTR, 2)
    yield "read of 4 bytes in mode FDM 2", spaced(chip.frame(b"\x00\x19\x02\x00\x00\x00\x00")[3:])
    chip.set_common(MR, 0x10)
    yield "common ffff..0000 with MR 10", spaced(chip.read(COMMON, 0xFFFF, 2))
    yield "common 3a..3d", spaced(chip.read(COMMON, 0x3A, 4))
    chip.write(COMMON, 0x3A, b"\x5a")
    yield "common 3a after 5a", spaced(chip.read(COMMON, 0x3A, 1))
    yield "socket 0 30..33", spaced(chip.read(SOCKET, 0x30, 4))
    yield "reserved block 4, 00..03", spaced(chip.read(0x20, 0, 4))
    chip.frame(b"\xf0\x00\x00\x80")
    yield "common 0f00, as W5100S probes", spaced(chip.frame(b"\x0f\x00\x00\x00")[3:])
    yield "MR after that probe", "%02x" % chip.common(MR)


def access(chip):
    for bit in (0x20, 0x10, 0x08, 0x02, 0x00):
        chip.set_common(MR, bit)
        yield "MR after %02x" % bit, "%02x" % chip.common(MR)
    for name, address, n in (("IR", IR, 1), ("SIR", SIR, 1), ("UIPR", UIPR, 4), ("VERSIONR", VERSIONR, 1)):
        chip.write(COMMON, address, b"\x5a" * n)
        yield "%s after 5a" % name, spaced(chip.read(COMMON, address, n))
    chip.set_common(SIMR, 0xA5)
    yield "SIMR after a5", "%02x" % chip.common(SIMR)
    for name, address, n in (
        ("Sn_IR", SN_IR, 1),
        ("Sn_SR", SN_SR, 1),
        ("Sn_DHAR", SN_DHAR, 6),
        ("Sn_MSSR", SN_MSSR, 2),
        ("Sn 14", 0x14, 1),
        ("Sn 17..1d", 0x17, 7),
        ("TX_FSR", SN_TX_FSR, 2),
        ("TX_RD", SN_TX_RD, 2),
        ("RX_RSR", SN_RX_RSR, 2),
        ("RX_RD", SN_RX_RD, 2),
        ("RX_WR", SN_RX_WR, 2),
        ("Sn_IMR", SN_IMR, 1),
    ):
        chip.write(SOCKET, address, b"\x5a" * n)
        yield "%s after 5a" % name, spaced(chip.read(SOCKET, address, n))


def memory(chip):
    for sn in range(8):
        chip.write(SOCKET + sn * STEP, SN_RXBUF, b"\x00\x00")
    for size in (0, 1, 2, 4, 8, 16):
        chip.set(0, SN_TXBUF, size)
        before = chip.get(0, SN_TX_FSR, 2)
        chip.open(0, TCP)
        after = chip.get(0, SN_TX_FSR, 2)
        yield "TX_FSR of %d KB before and after OPEN" % size, "%04x %04x" % (before, after)
        chip.command(0, CLOSE)
    chip.write(SOCKET, SN_RXBUF, b"\x02\x02")
    chip.open(0, TCP)
    chip.write(TX, 0x07FE, b"\x11\x22\x33\x44")
    yield "2 KB, 4 bytes at 07fe, seen from 0000", spaced(chip.read(TX, 0x0000, 2))
    yield "the same from 07fe", spaced(chip.read(TX, 0x07FE, 4))
    yield "the same from 17fe", spaced(chip.read(TX, 0x17FE, 4))
    chip.write(TX, 0xFFFE, b"\x55\x66\x77\x88")
    yield "4 bytes at fffe, seen from 07fe", spaced(chip.read(TX, 0x07FE, 4))
    chip.set(1, SN_TXBUF, 2)
    chip.write(TX + STEP, 0x0000, b"\x99\x99")
    yield "socket 0 after a write to socket 1", spaced(chip.read(TX, 0x0000, 2))
    chip.write(RX, 0x0000, b"\xaa\xbb")
    yield "receive memory after aa bb", spaced(chip.read(RX, 0x0000, 2))
    chip.set(0, SN_TX_WR, 0x0123, 2)
    yield "INIT, TX_WR 0123", chip.pointers(0)
    chip.command(0, OPEN)
    yield "OPEN again", chip.pointers(0)


def opening(chip):
    for name, mode in (("no protocol", 0), ("TCP", TCP), ("UDP", UDP), ("MACRAW", MACRAW)):
        chip.open(0, mode)
        yield "OPEN %s" % name, chip.flags(0)
        chip.command(0, CLOSE)
    chip.open(1, MACRAW)
    yield "OPEN MACRAW on socket 1", chip.flags(1)
    chip.command(1, CLOSE)
    chip.write(SOCKET, SN_MR, bytes((TCP, OPEN)))
    yield "MR and OPEN in one frame", chip.flags(0)
    chip.command(0, CLOSE)
    for name, mode in (("TCP", TCP), ("UDP", UDP)):
        chip.open(0, mode)
        yield "pointers after OPEN %s" % name, chip.pointers(0)
        chip.command(0, CLOSE)
    yield "PORT and MR after CLOSE", "%04x %02x" % (chip.get(0, SN_PORT, 2), chip.get(0, SN_MR))
    chip.command(0, OPEN)
    yield "OPEN without a new PORT", chip.flags(0) + " PORT %04x" % chip.get(0, SN_PORT, 2)


def listening(chip):
    chip.open(0, TCP)
    chip.command(0, LISTEN)
    yield "LISTEN in INIT", chip.flags(0)
    chip.set(1, SN_MR, TCP)
    chip.set(1, SN_PORT, PORT, 2)
    chip.command(1, OPEN)
    chip.command(1, LISTEN)
    yield "LISTEN on the same port", chip.flags(1)
    chip.command(0, 0x80)
    yield "command 80 in LISTEN", chip.flags(0)
    chip.command(0, SEND)
    yield "SEND in LISTEN", chip.flags(0)
    chip.command(0, RECV)
    yield "RECV in LISTEN", chip.flags(0)
    chip.command(0, CONNECT)
    yield "CONNECT in LISTEN", chip.flags(0)
    chip.command(0, CLOSE)
    yield "CLOSE in LISTEN", chip.flags(0)
    chip.open(0, TCP)
    chip.command(0, LISTEN)
    chip.command(0, OPEN)
    yield "OPEN in LISTEN", chip.flags(0)
    chip.command(0, LISTEN)
    chip.command(0, DISCON)
    chip.sleep_ms(SOON_MS)
    yield "DISCON in LISTEN", chip.flags(0)


def commands_out_of_place(chip):
    for name, command in (("LISTEN", LISTEN), ("CONNECT", CONNECT), ("DISCON", DISCON), ("SEND", SEND)):
        chip.command(0, command)
        chip.sleep_ms(SOON_MS)
        yield "%s in CLOSED" % name, chip.flags(0)
    chip.open(0, TCP)
    chip.command(0, DISCON)
    chip.sleep_ms(SOON_MS)
    yield "DISCON in INIT", chip.flags(0)
    chip.set(0, SN_IR, 0xFF)
    chip.command(0, CLOSE)
    chip.open(0, UDP)
    for name, command in (("LISTEN", LISTEN), ("CONNECT", CONNECT), ("RECV", RECV), ("DISCON", DISCON)):
        chip.command(0, command)
        chip.sleep_ms(SOON_MS)
        yield "%s in UDP" % name, chip.flags(0)


def udp(chip):
    chip.open(0, UDP)
    chip.aim(0, EVERYBODY)
    chip.send(0, b"experiment")
    yield "broadcast", chip.answer(0)
    yield "pointers after it", chip.pointers(0)
    yield "DHAR after it", spaced(chip.read(SOCKET, SN_DHAR, 6))
    chip.set(0, SN_IR, SENDOK)
    chip.command(0, SEND)
    chip.sleep_ms(SOON_MS)
    yield "SEND of nothing", chip.flags(0)
    chip.set(0, SN_IR, 0xFF)
    chip.send(0, bytes(1600))
    chip.sleep_ms(SOON_MS)
    yield "broadcast of 1600 bytes", chip.flags(0) + " TX_RD %04x" % chip.get(0, SN_TX_RD, 2)
    chip.command(0, CLOSE)
    yield "CLOSE with SENDOK pending", chip.flags(0)
    chip.command(0, OPEN)
    yield "and OPEN", chip.flags(0) + " TX_WR %04x" % chip.get(0, SN_TX_WR, 2)
    chip.open(1, UDP)
    chip.aim(1, NOBODY)
    chip.write(SOCKET + STEP, SN_DHAR, b"\x02\x00\x00\x00\x00\x63")
    chip.send(1, b"experiment", SEND_MAC)
    chip.sleep_ms(SOON_MS)
    yield "SEND_MAC", chip.flags(1) + " DHAR " + spaced(chip.read(SOCKET + STEP, SN_DHAR, 6))


def arp_timeout(chip):
    for rtr, rcr in ((1000, 0), (1000, 3), (2000, 1), (2000, 8)):
        chip.set_common(RTR, rtr, 2)
        chip.set_common(RCR, rcr)
        chip.open(0, UDP)
        chip.aim(0, NOBODY)
        chip.send(0, b"experiment")
        yield "UDP to nobody, RTR %d RCR %d" % (rtr, rcr), chip.answer(0)
        if rcr == 0:
            yield "pointers after it", chip.pointers(0)
            yield "DHAR after it", spaced(chip.read(SOCKET, SN_DHAR, 6))
        chip.set(0, SN_IR, 0xFF)
        chip.command(0, CLOSE)
    chip.set_common(RTR, SHORT_RTR, 2)
    chip.set_common(RCR, 1)
    chip.open(0, UDP)
    chip.aim(0, FAR)
    chip.send(0, b"experiment")
    yield "UDP by a gateway that is not there", chip.answer(0)
    chip.set(0, SN_IR, 0xFF)
    chip.send(0, b"experiment")
    chip.sleep_ms(SOON_MS)
    chip.command(0, CLOSE)
    chip.sleep_ms(300)
    yield "CLOSE while ARP asks, 300 ms later", chip.flags(0)


def connect_timeout(chip):
    for name, ip in (("nobody", NOBODY), ("a gateway that is not there", FAR)):
        chip.open(0, TCP)
        chip.aim(0, ip)
        chip.command(0, CONNECT)
        yield "CONNECT to %s" % name, chip.flags(0)
        yield "and then", chip.answer(0)
        chip.set(0, SN_IR, 0xFF)
    yield "PORT and MR after it", "%04x %02x" % (chip.get(0, SN_PORT, 2), chip.get(0, SN_MR))
    yield "DIPR after it", spaced(chip.read(SOCKET, SN_DIPR, 4))
    yield "DHAR after it", spaced(chip.read(SOCKET, SN_DHAR, 6))
    yield "pointers after it", chip.pointers(0)
    for name, command in (("CLOSE", CLOSE), ("DISCON", DISCON), ("OPEN", OPEN)):
        chip.open(0, TCP)
        chip.command(0, CONNECT)
        chip.sleep_ms(SOON_MS)
        chip.command(0, command)
        chip.sleep_ms(300)
        yield "%s in SYNSENT, 300 ms later" % name, chip.flags(0)
        chip.set(0, SN_IR, 0xFF)
        chip.command(0, CLOSE)


def interrupts(chip):
    chip.shout(0)
    yield "SENDOK, SIMR 00", chip.lines()
    chip.set_common(SIMR, 0x02)
    yield "SIMR 02", chip.lines()
    chip.set_common(SIMR, 0x01)
    yield "SIMR 01", chip.lines()
    chip.set(0, SN_IR, TIMEOUT)
    yield "Sn_IR after 08", "%02x " % chip.get(0, SN_IR) + chip.lines()
    chip.set_common(SIR, 0x01)
    yield "SIR after 01", chip.lines()
    chip.set(0, SN_IMR, 0xFF & ~SENDOK)
    yield "Sn_IMR ef", "Sn_IR %02x " % chip.get(0, SN_IR) + chip.lines()
    chip.set(0, SN_IMR, 0xFF)
    chip.sleep_ms(SOON_MS)
    yield "Sn_IMR ff", chip.lines()
    chip.command(0, CLOSE)
    yield "CLOSE", chip.lines()
    chip.set(0, SN_IR, SENDOK)
    yield "Sn_IR after 10", "%02x " % chip.get(0, SN_IR) + chip.lines()
    chip.set(0, SN_IMR, 0x00)
    chip.shout(0)
    yield "SENDOK with Sn_IMR 00", "Sn_IR %02x " % chip.get(0, SN_IR) + chip.lines()
    chip.set(0, SN_IMR, SENDOK)
    chip.sleep_ms(SOON_MS)
    yield "Sn_IMR 10 afterwards", chip.lines()
    chip.set_common(MR, 0x80)
    chip.sleep_ms(2)
    yield "MR.RST", chip.lines()


def interrupt_level(chip):
    chip.shout(0)
    chip.shout(7)
    chip.set_common(SIMR, 0xFF)
    yield "SENDOK of sockets 0 and 7", chip.lines()
    chip.set_common(INTLEVEL, 0xFFFF, 2)
    chip.set(0, SN_IR, SENDOK)
    yield "INTLEVEL ffff: INTn at once after Sn_IR of socket 0", chip.intn()
    chip.sleep_ms(SOON_MS)
    yield "20 ms later", chip.lines()
    chip.set_common(SIMR, 0x00)
    chip.set_common(SIMR, 0xFF)
    yield "INTn at once after SIMR 00, ff", chip.intn()
    chip.sleep_ms(SOON_MS)
    yield "20 ms later again", chip.lines()
    chip.set(7, SN_IR, SENDOK)
    yield "Sn_IR of socket 7", chip.lines()


def phy(chip):
    for name, setting in (("power down", POWER_DOWN), ("all capable", AUTO)):
        chip.set_common(PHYCFGR, setting)
        chip.set_common(PHYCFGR, setting | 0x80)
        chip.sleep_ms(SOON_MS)
        if setting == POWER_DOWN:
            yield "PHYCFGR, %s" % name, "%02x" % chip.common(PHYCFGR)
            chip.shout(0)
            yield "broadcast without a link", chip.flags(0)
        else:
            yield "link within 5 s of %s" % name, chip.wait_link()
            yield "PHYCFGR, %s" % name, "%02x" % chip.common(PHYCFGR)


EXPERIMENTS = (
    reset_values,
    reset_by_mr,
    spi_frames,
    access,
    memory,
    opening,
    listening,
    commands_out_of_place,
    udp,
    arp_timeout,
    connect_timeout,
    interrupts,
    interrupt_level,
    phy,
)


def run(bench):
    """Run all experiments on `bench` and print their lines; each begins with a reset chip."""
    chip = Chip(bench)
    if (version := chip.common(VERSIONR)) != VERSION:
        print("no W5500 on SPI: VERSIONR is %02x, not %02x" % (version, VERSION))
        return
    for experiment in EXPERIMENTS:
        chip.reset()
        print("-- " + experiment.__name__)
        for name, value in experiment(chip):
            print("%s: %s" % (name, value))
    chip.reset()


class Board:
    """The bench on a W5500-EVB-Pico or EVB-Pico2, or a Pico with WIZnet's Ethernet HAT."""

    def __init__(self):
        from time import sleep_ms, ticks_ms

        from machine import SPI, Pin

        self._spi = SPI(0, 8_000_000, sck=Pin(18), mosi=Pin(19), miso=Pin(16))
        self._cs = Pin(17, Pin.OUT, value=1)
        self._rst = Pin(20, Pin.OUT, value=1)
        self.intn = Pin(21, Pin.IN)  # called without argument: 0 or 1
        self.sleep_ms = sleep_ms
        self.now_ms = ticks_ms  # wraps after 12 days: no experiment meets that

    def frame(self, mosi):
        """One SPI frame, CS low to CS high. Returns what came in, as many bytes."""
        miso = bytearray(len(mosi))
        self._cs(0)
        self._spi.write_readinto(mosi, miso)
        self._cs(1)
        return miso

    def reset(self, low):
        """Drive RSTn."""
        self._rst(not low)


if __name__ == "__main__":
    run(Board())
