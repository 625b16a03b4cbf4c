"""A client of the file protocol, written from docs/files.md alone: whether that page is enough is what it tests.

In: an address, paths, bytes. Out: what the server answered, or Refused. Never: an import of ours.
"""

import hmac
import os
import socket
import struct
import zlib
from hashlib import sha256

PATIENCE_S = 20  # for any answer, on a busy PC
HELLO, AUTH, PING, LIST, STAT, GET, PUT, HASH = 0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13, 0x14
DELETE, RENAME, MKDIR, RMDIR, SPACE, CANCEL = 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A
DATA, END, ACK, RESEND, NOTE, ENTRIES = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25
ANSWER, STORED, ERROR = 0x80, 0xA1, 0xFF
TO_THE_END = 0xFFFFFFFF


class Refused(Exception):
    """An ERROR came. Attributes number, code, text."""

    def __init__(self, number, payload):
        self.number, self.code, self.text = number, payload[0], payload[1:].decode()
        super().__init__(f"{self.code}: {self.text}")


class Closed(Exception):
    """The server closed the connection."""


def frame(kind, number, payload=b""):
    """The bytes of a frame."""
    head = struct.pack(">HBBH", len(payload), kind, 0, number)
    head = head[:3] + bytes([(255 - sum(head)) % 256]) + head[4:]
    return head + struct.pack(">I", zlib.crc32(head + payload)) + payload


