"""What a Modbus server tells about itself: functions 07, 08, 0B, 0C and 11, in words.

In: a ModbusClient. Out: facts as plain values; None for a function that the server refuses. Never: a changed server,
but for `clear_counters`; the serial-line options of function 08.
Source: MODBUS Application Protocol Specification V1.1b3 (AP).
"""

from typing import Any

from pymodbus.pdu.other_message import ReportDeviceIdResponse

from ..errors import MODBUS, HardwireError
from .modbus import ModbusClient

# Sub-functions of 08 (AP 6.8.1): name, pymodbus's method
COUNTERS = (
    ("bus_messages", "diag_read_bus_message_count"),
    ("communication_errors", "diag_read_bus_comm_error_count"),
    ("exceptions", "diag_read_bus_exception_error_count"),
    ("server_messages", "diag_read_device_message_count"),
    ("no_responses", "diag_read_device_no_response_count"),
    ("server_naks", "diag_read_device_nak_count"),
    ("server_busy", "diag_read_device_busy_count"),
    ("character_overruns", "diag_read_bus_char_overrun_count"),
)

# Entries of the event log (AP 6.10): bit 7 a receive event, bit 6 alone a send event, 00 and 04 as they are
_RESTART, _LISTEN_ONLY = 0x00, 0x04
RECEIVE, _SEND = 0x80, 0x40
_RECEIVE_BITS = (
    (1, "communication error"),
    (4, "character overrun"),
    (5, "in listen-only mode"),
    (6, "broadcast"),
)
_SEND_BITS = (
    (0, "exception 01-03"),
    (1, "exception 04"),
    (2, "exception 05-06"),
    (3, "exception 07"),
    (4, "write timeout"),
    (5, "in listen-only mode"),
)


def event(entry: int) -> str:
    """One byte of the event log in words (AP 6.10)."""
    if entry & RECEIVE:
        kind, bits = "received", _RECEIVE_BITS
    elif entry & _SEND:
        kind, bits = "sent", _SEND_BITS
    elif entry == _RESTART:
        return "communication restarted"
    elif entry == _LISTEN_ONLY:
        return "listen-only mode entered"
    else:
        return "unknown"
    said = [name for bit, name in bits if entry & 1 << bit]
    return f"{kind}: {', '.join(said)}" if said else kind


class _ServerId(ReportDeviceIdResponse):
    """Function 11 with all its bytes: pymodbus takes the last for the run indicator, data may follow that."""

    def decode(self, data: bytes) -> None:
        super().decode(data)
        self.identifier = bytes(data[1 : 1 + self.byte_count])


class Diagnostics:
    """One server's answers. `refusal` is the last exception it answered with, None as long as there was none."""

    def __init__(self, client: ModbusClient) -> None:
        self._client = client
        self.refusal: HardwireError | None = None
        client.register(_ServerId)

    def _ask(self, method: str) -> Any:
        try:
            return self._client.request(method)
        except HardwireError as error:
            if error.code != MODBUS:
                raise
            self.refusal = error
            return None

    def server_id(self) -> dict | None:
        """Function 11 (AP 6.13): {"id": hex, "running": bool | None, "text": str}; None if refused.

        How long the identifier is, only the device's maker knows: it is taken to end before the first byte that can
        be the run indicator, FF or 00.
        """
        pdu = self._ask("report_device_id")
        if pdu is None:
            return None
        data: bytes = pdu.identifier
        end = next((at for at, value in enumerate(data) if value in (0x00, 0xFF)), len(data))
        text = data[end + 1 :] or data[:end]
        return {
            "id": data[:end].hex(" "),
            "running": data[end] == 0xFF if end < len(data) else None,
            "text": text.decode("utf-8", "replace"),
        }

    def exception_status(self) -> int | None:
        """Function 07 (AP 6.7): eight outputs, whose meaning is the device's own."""
        pdu = self._ask("read_exception_status")
        return None if pdu is None else pdu.status

    def counters(self) -> dict[str, int | None] | None:
        """The counters of function 08 by name, None for one that is refused; None if all are."""
        found = {}
        for name, method in COUNTERS:
            pdu = self._ask(method)
            found[name] = None if pdu is None else pdu.message
        return found if any(value is not None for value in found.values()) else None

    def event_counter(self) -> dict | None:
        """Function 0B (AP 6.9): requests that were done, exceptions and this function itself apart."""
        pdu = self._ask("diag_get_comm_event_counter")
        return None if pdu is None else {"busy": not pdu.status, "events": pdu.count}

    def event_log(self) -> dict | None:
        """Function 0C (AP 6.10): the last events, newest first, each as its byte and in words."""
        pdu = self._ask("diag_get_comm_event_log")
        if pdu is None:
            return None
        log = [{"entry": entry, "means": event(entry)} for entry in pdu.events]
        return {"busy": not pdu.status, "events": pdu.event_count, "messages": pdu.message_count, "log": log}

    def clear_counters(self) -> None:
        """Function 08, sub-function 0A: counters and diagnostic register become 0. Raises HardwireError."""
        self._client.request("diag_clear_counters")
