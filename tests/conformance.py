"""What any Modbus TCP server must do, whatever its content: requests, and the answers the specification allows.

A case is (name, bytes sent, answers allowed, reason). Bytes are hex; {h} is the first of four holding registers that
exist, {r} the first of four that may be written, {end} the first address behind the holding registers. An answer is a
hex pattern: "?" any digit, "*" any bytes; several are separated by " or "; "closed": the server ends the connection.
AP = MODBUS Application Protocol Specification V1.1b3, IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b.
"""

LENGTH = "AP 7, code 03: implied length is incorrect"
WRAP = "AP 7, code 02: the sum does not wrap at 65536"
ORDER = "AP 6, state diagrams: function, quantity, address, execution"
OPTIONAL = "AP 5.1: what is not offered is refused with 01"


def bits(n):
    return "00" * ((n + 7) // 8)


PDUS = (
    # Framed with every other thing right
    ("03 one", "03 {h} 0001", "03 02 ????", "AP 6.3"),
    ("03 four", "03 {h} 0004", "03 08 ????????????????", "AP 6.3"),
    ("03 none", "03 {h} 0000", "83 03", "AP 6.3: 1..125"),
    ("03 one too many", "03 {h} 007E", "83 03", "AP 6.3: 1..125"),
    ("03 quantity FFFF", "03 {h} FFFF", "83 03", "AP 6.3: 1..125"),
    ("03 quantity before address", "03 FFFF 0000", "83 03", ORDER),
    ("03 past 65535", "03 FFFF 0002", "83 02", WRAP),
    ("03 behind the end", "03 {end} 0001", "83 02", "AP 7, code 02"),
    ("03 function code alone", "03", "83 03", LENGTH),
    ("03 one byte short", "03 {h} 00", "83 03", LENGTH),
    ("03 one byte long", "03 {h} 0001 00", "83 03", LENGTH),
    ("04 none", "04 0000 0000", "84 03", "AP 6.4: 1..125"),
    ("04 one too many", "04 0000 007E", "84 03", "AP 6.4: 1..125"),
    ("04 past 65535", "04 FFFF 0002", "84 02", WRAP),
    ("04 function code alone", "04", "84 03", LENGTH),
    ("01 none", "01 0000 0000", "81 03", "AP 6.1: 1..2000"),
    ("01 one too many", "01 0000 07D1", "81 03", "AP 6.1: 1..2000"),
    ("01 past 65535", "01 FFFF 0002", "81 02", WRAP),
    ("01 function code alone", "01", "81 03", LENGTH),
    ("02 none", "02 0000 0000", "82 03", "AP 6.2: 1..2000"),
    ("02 one too many", "02 0000 07D1", "82 03", "AP 6.2: 1..2000"),
    ("02 past 65535", "02 FFFF 0002", "82 02", WRAP),
    ("05 value 1", "05 0000 0001", "85 03 or 85 01", "AP 6.5: FF00 and 0000 are all there is"),
    ("05 value FFFF", "05 0000 FFFF", "85 03 or 85 01", "AP 6.5"),
    ("05 value 00FF", "05 0000 00FF", "85 03 or 85 01", "AP 6.5"),
    ("05 short", "05 0000 FF", "85 03 or 85 01", LENGTH),
    ("06 short", "06 {h} 12", "86 03 or 86 01", LENGTH),
    ("06 behind the end", "06 {end} 1234", "86 02 or 86 01", "AP 7, code 02"),
    ("0F none", "0F 0000 0000 00", "8F 03 or 8F 01", "AP 6.11: 1..1968"),
    ("0F one too many", "0F 0000 07B1 F7" + bits(1969), "8F 03 or 8F 01", "AP 6.11: 1..1968"),
    ("0F wrong byte count", "0F 0000 0009 01 FF", "8F 03 or 8F 01", "AP 6.11"),
    ("0F byte count too high", "0F 0000 0008 02 FFFF", "8F 03 or 8F 01", "AP 6.11"),
    ("0F data shorter than counted", "0F 0000 0009 02 FF", "8F 03 or 8F 01", LENGTH),
    ("0F past 65535", "0F FFFF 0002 01 03", "8F 02 or 8F 01", WRAP),
    ("10 none", "10 {h} 0000 00", "90 03 or 90 01", "AP 6.12: 1..123"),
    ("10 wrong byte count", "10 {h} 0002 02 1234", "90 03 or 90 01", "AP 6.12"),
    ("10 odd byte count", "10 {h} 0001 03 123456", "90 03 or 90 01", "AP 6.12"),
    ("10 data shorter than counted", "10 {h} 0002 04 123456", "90 03 or 90 01", LENGTH),
    ("10 data longer than counted", "10 {h} 0001 02 123456", "90 03 or 90 01", LENGTH),
    ("10 past 65535", "10 FFFF 0002 04 00000000", "90 02 or 90 01", WRAP),
    ("10 most, partly outside", "10 FFC0 007B F6" + "00" * 246, "90 02 or 90 01", WRAP),
    ("16 short", "16 {h} FFFF 00", "96 03 or 96 01", LENGTH),
    ("16 behind the end", "16 {end} FFFF 0000", "96 02 or 96 01", "AP 6.16"),
    ("17 reads none", "17 {h} 0000 {h} 0001 02 0000", "97 03 or 97 01", "AP 6.17: 1..125"),
    ("17 reads too many", "17 {h} 007E {h} 0001 02 0000", "97 03 or 97 01", "AP 6.17: 1..125"),
    ("17 writes none", "17 {h} 0001 {h} 0000 00", "97 03 or 97 01", "AP 6.17: 1..121"),
    ("17 wrong byte count", "17 {h} 0001 {h} 0002 02 0000", "97 03 or 97 01", "AP 6.17"),
    ("17 read range outside", "17 {end} 0001 {h} 0001 02 0000", "97 02 or 97 01", "AP 6.17"),
    ("07", "07", "07 ?? or 87 01", OPTIONAL),
    ("07 long", "07 00", "87 03 or 87 01", LENGTH),
    ("08 echo", "08 0000 A537", "08 0000 A537 or 88 01", "AP 6.8: returned as it came"),
    ("08 echo of much", "08 0000" + "A5" * 250, "08 0000" + "A5" * 250 + " or 88 01 or 88 03", "AP 6.8"),
    ("08 unknown sub-function", "08 00FF 0000", "88 01 or 88 03", "AP 6.8"),
    ("08 counter with data", "08 000B 0001", "88 03 or 88 01", "AP 6.8: data 0000"),
    ("08 alone", "08", "88 03 or 88 01", LENGTH),
    ("0B", "0B", "0B 0000 ???? or 0B FFFF ???? or 8B 01", "AP 6.9"),
    ("0B long", "0B 00", "8B 03 or 8B 01", LENGTH),
    ("0C", "0C", "0C * or 8C 01", "AP 6.10"),
    ("11", "11", "11 * or 91 01", "AP 6.13"),
    ("11 long", "11 00", "91 03 or 91 01", LENGTH),
    ("14 byte count 6", "14 06 06 0001 0000 00", "94 03 or 94 01", "AP 6.14: 07..F5"),
    ("14 reference type 5", "14 07 05 0001 0000 0001", "94 02 or 94 01", "AP 6.14"),
    ("14 record 10000", "14 07 06 0001 2710 0001", "94 02 or 94 01", "AP 6.14"),
    ("14 file 0", "14 07 06 0000 0000 0001", "94 02 or 94 01", "AP 6.14"),
    ("15 byte count 8", "15 08 06 0002 0000 0001 00", "95 03 or 95 01", "AP 6.15: 09..FB"),
    ("18 short", "18 00", "98 03 or 98 01", LENGTH),
    ("18 no queue", "18 FFFE", "98 02 or 98 01", "AP 6.18"),
    ("2B other MEI", "2B 0F 01 00", "AB 01", "AP 6.19"),
    ("2B alone", "2B", "AB 03 or AB 01", LENGTH),
    ("2B/0E code 5", "2B 0E 05 00", "AB 03 or AB 01", "AP 6.21"),
    ("2B/0E code 0", "2B 0E 00 00", "AB 03 or AB 01", "AP 6.21"),
    ("2B/0E basic", "2B 0E 01 00", "2B 0E 01 * or AB 01", "AP 6.21"),
    (
        "2B/0E unknown object of a stream",
        "2B 0E 01 77",
        "2B 0E 01 ?? ?? ?? ?? 00 * or AB 01",
        "AP 6.21: from 0 on",
    ),
    ("2B/0E unknown object", "2B 0E 04 77", "AB 02 or AB 01", "AP 6.21"),
    ("2B/0E one object", "2B 0E 04 00", "2B 0E 04 8? 00 00 01 00 * or AB 01 or AB 02", "AP 6.21"),
    ("unknown 09", "09", "89 01", "AP 4.1"),
    ("unknown 0A with data", "0A 01020304", "8A 01", "AP 4.1"),
    ("unknown 19", "19 0000", "99 01", "AP 4.1"),
    ("unknown 64, longest", "64" + "00" * 252, "E4 01", "AP 4.1"),
    ("unknown 7F", "7F", "FF 01", "AP 4.1"),
    ("function code 0", "00", "80 01 or closed", "AP 4.1: not valid"),
    ("function code 80", "80", "80 01 or closed", "AP 4.1: codes of exceptions"),
    ("function code 83", "83 {h} 0001", "83 01 or closed", "AP 7: no reply that looks like a good one"),
    ("function code FF", "FF", "FF 01 or closed", "AP 4.1"),
)

WRITES = (  # steps separated by "|"; only where the target lets us write
    ("06", "06 {r} 1234 | 03 {r} 0001", "06 {r} 1234 | 03 02 1234", "AP 6.6"),
    (
        "10 of four",
        "10 {r} 0004 08 1111222233334444 | 03 {r} 0004",
        "10 {r} 0004 | 03 08 1111222233334444",
        "AP 6.12",
    ),
    (
        "10 partly outside writes nothing",
        "06 {r} 0001 | 10 {r} 007B F6" + "AA" * 246 + " | 03 {r} 0001",
        "06 {r} 0001 | 90 02 or 10 {r} 007B | 03 02 0001 or 03 02 AAAA",
        "AP 7, code 02",
    ),
    (
        "10 with a wrong byte count writes nothing",
        "06 {r} 0001 | 10 {r} 0001 04 AAAAAAAA | 03 {r} 0001",
        "06 {r} 0001 | 90 03 | 03 02 0001",
        "AP 6.12",
    ),
    (
        "16 example",
        "06 {r} 0012 | 16 {r} 00F2 0025 | 03 {r} 0001",
        "06 {r} 0012 | 16 {r} 00F2 0025 or 96 01 | 03 02 0017 or 03 02 0012",
        "AP 6.16: (current and AND) or (OR and not AND)",
    ),
    (
        "17 writes before it reads",
        "06 {r} 0000 | 17 {r} 0001 {r} 0001 02 BEEF",
        "06 {r} 0000 | 17 02 BEEF or 97 01",
        "AP 6.17",
    ),
    (
        "17 that reads outside writes nothing",
        "06 {r} 0001 | 17 {end} 0001 {r} 0001 02 BEEF | 03 {r} 0001",
        "06 {r} 0001 | 97 02 or 97 01 | 03 02 0001",
        "AP 6.17",
    ),
)

STREAMS = (  # bytes of a connection, and all that comes back before it is silent or closed
    ("header is echoed", "1501 0000 0006 FF 03 {h} 0001", "1501 0000 0005 FF 03 02 ????", "IG 4.4.2.5"),
    ("unit 0 is no broadcast", "0001 0000 0006 00 03 {h} 0001", "0001 0000 0005 00 03 02 ????", "IG 4.4.1.2"),
    ("unit 1", "FFFF 0000 0006 01 03 {h} 0001", "FFFF 0000 0005 01 03 02 ????", "IG 4.4.1.2"),
    (
        "another protocol is skipped",
        "0001 0001 0006 FF 03 {h} 0001 0002 0000 0006 FF 03 {h} 0001",
        "0002 0000 0005 FF 03 02 ????",
        "IG 4.4.2.2: simply discarded",
    ),
    (
        "several at once",
        "0001 0000 0006 FF 03 {h} 0001 0002 0000 0002 FF 7F 0003 0000 0006 FF 03 {h} 0002",
        "0001 0000 0005 FF 03 02 ???? 0002 0000 0003 FF FF 01 0003 0000 0007 FF 03 04 ????????",
        "IG 4.2.1.1: in order",
    ),
    (
        "longer than the function needs",
        "0001 0000 0008 FF 03 {h} 0001 0000 0002 0000 0006 FF 03 {h} 0001",
        "0001 0000 0003 FF 83 03 0002 0000 0005 FF 03 02 ????",
        LENGTH,
    ),
    ("length 0", "0001 0000 0000 FF 03 {h} 0001", "closed", "AP 4.1"),
    ("length 1", "0001 0000 0001 FF 03 {h} 0001", "closed", "AP 4.1"),
    (
        "length 255",
        "0001 0000 00FF FF 10 {h} 007C F8" + "00" * 248,
        "closed or 0001 0000 0003 FF 90 03",
        "AP 6.12",
    ),
    ("length FFFF", "0001 0000 FFFF FF 03 {h} 0001", "closed", "never wait for 64 KB"),
)
