"""The firmware frozen into the image serves from an empty filesystem; its native code runs from flash, in place."""

import socket

from hardwire_host.bundle import blank_filesystem
from hardwire_host.image import find_or_build

BOARD = "w5500_evb_pico"
MODBUS = 502
LIMIT = 60  # s

EXCHANGES = [  # request, answer
    ("0001 0000 0006 01 03 0000 0002", "0001 0000 0007 01 03 04 0000 0000"),
    (
        "0002 0000 0006 01 04 000A 0001",
        "0002 0000 0005 01 04 02 0004",
    ),  # by a hook: version register of the chip
    ("0003 0000 0006 01 03 0064 0001", "0003 0000 0003 01 83 02"),
    ("0004 0000 0006 01 06 0063 1234", "0004 0000 0003 01 86 01"),  # no settings: nobody may write
    ("0005 0000 000A 01 14 07 06 0001 0000 0002", "0005 0000 0009 01 14 06 05 06 48574D31"),  # the map: HWM1
]


def test_modbus(boot):
    live = boot(image=find_or_build(frozen=True), filesystem=blank_filesystem(BOARD))
    live.wait_listening(MODBUS)
    with socket.create_connection(("127.0.0.1", live.forward(MODBUS)), timeout=LIMIT) as connection:
        for request, answer in EXCHANGES:
            connection.sendall(bytes.fromhex(request))
            answer = bytes.fromhex(answer)
            received = connection.recv(len(answer), socket.MSG_WAITALL)
            assert received == answer
