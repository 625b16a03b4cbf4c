"""Modbus requests to the functions that are not about tables, and their responses, in bytes written by hand.

As tests/vectors.py; each vector starts from the bank that `functions_bank` (tests/modbus_common.py) makes of this.
"""

from vectors import LENGTH

IDENTITY = {0: b"hardwire", 1: b"EVB", 2: b"1.0", 4: b"Pump", 0x80: b"x" * 200, 0x81: b"y" * 100}
SERVER_ID = b"\x2a"
STATUS = 0x6D  # example of AP 6.7
REGISTER = 0xA5C3
FILES = {
    4: (100, bytes.fromhex("0DFE 0020")),
    3: (20, bytes(18) + bytes.fromhex("33CD 0040")),
}  # AP 6.14, example
FIFO = {0x04DE: (0x01B8, 0x1284), 9: ()}  # example of AP 6.18

FILE_LENGTH = "AP 6.14: 07..F5, whole sub-requests"
OBJECTS = "0008 6861726477697265 0103 455642 0203 312E30"  # objects 0, 1, 2

FUNCTIONS = (
    ("07 example", "07", "07 6D", "AP 6.7"),
    ("07 long", "07 00", "87 03", LENGTH),
    # Diagnostics
    ("08 echo", "08 0000 A537", "08 0000 A537", "AP 6.8: example"),
    ("08 echo of much", "08 0000" + "A5" * 250, "08 0000" + "A5" * 250, "AP 6.8: N x 2 bytes"),
    ("08 echo without data", "08 0000", "88 03", "AP 6.8: N x 2 bytes"),
    ("08 echo of a half word", "08 0000 A5", "88 03", "AP 6.8: N x 2 bytes"),
    ("08 function code alone", "08", "88 03", LENGTH),
    ("08 restart", "08 0001 0000", "08 0001 0000", "AP 6.8, 01"),
    ("08 restart, clear log", "08 0001 FF00", "08 0001 FF00", "AP 6.8, 01"),
    ("08 restart, else", "08 0001 00FF", "88 03", "AP 6.8, 01"),
    ("08 register", "08 0002 0000", "08 0002 A5C3", "AP 6.8, 02"),
    ("08 register with data", "08 0002 0001", "88 03", "AP 6.8, 02: data 0000"),
    ("08 delimiter", "08 0003 4100", "88 01", "AP 6.8, 03: ASCII mode alone"),
    ("08 listen only", "08 0004 0000", "88 01", "policy: no response would look like a lost connection"),
    (
        "08 clear",
        "08 000A 0000 | 08 0002 0000",
        "08 000A 0000 | 08 0002 0000",
        "AP 6.8, 0A: the register too",
    ),
    ("08 clear with data", "08 000A 0001", "88 03", "AP 6.8, 0A"),
    ("08 overruns", "08 0012 0000", "08 0012 0000", "AP 6.8, 12: TCP has none"),
    ("08 reserved 13", "08 0013 0000", "88 01", "AP 6.8"),
    ("08 clear overrun", "08 0014 0000", "08 0014 0000", "AP 6.8, 14"),
    ("08 unknown", "08 0015 0000", "88 01", "AP 6.8"),
    ("08 unknown before data", "08 0015 0001", "88 01", "AP 6.8, figure: sub-function before data"),
    ("08 sub-function of a page", "08 FFFF 0000", "88 01", "AP 6.8"),
    ("0B long", "0B 00", "8B 03", LENGTH),
    ("0C long", "0C 00", "8C 03", LENGTH),
    # Identification
    ("11", "11", "11 12 2A FF 686172647769726520 45564220 312E30", "AP 6.13"),
    ("11 long", "11 00", "91 03", LENGTH),
    ("2B alone", "2B", "AB 03", LENGTH),
    ("2B CANopen", "2B 0D 00", "AB 01", "AP 6.20"),
    ("2B MEI 0F", "2B 0F", "AB 01", "AP 6.19"),
    ("2B/0E short", "2B 0E 01", "AB 03", LENGTH),
    ("2B/0E long", "2B 0E 01 00 00", "AB 03", LENGTH),
    ("2B/0E code 0", "2B 0E 00 00", "AB 03", "AP 6.21: 01..04"),
    ("2B/0E code 5", "2B 0E 05 00", "AB 03", "AP 6.21: 01..04"),
    ("2B/0E basic", "2B 0E 01 00", "2B 0E 01 83 00 00 03" + OBJECTS, "AP 6.21"),
    ("2B/0E basic from 2", "2B 0E 01 02", "2B 0E 01 83 00 00 01 0203 312E30", "AP 6.21"),
    ("2B/0E regular", "2B 0E 02 00", "2B 0E 02 83 00 00 04" + OBJECTS + "0404 50756D70", "AP 6.21"),
    (
        "2B/0E basic from an object that is not basic",
        "2B 0E 01 04",
        "2B 0E 01 83 00 00 03" + OBJECTS,
        "AP 6.21: from 0",
    ),
    (
        "2B/0E extended, more follows",
        "2B 0E 03 00",
        "2B 0E 03 83 FF 81 05" + OBJECTS + "0404 50756D70 80C8" + "78" * 200,
        "AP 6.21: as many objects as fit, each whole",
    ),
    ("2B/0E extended, next", "2B 0E 03 80", "2B 0E 03 83 FF 81 01 80C8" + "78" * 200, "AP 6.21"),
    ("2B/0E extended, last", "2B 0E 03 81", "2B 0E 03 83 00 00 01 8164" + "79" * 100, "AP 6.21"),
    ("2B/0E one", "2B 0E 04 02", "2B 0E 04 83 00 00 01 0203 312E30", "AP 6.21"),
    ("2B/0E one that is not there", "2B 0E 04 03", "AB 02", "AP 6.21: 02 for individual access"),
    (
        "2B/0E stream from one that is not there",
        "2B 0E 02 03",
        "2B 0E 02 83 00 00 04" + OBJECTS + "0404 50756D70",
        "AP 6.21",
    ),
    # Files
    (
        "14 example",
        "14 0E 06 0004 0001 0002 06 0003 0009 0002",
        "14 0C 05 06 0020 0000 05 06 33CD 0040",
        "AP 6.14: two sub-requests; record 1 of file 4",
    ),
    ("14 first record", "14 07 06 0004 0000 0001", "14 04 03 06 0DFE", "AP 6.14"),
    ("14 last record", "14 07 06 0004 0063 0001", "14 04 03 06 0000", "AP 6.14"),
    ("14 partly outside", "14 07 06 0004 0063 0002", "94 02", "AP 6.14"),
    ("14 no such file", "14 07 06 0005 0000 0001", "94 02", "AP 6.14"),
    ("14 file 0", "14 07 06 0000 0000 0001", "94 02", "AP 6.14: 1..FFFF"),
    ("14 record 270F", "14 07 06 0004 270F 0001", "94 02", "AP 6.14: behind the end of the file"),
    ("14 record 2710", "14 07 06 0004 2710 0001", "94 02", "AP 6.14: 0..270F"),
    ("14 other reference", "14 07 05 0004 0000 0001", "94 02", "AP 6.14: 06"),
    ("14 second is wrong", "14 0E 06 0004 0000 0001 06 0003 0014 0001", "94 02", "AP 6.14"),
    ("14 no records", "14 07 06 0004 0000 0000", "94 03", "AP 6.14"),
    ("14 byte count 0", "14 00", "94 03", FILE_LENGTH),
    ("14 byte count 6", "14 06 06 0004 0000 00", "94 03", FILE_LENGTH),
    ("14 byte count 8", "14 08 06 0004 0000 0001 06", "94 03", FILE_LENGTH),
    ("14 byte count too low", "14 07 06 0004 0000 0001 00", "94 03", FILE_LENGTH),
    ("14 byte count F6", "14 F6" + "00" * 246, "94 03", FILE_LENGTH),
    ("14 function code alone", "14", "94 03", LENGTH),
    ("14 longer than a PDU", "14 0E 06 0004 0000 0050 06 0004 0000 0050", "94 03", "AP 6.14: 253 bytes"),
    ("15 of one", "15 09 06 0004 0007 0001 06AF", "15 09 06 0004 0007 0001 06AF", "AP 6.15"),
    (
        "15 example",
        "15 0D 06 0004 0007 0003 06AF 04BE 100D | 14 07 06 0004 0006 0005",
        "15 0D 06 0004 0007 0003 06AF 04BE 100D | 14 0C 0B 06 0000 06AF 04BE 100D 0000",
        "AP 6.15",
    ),
    (
        "15 of two files",
        "15 12 06 0004 0000 0001 1111 06 0003 0000 0001 2222 | 14 0E 06 0004 0000 0001 06 0003 0000 0001",
        "15 12 06 0004 0000 0001 1111 06 0003 0000 0001 2222 | 14 08 03 06 1111 03 06 2222",
        "AP 6.15",
    ),
    (
        "15 whose second is wrong writes nothing",
        "15 12 06 0004 0000 0001 1111 06 0003 0014 0001 2222 | 14 07 06 0004 0000 0001",
        "95 02 | 14 04 03 06 0DFE",
        "AP 6.15",
    ),
    ("15 other reference", "15 09 07 0004 0007 0001 06AF", "95 02", "AP 6.15"),
    ("15 no records", "15 07 06 0004 0007 0000", "95 03", "AP 6.15: 09..FB"),
    ("15 data shorter", "15 09 06 0004 0007 0002 06AF", "95 03", "AP 6.15"),
    ("15 data longer", "15 0B 06 0004 0007 0001 06AF 0000", "95 03", "AP 6.15"),
    ("15 byte count too high", "15 0A 06 0004 0007 0001 06AF", "95 03", "AP 6.15"),
    ("15 byte count 8", "15 08 06 0004 0007 0001 06", "95 03", "AP 6.15: 09..FB"),
    ("15 function code alone", "15", "95 03", LENGTH),
    (
        "15 into a read-only file",
        "15 09 06 0001 0000 0001 06AF",
        "95 02",
        "policy: that address is not there to write",
    ),
    # Queues
    ("18 example", "18 04DE", "18 0006 0002 01B8 1284", "AP 6.18"),
    ("18 empty", "18 0009", "18 0002 0000", "AP 6.18"),
    (
        "18 leaves it as it is",
        "18 04DE | 18 04DE",
        "18 0006 0002 01B8 1284 | 18 0006 0002 01B8 1284",
        "AP 6.18",
    ),
    ("18 none there", "18 04DF", "98 02", "AP 6.18"),
    ("18 short", "18 04", "98 03", LENGTH),
    ("18 long", "18 04DE 00", "98 03", LENGTH),
)
