"""What answers on a Modbus-TCP server that nobody described: units, functions, ranges of addresses.

In: a ModbusClient. Out: plain facts. Never: a request that changes anything (so the writing functions are not
tried), a second request while one is open.

An exception 02 says that one of the addresses asked for is not there, not which. So the search asks for single
values where nothing is, and for as many as a request holds where something is: one request for each address that
is missing, a few for each range that is there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pymodbus.pdu.file_message import FileRecord

from ..errors import MODBUS, NO_BOARD, TIMEOUT, HardwireError
from .modbus import (
    EXCEPTIONS,
    ILLEGAL_FUNCTION,
    READ_BITS_MAX,
    READ_REGISTERS_MAX,
    ModbusClient,
    Table,
    exception_code,
)

GATEWAY = (0x0A, 0x0B)  # a gateway's own answers: it knows of no such unit, or heard nothing of it (AP 7)
IDENTIFICATION = 0x2B
CLOSED = "closes the connection"

# Function code, name, pymodbus's method and its arguments: all that can be asked without an effect
FUNCTIONS: tuple[tuple[int, str, str, dict[str, Any]], ...] = (
    (0x01, "read coils", "read_coils", {"address": 0}),
    (0x02, "read discrete inputs", "read_discrete_inputs", {"address": 0}),
    (0x03, "read holding registers", "read_holding_registers", {"address": 0}),
    (0x04, "read input registers", "read_input_registers", {"address": 0}),
    (0x07, "read exception status", "read_exception_status", {}),
    (0x08, "diagnostics", "diag_query_data", {"msg": b"\xa5\x37"}),
    (0x0B, "get comm event counter", "diag_get_comm_event_counter", {}),
    (0x0C, "get comm event log", "diag_get_comm_event_log", {}),
    (0x11, "report server id", "report_device_id", {}),
    (0x14, "read file record", "read_file_record", {"records": [FileRecord(1, 0, record_length=2)]}),
    (0x18, "read fifo queue", "read_fifo_queue", {"address": 0}),
    (IDENTIFICATION, "read device identification", "read_device_information", {"read_code": 1}),
)


@dataclass(frozen=True)
class Answer:
    """How a server answered: with data, with an exception, or with `nothing`, which then says how."""

    exception: int | None = None
    nothing: str = ""

    def __str__(self) -> str:
        if self.exception is None:
            return self.nothing or "answers"
        return f"exception {self.exception:02X} {EXCEPTIONS.get(self.exception, 'unknown')}"

    @property
    def supported(self) -> bool:
        """Whether there is such a function: what is refused for another reason is there."""
        return not self.nothing and self.exception != ILLEGAL_FUNCTION

    @property
    def present(self) -> bool:
        """Whether there is such a unit."""
        return not self.nothing and self.exception not in GATEWAY


def ask(client: ModbusClient, method: str, **arguments: Any) -> Answer:
    """How `client` answers one request. Raises HardwireError when there is no connection and it cannot be made."""
    new = not client.connected
    if new:
        client.connect()
    answer = _ask(client, method, arguments)
    if answer.nothing == CLOSED and not new:  # perhaps for the request before
        client.connect()
        answer = _ask(client, method, arguments)
    return answer


def _ask(client: ModbusClient, method: str, arguments: dict[str, Any]) -> Answer:
    try:
        client.request(method, **arguments)
    except HardwireError as error:
        if error.code == MODBUS:
            return Answer(exception_code(error))
        return Answer(nothing={TIMEOUT: "silent", NO_BOARD: CLOSED}.get(error.code, "garbage"))
    return Answer()


def units(client: ModbusClient, numbers: Iterable[int], tell: Callable[[str], None]) -> dict[int, Answer]:
    """The units that answer a read of holding register 0, by number: an exception is an answer, a gateway's is not.

    `tell` gets what is asked next, in words.
    """
    found = {}
    for number in numbers:
        tell(f"unit {number}")
        client.unit = number
        answer = ask(client, "read_holding_registers", address=0)
        if answer.present:
            found[number] = answer
    return found


def functions(client: ModbusClient, tell: Callable[[str], None]) -> dict[int, Answer]:
    """How each of FUNCTIONS is answered, by code."""
    found = {}
    for code, name, method, arguments in FUNCTIONS:
        tell(f"unit {client.unit}: function {code:02X} {name}")
        found[code] = ask(client, method, **arguments)
    return found


def ranges(
    client: ModbusClient, table: Table, first: int, last: int, tell: Callable[[str], None]
) -> list[tuple[int, int]]:
    """The ranges (first, last, inclusive) of `table` between two addresses that can be read.

    Raises:
        HardwireError: TIMEOUT when an answer fails to come: then nothing is known.
    """
    found: list[tuple[int, int]] = []
    most = READ_BITS_MAX if table.bits else READ_REGISTERS_MAX

    def there(address: int, count: int) -> bool:
        try:
            client.read(table, address, count)
        except HardwireError as error:
            if error.code != MODBUS:
                raise
            if exception_code(error) == ILLEGAL_FUNCTION:
                raise _NoTableError from None
            return False
        return True

    at = first
    try:
        while at <= last:
            tell(f"unit {client.unit}: {table.name} {at}")
            if not there(at, 1):
                at += 1
                continue
            size = _reach(there, at, min(most, last + 1 - at))
            if found and found[-1][1] == at - 1:
                found[-1] = (found[-1][0], at + size - 1)
            else:
                found.append((at, at + size - 1))
            at += size
    except _NoTableError:
        return []
    return found


class _NoTableError(Exception):
    """The server has no function that reads the table."""


def _reach(there: Callable[[int, int], bool], at: int, most: int) -> int:
    """How many values from `at` on one request reads: 1 is known to work, more than `most` are not asked for."""
    if most == 1 or there(at, most):
        return most
    good, bad = 1, most
    while bad - good > 1:
        middle = (good + bad) // 2
        if there(at, middle):
            good = middle
        else:
            bad = middle
    return good
