"""Modbus functions on files and queues: 14, 15 and 18.

In: requests as wire.modbus has them; in bank.files what is read and written, as hardwire/records.py has it. Out:
responses. Never: an exception; a record written by a request that is refused.
Source: MODBUS Application Protocol Specification V1.1b3 (AP) 6.14, 6.15, 6.18.
"""

from array import array

from ..compat import const
from .bank import Damaged
from .modbus import ILLEGAL_DATA_ADDRESS, ILLEGAL_DATA_VALUE, MAX_PDU, SERVER_DEVICE_FAILURE

_READ_FILE_RECORD = const(0x14)
_WRITE_FILE_RECORD = const(0x15)
_READ_FIFO_QUEUE = const(0x18)
_MEMORY_PARITY_ERROR = const(8)  # AP 7: "the extended file area failed to pass a consistency check"

_MAX_RECORDS = const(10000)  # 0..270F (AP 6.14)
_REFERENCE = const(6)  # the only reference type
_SUB = const(7)  # bytes of a sub-request
_FIFO_MOST = const(31)  # AP 6.18


class Fifo:
    """A queue of at most `depth` values of 16 bits. Reading it by Modbus leaves it as it is (AP 6.18)."""

    def __init__(self, depth=_FIFO_MOST):
        if not 1 <= depth <= _FIFO_MOST:
            raise ValueError("a FIFO holds 1 to 31 values")
        self._values = array("H", bytes(2 * depth))
        self._first = 0
        self._count = 0
        self.lost = 0  # values that were dropped because the queue was full

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        """The index-th value, oldest first. IndexError."""
        if not 0 <= index < self._count:
            raise IndexError("the queue has no [%d]" % index)
        return self._values[(self._first + index) % len(self._values)]

    def put(self, value):
        """Append `value`, 0..65535; the oldest goes if the queue is full. ValueError."""
        if not 0 <= value <= 0xFFFF:
            raise ValueError("%d is not in 0..65535" % value)
        depth = len(self._values)
        if self._count == depth:
            self._first = (self._first + 1) % depth
            self._count -= 1
            self.lost += 1
        self._values[(self._first + self._count) % depth] = value
        self._count += 1

    def get(self):
        """Take the oldest value. IndexError if there is none."""
        value = self[0]
        self._first = (self._first + 1) % len(self._values)
        self._count -= 1
        return value

    def clear(self):
        """Forget all values."""
        self._count = 0


def install(bank):
    """Register the functions of this file."""
    bank.register(_READ_FILE_RECORD, _read_file)
    bank.register(_WRITE_FILE_RECORD, _write_file, writes=True)
    bank.register(_READ_FIFO_QUEUE, _read_fifo)


def _get16(data, at):
    return data[at] << 8 | data[at + 1]


def _guarded(bank, function, *arguments):
    """0, or an exception code, negated."""
    try:
        function(*arguments)
        return 0
    except Damaged:
        return -_MEMORY_PARITY_ERROR
    except Exception as error:
        if bank.on_error is not None:
            bank.on_error(error)
        return -SERVER_DEVICE_FAILURE


def _addressed(bank, request, at):
    """The File that the sub-request at request[at:] is about, None if it is not all there."""
    file = bank.files.get(_get16(request, at + 1))
    record = _get16(request, at + 3)
    if request[at] != _REFERENCE or file is None or record >= _MAX_RECORDS:
        return None
    try:
        records = file.records
    except OSError:
        return None
    return file if record + _get16(request, at + 5) <= records else None


def _read_file(request, at, n, bank, response, to):
    """AP 6.14."""
    if n < 2 or not 0x07 <= request[at + 1] <= 0xF5 or request[at + 1] != n - 2 or (n - 2) % _SUB:
        return -ILLEGAL_DATA_VALUE
    starts = range(at + 2, at + n, _SUB)
    size = 2 + sum([2 + 2 * _get16(request, sub + 5) for sub in starts])
    if size > MAX_PDU or not all(_get16(request, sub + 5) for sub in starts):
        return -ILLEGAL_DATA_VALUE
    if not all(_addressed(bank, request, sub) for sub in starts):
        return -ILLEGAL_DATA_ADDRESS
    end = to + 2
    for sub in starts:
        count = _get16(request, sub + 5)
        response[end] = 1 + 2 * count
        response[end + 1] = _REFERENCE
        file = _addressed(bank, request, sub)
        failed = _guarded(bank, file.read, _get16(request, sub + 3), count, response, end + 2)
        if failed:
            return failed
        end += 2 + 2 * count
    response[to] = _READ_FILE_RECORD
    response[to + 1] = end - to - 2
    return end - to


def _write_file(request, at, n, bank, response, to):
    """AP 6.15. The response is the request. All sub-requests are checked before the first is executed."""
    if n < 2 or not 0x09 <= request[at + 1] <= 0xFB or request[at + 1] != n - 2:
        return -ILLEGAL_DATA_VALUE
    changes = {}
    wrong = 0
    sub = at + 2
    while sub < at + n:
        if at + n - sub < _SUB:
            return -ILLEGAL_DATA_VALUE
        count = _get16(request, sub + 5)
        data = sub + _SUB
        if not count or data + 2 * count > at + n:
            return -ILLEGAL_DATA_VALUE
        file = _addressed(bank, request, sub)
        if file is None or not file.writable:
            wrong = -ILLEGAL_DATA_ADDRESS
        else:
            change = _get16(request, sub + 3), bytes(request[data : data + 2 * count])
            changes.setdefault(file, []).append(change)
        sub = data + 2 * count
    if wrong:
        return wrong
    for file, parts in changes.items():
        failed = _guarded(bank, file.write, parts)
        if failed:
            return failed
    for i in range(n):
        response[to + i] = request[at + i]
    return n


def _read_fifo(request, at, n, bank, response, to):
    """AP 6.18."""
    if n != 3:
        return -ILLEGAL_DATA_VALUE
    fifo = bank.fifos.get(_get16(request, at + 1))
    if fifo is None:
        return -ILLEGAL_DATA_ADDRESS
    count = len(fifo)
    response[to] = _READ_FIFO_QUEUE
    response[to + 1] = 0
    response[to + 2] = 2 + 2 * count
    response[to + 3] = 0
    response[to + 4] = count
    for i in range(count):
        response[to + 5 + 2 * i] = fifo[i] >> 8
        response[to + 6 + 2 * i] = fifo[i] & 0xFF
    return 5 + 2 * count