class PageClient:
    """A connection to `address` (host, port), after HELLO. A context manager.

    Args:
        limit: the largest payload that it takes.
        nonce: its nonce, 16 bytes; None: a new one.
    """

    def __init__(self, address, limit=1024, nonce=None):
        self.socket = socket.create_connection(address, PATIENCE_S)
        self.nonce = nonce or os.urandom(16)
        self._number = 0
        self.notes = []
        answer = self.ask(HELLO, b"HWFS" + bytes([1, 1]) + struct.pack(">H", limit) + self.nonce)
        self.version, self.access, self.limit, self.window, self.flight, self.depth, _ = struct.unpack(
            ">BBHIBBH", answer[:12]
        )
        self.server_nonce, self.identity, self.name = answer[12:28], answer[28:34], answer[34:].decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the connection."""
        self.socket.close()

    def number(self):
        """An id that no request has."""
        self._number = self._number % 0xFFFF + 1
        return self._number

    def send(self, kind, payload=b"", number=None):
        """Send a frame; returns its id, a new one unless `number` says which."""
        number = self.number() if number is None else number
        self.socket.sendall(frame(kind, number, payload))
        return number

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise Closed
            data += more
        return data

    def receive(self):
        """The next frame: (type, id, payload)."""
        try:
            head = self._exactly(10)
            count, kind, _, number, crc = struct.unpack(">HBBHI", head)
            assert sum(head[:6]) % 256 == 255
            payload = self._exactly(count)
        except ConnectionError:
            raise Closed from None
        assert zlib.crc32(head[:6] + payload) == crc
        return kind, number, payload

    def answer(self, number, *kinds):
        """The next frame for request `number`, of one of `kinds`: (type, payload). Keeps NOTEs. Raises Refused."""
        while True:
            kind, of, payload = self.receive()
            if kind == ERROR and of in (number, 0):
                raise Refused(of, payload)
            if of != number:
                continue
            if kind == NOTE:
                self.notes.append((payload[0], payload[1:].decode()))
                continue
            assert kind in kinds, f"{kind:02X}"
            return kind, payload

    def ask(self, kind, payload=b""):
        """Payload of the answer to a request that has one frame each way."""
        return self.answer(self.send(kind, payload), kind | ANSWER)[1]

    def auth(self, key, role):
        """Prove that we have `key`, and see that the server has it. role: 1 read, 2 write."""
        rest = bytes([self.version, role]) + self.nonce + self.server_nonce
        proof = hmac.digest(key.encode(), b"HWFS client" + rest, "sha256")
        answer = self.ask(AUTH, bytes([role]) + proof)
        assert answer == bytes([role]) + hmac.digest(key.encode(), b"HWFS server" + rest, "sha256")

    def list(self, path="", *, recursive=False, hashes=False):
        """[(kind, size, time, SHA-256 or None, path), ...]"""
        number = self.send(LIST, bytes([recursive + 2 * hashes]) + path.encode())
        found = []
        while True:
            kind, payload = self.answer(number, ENTRIES, LIST | ANSWER)
            if kind == LIST | ANSWER:
                assert struct.unpack(">I", payload) == (len(found),)
                return found
            at = 0
            while at < len(payload):
                one, size, time = struct.unpack_from(">BII", payload, at)
                at += 9
                digest = None
                if hashes:
                    digest = payload[at : at + 32]
                    at += 32
                (count,) = struct.unpack_from(">H", payload, at)
                at += 2
                found.append((one, size, time, digest, payload[at : at + count].decode()))
                at += count

    def stat(self, path):
        """(kind, size, time)"""
        return struct.unpack(">BII", self.ask(STAT, path.encode()))

    def get(self, path, have=b"", *, resume=False, offset=0, length=TO_THE_END):
        """Bytes of a file. resume: `have` is its beginning, the rest is asked for; else those from `offset`."""
        if resume:
            offset = len(have)
        crc = zlib.crc32(have) if resume else 0
        payload = struct.pack(">BIII", resume, offset, length, crc) + path.encode()
        number = self.send(GET, payload)
        self.answer(number, GET | ANSWER)
        data = b""
        while True:
            kind, payload = self.answer(number, DATA, END)
            (at,) = struct.unpack_from(">I", payload)
            assert at == offset + len(data) or (kind == END and at < offset)  # the file ends before offset
            if kind == END:
                whole = have + data if resume else data
                assert payload[4:] == sha256(whole).digest()
                return whole
            data += payload[4:]

    def put(self, path, data, *, token=b"12345678", resume=False, only_new=False, cut=None):
        """Store `data`; flags of STORED. cut: send so many bytes and leave it. Attributes sent, started, others."""
        payload = struct.pack(">BI", resume + 2 * only_new, len(data)) + token + path.encode()
        number = self.send(PUT, payload)
        _, payload = self.answer(number, PUT | ANSWER)
        at, crc, self.others = struct.unpack(">IIB", payload)
        self.started, self.sent = at, 0
        if at > len(data) or zlib.crc32(data[:at]) != crc:
            self.ask(CANCEL, struct.pack(">HB", number, 1))
            return self.put(path, data, token=token, only_new=only_new, cut=cut)
        acknowledged = at
        while acknowledged < len(data):
            while at < len(data) and at < acknowledged + self.window:
                count = min(self.limit - 4, len(data) - at, acknowledged + self.window - at)
                if cut is not None:
                    count = min(count, cut - self.sent)
                    if count == 0:
                        return None
                self.send(DATA, struct.pack(">I", at) + data[at : at + count], number)
                at += count
                self.sent += count
            kind, payload = self.answer(number, ACK, RESEND)
            (offset,) = struct.unpack(">I", payload)
            if kind == RESEND:
                at = offset
            else:
                acknowledged = offset
        digest = sha256(data).digest()
        self.send(END, digest, number)
        while True:
            kind, payload = self.answer(number, ACK, RESEND, STORED)
            if kind == STORED:
                assert payload[1:] == digest
                return payload[0]
            if kind == RESEND:  # END was damaged: all of the data is acknowledged
                assert payload == struct.pack(">I", len(data))
                self.send(END, digest, number)

    def hash(self, path):
        """(size, SHA-256)"""
        payload = self.ask(HASH, path.encode())
        return struct.unpack(">I", payload[:4])[0], payload[4:]

    def delete(self, path):
        """Delete a file."""
        assert self.ask(DELETE, path.encode()) == b""

    def rename(self, old, new, *, replace=False):
        """Give a file or folder another name."""
        payload = struct.pack(">BH", replace, len(old.encode())) + old.encode() + new.encode()
        assert self.ask(RENAME, payload) == b""

    def mkdir(self, path, *, parents=False):
        """Make a folder."""
        assert self.ask(MKDIR, bytes([parents]) + path.encode()) == b""

    def rmdir(self, path):
        """Delete an empty folder."""
        assert self.ask(RMDIR, path.encode()) == b""

    def space(self):
        """(total, free)"""
        return struct.unpack(">QQ", self.ask(SPACE))
