"""A Modbus-TCP client for people: tables by name, long reads in legal requests, one clear error. On pymodbus.

In: host, port, unit; 0-based addresses. Out: lists of int (registers) or bool (bits), or HardwireError:
NO_BOARD when there is no connection, TIMEOUT when no answer comes, MODBUS with the exception's number.
Never: a retry or a silent reconnect (both hide loss), framing of our own, output.

Limits and names: MODBUS Application Protocol Specification V1.1b3, sections 6 and 7.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException, ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.file_message import FileRecord

from ..errors import FAILED, MODBUS, NO_BOARD, TIMEOUT, USAGE, HardwireError

PORT = 502
UNIT = 1
TIMEOUT_S = 3.0

ADDRESSES = 65536
READ_BITS_MAX = 2000  # 6.1
READ_REGISTERS_MAX = 125  # 6.3
WRITE_BITS_MAX = 1968  # 6.11
WRITE_REGISTERS_MAX = 123  # 6.12

READ_RECORDS_MAX = 121  # 6.14: a response holds at most F5 bytes of one group, two of them its head

# Section 7. A gateway adds 0A and 0B.
EXCEPTIONS = {
    0x01: "illegal function",
    0x02: "illegal data address",
    0x03: "illegal data value",
    0x04: "server device failure",
    0x05: "acknowledge",
    0x06: "server device busy",
    0x08: "memory parity error",
    0x0A: "gateway path unavailable",
    0x0B: "gateway target device failed to respond",
}

ILLEGAL_FUNCTION = 0x01
ILLEGAL_DATA_ADDRESS = 0x02

# 6.21, objects of the basic and regular categories
OBJECTS = {
    0x00: "vendor_name",
    0x01: "product_code",
    0x02: "revision",
    0x03: "vendor_url",
    0x04: "product_name",
    0x05: "model_name",
    0x06: "application_name",
}
W5500_VERSION = 0x04  # VERSIONR; input register 10 of the hardwire app
BASIC, REGULAR, EXTENDED = 0x01, 0x02, 0x03  # read device id codes
MORE_FOLLOWS = 0xFF
OBJECTS_MAX = 256  # object ids are one byte: a server that never ends is stopped here
MAP_FILE = 1  # file number under which a hardwire board gives its map (docs/map.md)


@dataclass(frozen=True)
class Table:
    """One of the four tables; `digit` starts its 1-based addresses (0xxxx, 1xxxx, 3xxxx, 4xxxx)."""

    name: str
    digit: int
    read: str
    bits: bool
    writable: bool

    def traditional(self, address: int) -> str:
        """The 1-based form with the table's digit: five digits while they suffice, else six."""
        number = address + 1
        return f"{self.digit}{number:04d}" if number <= 9999 else f"{self.digit}{number:05d}"


COIL = Table("coil", 0, "read_coils", True, True)
DISCRETE = Table("discrete", 1, "read_discrete_inputs", True, False)
INPUT = Table("input", 3, "read_input_registers", False, False)
HOLDING = Table("holding", 4, "read_holding_registers", False, True)

TABLES = {
    alias: table
    for table, aliases in (
        (COIL, ("coil", "coils", "c", "0x", "0")),
        (DISCRETE, ("discrete", "discretes", "d", "1x", "1")),
        (INPUT, ("input", "inputs", "i", "3x", "3")),
        (HOLDING, ("holding", "holdings", "h", "4x", "4")),
    )
    for alias in aliases
}


@dataclass(frozen=True)
class AppInfo:
    """Input registers 0-12 of the default app, as its README describes them."""

    uptime_s: int
    free_heap_kb: int
    link: bool
    sockets: int
    requests: int
    exceptions: int
    frame_errors: int
    connections: int
    chip_version: int
    chip_resets: int
    version: str

    COUNT = 13

    @classmethod
    def parse(cls, registers: Sequence[int]) -> Self:
        """13 or more input registers from address 0."""
        r = registers
        return cls(
            r[0] << 16 | r[1],
            r[2],
            bool(r[3]),
            r[4],
            r[5] << 16 | r[6],
            *r[7:12],
            f"{r[12] >> 8}.{r[12] & 0xFF}",
        )


