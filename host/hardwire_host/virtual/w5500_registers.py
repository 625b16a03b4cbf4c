"""A hardware socket as SPI sees it: register image, receive and transmit memory, pointers, interrupt bits.

In: bytes written to its registers and memories. Out: the register image, always current, so that a read is a
slice; commands to `_execute`; the socket's interrupt to the chip. What commands do is in w5500_sockets.py.
Never raises: mistakes are counted by `chip.guest_error` and change as little as possible.
Source: datasheet v1.0.9, 4.2 (page 44 on).
"""

from collections.abc import Callable

from . import regs as R
from .w5500_memory import get16, load, put16, read_image, store

MEMORY_SIZES = (0, 1, 2, 4, 8, 16)  # KB

RESET_VALUES = bytearray(R.SOCKET_END)
RESET_VALUES[R.SN_DHAR : R.SN_DHAR + 6] = b"\xff" * 6
RESET_VALUES[R.SN_TTL] = 0x80
RESET_VALUES[R.SN_RXBUF_SIZE] = RESET_VALUES[R.SN_TXBUF_SIZE] = 2
RESET_VALUES[R.SN_TX_FSR] = 0x08
RESET_VALUES[R.SN_IMR] = 0xFF
RESET_VALUES[R.SN_FRAG] = 0x40


