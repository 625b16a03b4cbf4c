"""A Modbus-TCP client for people: tables by name, long reads in legal requests, one clear error. On pymodbus.

In: host, port, unit; 0-based addresses. Out: lists of int (registers) or bool (bits), or HardwireError:
NO_BOARD when there is no connection, TIMEOUT when no answer comes, MODBUS with the exception's number.
Never: a retry or a silent reconnect (both hide loss), framing of our own, output.

Limits and names: MODBUS Application Protocol Specification V1.1b3, sections 6 and 7.
"""

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from ..errors import FAILED, MODBUS, NO_BOARD, TIMEOUT, USAGE, HardwireError

PORT = 502
UNIT = 1
TIMEOUT_S = 3.0

ADDRESSES = 65536
READ_BITS_MAX = 2000  # 6.1
READ_REGISTERS_MAX = 125  # 6.3
WRITE_BITS_MAX = 1968  # 6.11
WRITE_REGISTERS_MAX = 123  # 6.12

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
BASIC, REGULAR = 0x01, 0x02  # read device id codes
MORE_FOLLOWS = 0xFF
OBJECTS_MAX = 256  # object ids are one byte: a server that never ends is stopped here


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


class ModbusClient:
    """One connection to a Modbus-TCP server; a context manager.

    Args:
        host, port: the server.
        unit: unit identifier, 0-255 (0 and 255 mean the server itself).
        timeout: longest wait for the connection and for each answer, in seconds.
    """

    def __init__(self, host: str, port: int = PORT, unit: int = UNIT, timeout: float = TIMEOUT_S) -> None:
        self.name = f"{host}:{port}"
        self._unit = unit
        self._timeout = timeout
        # pymodbus logs what it raises; without a handler Python would print that on stderr.
        logging.getLogger("pymodbus").addHandler(logging.NullHandler())
        self._client = ModbusTcpClient(host, port=port, timeout=timeout, retries=0)
        try:
            # pymodbus would swallow the reason
            self._client.socket = socket.create_connection((host, port), timeout)
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
            pdu = self._request(table.read, address + len(values), count=part)
            got = pdu.bits if table.bits else pdu.registers  # bits are padded to whole bytes
            if len(got) < part:
                raise HardwireError(
                    FAILED,
                    f"{self.name} answered {len(got)} values, {part} were asked for",
                    "not a conforming server",
                )
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
                self._request("write_coil", address, bits[0])
            else:
                self._request("write_coils", address, bits)
        elif len(values) == 1:
            self._request("write_register", address, values[0])
        else:
            self._request("write_registers", address, list(values))

    def identify(self) -> dict[str, str]:
        """Device identification, FC 2B/0E: basic objects, and the regular ones where the server has them.

        Raises:
            HardwireError: MODBUS with code 1 when the server does not offer it.
        """
        objects = self._objects(BASIC)
        try:
            objects |= self._objects(REGULAR)
        except HardwireError as error:
            if error.code != MODBUS:
                raise
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

    def _objects(self, category: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        next_object = 0
        for _ in range(OBJECTS_MAX):
            pdu: Any = self._request("read_device_information", read_code=category, object_id=next_object)
            found |= pdu.information
            if pdu.more_follows != MORE_FOLLOWS or pdu.next_object_id <= next_object:
                break
            next_object = pdu.next_object_id
        return found

    def _request(self, method: str, *arguments: Any, **settings: Any) -> ModbusPDU:
        if not self._client.connected:
            raise self._closed()
        try:
            pdu = getattr(self._client, method)(*arguments, device_id=self._unit, **settings)
        except ConnectionException:
            raise self._closed() from None
        except ModbusException as error:
            logging.getLogger(__name__).info("%s: %s", self.name, error)
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