class _Tracer:
    """pymodbus shows all bytes received since the request, again and again; `tell` gets each once."""

    def __init__(self, tell: Callable[[bool, bytes], None]) -> None:
        self._tell = tell
        self._seen = b""

    def __call__(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self._seen = b""
            self._tell(True, data)
        else:
            self._tell(False, data[len(self._seen) :] if data.startswith(self._seen) else data)
            self._seen = data
        return data


class ModbusClient:
    """One connection to a Modbus-TCP server; a context manager.

    Args:
        host, port: the server.
        unit: unit identifier, 0-255 (0 and 255 mean the server itself).
        timeout: longest wait for the connection and for each answer, in seconds.
        trace: gets (sent?, bytes) for what goes over the connection, as it goes.
    """

    def __init__(
        self,
        host: str,
        port: int = PORT,
        unit: int = UNIT,
        timeout: float = TIMEOUT_S,
        trace: Callable[[bool, bytes], None] | None = None,
    ) -> None:
        self.name = f"{host}:{port}"
        self._address = host, port
        self.unit = unit
        self._timeout = timeout
        # pymodbus logs what it raises; without a handler Python would print that on stderr.
        logging.getLogger("pymodbus").addHandler(logging.NullHandler())
        self._client = ModbusTcpClient(
            host, port=port, timeout=timeout, retries=0, trace_packet=_Tracer(trace) if trace else None
        )
        self.connect()

    def connect(self) -> None:
        """Connect again, after the server has closed the connection. Raises HardwireError."""
        self.close()
        try:
            # pymodbus would swallow the reason
            self._client.socket = socket.create_connection(self._address, self._timeout)
        except TimeoutError:
            raise HardwireError(
                TIMEOUT, f"{self.name} does not answer", "is the address right, the cable in?"
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise HardwireError(
                NO_BOARD, f"cannot connect to {self.name}: {reason}", "hardwire doctor"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the connection is there, for all this side knows."""
        return self._client.connected

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self, table: Table, address: int, count: int = 1) -> list:
        """`count` values from 0-based `address`: bools of a bit table, else ints 0-65535.

        Raises:
            HardwireError: USAGE for a range outside 0-65535, else see the file's head.
        """
        check_range(address, count)
        most = READ_BITS_MAX if table.bits else READ_REGISTERS_MAX
        values: list = []
        while len(values) < count:
            part = min(most, count - len(values))
            pdu = self.request(table.read, address + len(values), count=part)
            got = pdu.bits if table.bits else pdu.registers  # bits are padded to whole bytes
            if len(got) < part:
                raise self._short(len(got), part)
            values += got[:part]
        return values

    def write(self, table: Table, address: int, values: Sequence[int]) -> None:
        """Write `values` from 0-based `address`, in one request: FC 05/06 for one value, 0F/10 for more.

        Raises:
            HardwireError: USAGE for a table, range, value or number of values that no request can carry.
        """
        if not table.writable:
            raise HardwireError(
                USAGE, f"the {table.name} table is read-only", "coil and holding can be written"
            )
        check_range(address, len(values))
        most, limit = (WRITE_BITS_MAX, 1) if table.bits else (WRITE_REGISTERS_MAX, 0xFFFF)
        if len(values) > most:
            raise HardwireError(USAGE, f"{len(values)} values do not fit in one request", f"at most {most}")
        for value in values:
            if not 0 <= value <= limit:
                raise HardwireError(USAGE, f"{value} is no value of a {table.name}", f"0 to {limit}")
        if table.bits:
            bits = [bool(value) for value in values]
            if len(bits) == 1:
                self._change("write_coil", address, bits[0])
            else:
                self._change("write_coils", address, bits)
        elif len(values) == 1:
            self._change("write_register", address, values[0])
        else:
            self._change("write_registers", address, list(values))

    def write_bit(self, address: int, bit: int, on: bool) -> None:
        """Change one bit of a holding register and no other, FC 16: the server does it in one step (6.16)."""
        check_range(address, 1)
        mask = 1 << bit
        self._change("mask_write_register", address=address, and_mask=0xFFFF ^ mask, or_mask=mask * on)

    def read_records(self, file: int, record: int, count: int) -> bytes:
        """`count` (1 to READ_RECORDS_MAX) 16-bit records of a file from `record` on, FC 14, as their bytes."""
        group = FileRecord(file_number=file, record_number=record, record_length=2 * count)
        pdu: Any = self.request("read_file_record", [group])
        data = b"".join(answer.record_data for answer in pdu.records)
        if len(data) != 2 * count:
            raise self._short(len(data) // 2, count)
        return data

    def is_hardwire(self) -> bool:
        """Whether the server runs this firmware: it gives a map of ours, or has the default app's registers."""
        from ..map.build import MAGIC

        try:
            if self.read_records(MAP_FILE, 0, len(MAGIC) // 2) == MAGIC:
                return True
        except HardwireError as error:
            if error.code != MODBUS:
                raise
        return self.app() is not None

    def identify(self) -> dict[str, str]:
        """Device identification, FC 2B/0E: basic objects, and the others where the server has them.

        Raises:
            HardwireError: MODBUS with code 1 when the server does not offer it.
        """
        objects = self._objects(BASIC)
        for category in (REGULAR, EXTENDED):
            try:
                objects |= self._objects(category)
            except HardwireError as error:
                if error.code != MODBUS:
                    raise
                break
        return {
            OBJECTS.get(number, f"object_0x{number:02x}"): value.decode("utf-8", "replace")
            for number, value in sorted(objects.items())
        }

    def app(self) -> AppInfo | None:
        """The hardwire app's input registers; None if the server has others."""
        try:
            info = AppInfo.parse(self.read(INPUT, 0, AppInfo.COUNT))
        except HardwireError as error:
            if error.code != MODBUS:
                raise
            return None
        return info if info.chip_version == W5500_VERSION else None

    def register(self, response: type[ModbusPDU]) -> None:
        """Have this connection's replies of one function decoded by `response`."""
        self._client.register(response)

    def _objects(self, category: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        next_object = 0
        for _ in range(OBJECTS_MAX):
            pdu: Any = self.request("read_device_information", read_code=category, object_id=next_object)
            found |= pdu.information
            if pdu.more_follows != MORE_FOLLOWS or pdu.next_object_id <= next_object:
                break
            next_object = pdu.next_object_id
        return found

    def request(self, method: str, *arguments: Any, **settings: Any) -> ModbusPDU:
        if not self._client.connected:
            raise self._closed()
        try:
            pdu = getattr(self._client, method)(*arguments, device_id=self.unit, **settings)
        except ConnectionException:
            raise self._closed() from None
        except ModbusException as error:
            logging.getLogger(__name__).info("%s: %s", self.name, error)
            if isinstance(error, ModbusIOException) and error.fcode is None:  # pymodbus: not decoded
                raise HardwireError(
                    FAILED, f"{self.name} answered what is no reply to {method}", "not a conforming server"
                ) from None
            raise HardwireError(
                TIMEOUT,
                f"{self.name} does not answer within {self._timeout:g} s",
                "is its app running? is the unit number right?",
            ) from None
        except OSError as error:
            raise HardwireError(NO_BOARD, f"{self.name}: {error.strerror or error}") from None
        if pdu.isError():
            raise self._exception(pdu)
        return pdu

    def _change(self, method: str, *arguments: Any, **settings: Any) -> None:
        try:
            self.request(method, *arguments, **settings)
        except HardwireError as error:
            if exception_code(error) == ILLEGAL_FUNCTION and self.is_hardwire():
                error.hint = "writes are off: `hardwire config set services.modbus.writes=true`"
            raise

    def _short(self, got: int, asked: int) -> HardwireError:
        return HardwireError(
            FAILED, f"{self.name} answered {got} values, {asked} were asked for", "not a conforming server"
        )

    def _closed(self) -> HardwireError:
        return HardwireError(
            NO_BOARD, f"{self.name} closed the connection without an answer", "all its sockets in use?"
        )

    def _exception(self, pdu: ModbusPDU) -> HardwireError:
        code, function = pdu.exception_code, pdu.function_code & 0x7F
        name = EXCEPTIONS.get(code, "unknown")
        return HardwireError(
            MODBUS,
            f"{self.name} answered exception {code:02X} {name} to function {function:02X}",
            data={"exception": {"code": code, "name": name, "function": function}},
        )


def exception_code(error: HardwireError) -> int | None:
    """The Modbus exception's code, if that is what `error` reports."""
    return error.data["exception"]["code"] if error.code == MODBUS else None


def check_range(address: int, count: int) -> None:
    """Raise HardwireError(USAGE) unless `count` values from 0-based `address` lie in a table."""
    if not 0 <= address < ADDRESSES:
        raise HardwireError(
            USAGE, f"address {address} is outside 0 to {ADDRESSES - 1}", "addresses are 0-based"
        )
    if not 1 <= count <= ADDRESSES - address:
        raise HardwireError(
            USAGE, f"{count} values from address {address} leave the table", f"it ends at {ADDRESSES - 1}"
        )