class SocketRegisters:
    """Registers and memories of socket `number`. A `Socket` adds commands and the network."""

    def __init__(self, chip, number: int) -> None:
        self.chip = chip
        self.number = number
        self.registers = bytearray(RESET_VALUES)
        self.rx = bytearray()
        self.tx = bytearray()
        self.received_bytes = 0  # payload since reset, for display
        self.torn: dict[int, int] = {}  # high bytes of TX_FSR and RX_RSR before their last growth
        self._command_alarm = None  # a command that waits to be taken (cr_busy_ns)
        self._mode_write = (0, 0)  # SPI frame that wrote Sn_MR last, and the value before
        self._tx_ack = self._tx_end = 0  # oldest byte that may be needed again; end of the last SEND
        self._rx_read = self._rx_write = 0  # RX_RD as RECV took it; RX_WR

    @property
    def state(self) -> int:
        """Sn_SR."""
        return self.registers[R.SN_SR]

    def _reset_registers(self) -> None:
        self.registers[:] = RESET_VALUES
        self.rx = bytearray(RESET_VALUES[R.SN_RXBUF_SIZE] << 10)
        self.tx = bytearray(RESET_VALUES[R.SN_TXBUF_SIZE] << 10)
        self.received_bytes = 0
        self._set_pointers(0)

    def read_registers(self, offset: int, n: int) -> bytes | bytearray:
        """`n` bytes of the register block."""
        return read_image(self.registers, offset, n)

    def write_registers(self, offset: int, data: bytes) -> None:
        """Byte by byte, in order, as they arrive on SPI."""
        for address, value in enumerate(data, offset):
            address &= 0xFFFF
            if address < R.SOCKET_END:
                _WRITERS[address](self, address, value)
            else:
                self.chip.guest_error(
                    "write above the register block", f"socket {self.number}, 0x{address:04x}"
                )

    def _write_plain(self, address: int, value: int) -> None:
        self.registers[address] = value

    def _write_read_only(self, address: int, value: int) -> None:
        self.chip.guest_error("write to a read-only register", f"socket {self.number}, 0x{address:02x}")

    def _write_mode(self, address: int, value: int) -> None:
        self._mode_write = (self.chip.frames, self.registers[address])
        self.registers[address] = value

    def _write_ir(self, address: int, value: int) -> None:
        self.registers[address] &= ~value
        self._update_interrupt()

    def _write_imr(self, address: int, value: int) -> None:
        self.registers[address] = value
        self._update_interrupt()

    def _write_size(self, address: int, value: int) -> None:
        if self.state != R.CLOSED:
            self.chip.guest_error("memory size changed while open", f"socket {self.number}")
        if value not in MEMORY_SIZES:
            self.chip.guest_error("memory size not 0, 1, 2, 4, 8 or 16 KB", f"socket {self.number}: {value}")
        self.registers[address] = value
        size = value << 10 if value in MEMORY_SIZES else 0
        if address == R.SN_RXBUF_SIZE:
            if size != len(self.rx):
                self.rx = bytearray(size)
        elif size != len(self.tx):
            self.tx = bytearray(size)
        self._update_free()

    def _write_tx_wr(self, address: int, value: int) -> None:
        self.registers[address] = value
        self._update_free()

    def _write_keepalive(self, address: int, value: int) -> None:
        self.registers[address] = value
        self._set_keepalive()

    def _write_command(self, address: int, value: int) -> None:
        chip = self.chip
        if self._command_alarm is not None:
            chip.guest_error("command before Sn_CR was 0", f"socket {self.number}: 0x{value:02x}")
            return
        registers = self.registers
        if chip.command_sticks():
            registers[R.SN_CR] = value
            return
        registers[R.SN_CR] = 0
        if delay := chip.options.cr_busy_ns:
            registers[R.SN_CR] = value
            self._command_alarm = chip.clock.call_later(delay, lambda: self._take(value))
        else:
            self._execute(value)

    def _take(self, value: int) -> None:
        self._command_alarm = None
        self.registers[R.SN_CR] = 0
        self._execute(value)

    def _execute(self, command: int) -> None:
        raise NotImplementedError

    def _set_keepalive(self) -> None:
        raise NotImplementedError

    def read_rx(self, offset: int, n: int) -> bytes | bytearray:
        """`n` bytes of receive memory."""
        if not self.rx:
            self.chip.guest_error("access to a memory of size 0", f"socket {self.number}, receive")
        return load(self.rx, offset, n)

    def read_tx(self, offset: int, n: int) -> bytes | bytearray:
        """`n` bytes of transmit memory."""
        if not self.tx:
            self.chip.guest_error("access to a memory of size 0", f"socket {self.number}, transmit")
        return load(self.tx, offset, n)

    def write_rx(self, offset: int, data: bytes) -> None:
        """Receive memory is writable too; nobody has a reason to."""
        self.chip.guest_error("write to receive memory", f"socket {self.number}")
        store(self.rx, offset, data)

    def write_tx(self, offset: int, data: bytes) -> None:
        """Transmit memory; bytes not yet acknowledged may be needed again and must stay."""
        size = len(self.tx)
        if not size:
            self.chip.guest_error("access to a memory of size 0", f"socket {self.number}, transmit")
            return
        used = self._tx_end - self._tx_ack & 0xFFFF
        if used and (offset - self._tx_end & size - 1) + len(data) > size - used:
            self.chip.guest_error("write over unacknowledged data", f"socket {self.number}")
        elif len(data) > size:
            self.chip.guest_error("burst longer than the memory", f"socket {self.number}, transmit")
        store(self.tx, offset, data)

    def _set_pointers(self, start: int) -> None:
        registers = self.registers
        self._tx_ack = self._tx_end = self._rx_read = self._rx_write = start
        for address in (R.SN_TX_RD, R.SN_TX_WR, R.SN_RX_RD, R.SN_RX_WR):
            put16(registers, address, start)
        put16(registers, R.SN_RX_RSR, 0)
        self._update_free()
        self.torn = {}

    def _update_free(self) -> None:
        registers = self.registers
        used = get16(registers, R.SN_TX_WR) - self._tx_ack & 0xFFFF
        put16(registers, R.SN_TX_FSR, max(0, len(self.tx) - used))
        self.torn.pop(R.SN_TX_FSR, None)

    def _fill(self) -> int:
        return self._rx_write - self._rx_read & 0xFFFF

    def _put_received(self, data: bytes) -> None:
        registers = self.registers
        store(self.rx, self._rx_write, data)
        self._rx_write = write = self._rx_write + len(data) & 0xFFFF
        put16(registers, R.SN_RX_WR, write)
        self.torn[R.SN_RX_RSR] = registers[R.SN_RX_RSR]
        put16(registers, R.SN_RX_RSR, write - self._rx_read & 0xFFFF)
        self.received_bytes += len(data)

    def _raise(self, bits: int) -> None:
        registers = self.registers
        if self.chip.options.imr_gates_ir:
            bits &= registers[R.SN_IMR]
        registers[R.SN_IR] |= bits
        self._update_interrupt()

    def _update_interrupt(self) -> None:
        registers = self.registers
        self.chip.socket_interrupt(self.number, bool(registers[R.SN_IR] & registers[R.SN_IMR]))


def _writers() -> list[Callable[[SocketRegisters, int, int], None]]:
    """Who takes a byte written to each register address. Reserved addresses read 0 and ignore writes."""
    table = [SocketRegisters._write_read_only] * R.SOCKET_END
    for first, count in (
        (R.SN_PORT, 16),  # Sn_PORT to Sn_MSSR
        (R.SN_TOS, 2),  # and Sn_TTL
        (R.SN_RX_RD, 2),
        (R.SN_FRAG, 2),
    ):
        table[first : first + count] = [SocketRegisters._write_plain] * count
    table[R.SN_MR] = SocketRegisters._write_mode
    table[R.SN_CR] = SocketRegisters._write_command
    table[R.SN_IR] = SocketRegisters._write_ir
    table[R.SN_IMR] = SocketRegisters._write_imr
    table[R.SN_RXBUF_SIZE] = table[R.SN_TXBUF_SIZE] = SocketRegisters._write_size
    table[R.SN_TX_WR] = table[R.SN_TX_WR + 1] = SocketRegisters._write_tx_wr
    table[R.SN_KPALVTR] = SocketRegisters._write_keepalive
    return table


_WRITERS = _writers()
