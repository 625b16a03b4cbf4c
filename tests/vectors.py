"""Modbus requests and the responses the specification asks for, in bytes written by hand, not by our code.

Tables for any test that has a server, in process or behind an address. A vector is (name, requests,
responses, reason) in hex; steps are separated by "|". AP = MODBUS Application Protocol Specification V1.1b3,
IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b; "policy" = the specification is silent and this is
our choice.

Each vector starts from this content, where what is not named is 0:
"""

COILS = 2000  # addresses 0..1999
DISCRETE_INPUTS = 2000
HOLDING_REGISTERS = ((0, 200), (1000, 10), (65534, 2))  # first address, count
INPUT_REGISTERS = 125
COILS_ON = (0x13, 0x15, 0x16, 0x19, 0x1A, 0x1B, 0x1C, 0x1E, 0x20, 0x21, 0x23, 0x25)  # example of AP 6.1
DISCRETE_INPUTS_ON = tuple(0xC4 + i for i in (2, 3, 5, 7, 8, 9, 11, 12, 14, 15, 16, 18, 20, 21))  # AP 6.2
HOLDING = {0x6B: 0x022B, 0x6D: 0x0064}  # example of AP 6.3
HOLDING.update({3: 0x00FE, 4: 0x0ACD, 5: 0x0001, 6: 0x0003, 7: 0x000D, 8: 0x00FF})  # example of AP 6.17
INPUT = {8: 0x000A}  # example of AP 6.4

ADDRESS = "AP 7, code 02: offset and length must fit"
WRAP = "AP 7, code 02: the sum does not wrap at 65536"
LENGTH = "AP 7, code 03: implied length is incorrect"
VALUE = "AP 6.5: other values are illegal and do not affect the coil"
DISCARD = "IG 4.4.2.2: discarded"

PDUS = (
    # Read coils
    ("01 example", "01 0013 0013", "01 03 CD6B05", "AP 6.1"),
    ("01 one, other bits zero", "01 0013 0001", "01 01 01", "AP 6.1: padded with zeros"),
    ("01 first is the lowest bit", "01 0014 0002", "01 01 02", "AP 6.1"),
    ("01 most", "01 0000 07D0", "01 FA 0000685E2B" + "00" * 245, "AP 6.1: 2000 coils"),
    ("01 one too many", "01 0000 07D1", "81 03", "AP 6.1: quantity 1..2000"),
    ("01 none", "01 0000 0000", "81 03", "AP 6.1: quantity 1..2000"),
    ("01 quantity FFFF", "01 0000 FFFF", "81 03", "AP 6.1: quantity 1..2000"),
    ("01 last", "01 07CF 0001", "01 01 00", ADDRESS),
    ("01 partly outside", "01 07CF 0002", "81 02", ADDRESS),
    ("01 outside", "01 07D0 0001", "81 02", ADDRESS),
    ("01 past 65535", "01 FFFF 0002", "81 02", WRAP),
    ("01 wraps to 0 in 16 bits", "01 FFFF 07D0", "81 02", WRAP),
    ("01 quantity before address", "01 FFFF 0000", "81 03", "AP 6.1, figure: 03 is checked before 02"),
    ("01 function code alone", "01", "81 03", LENGTH),
    ("01 one byte short", "01 0000 00", "81 03", LENGTH),
    ("01 one byte long", "01 0000 0001 00", "81 03", LENGTH),
    # Read discrete inputs
    ("02 example", "02 00C4 0016", "02 03 ACDB35", "AP 6.2"),
    ("02 most", "02 0000 07D0", "02 FA" + "00" * 24 + "C0BA5D03" + "00" * 222, "AP 6.2: 2000 inputs"),
    ("02 one too many", "02 0000 07D1", "82 03", "AP 6.2: quantity 1..2000"),
    ("02 none", "02 0000 0000", "82 03", "AP 6.2: quantity 1..2000"),
    ("02 last", "02 07CF 0001", "02 01 00", ADDRESS),
    ("02 partly outside", "02 07CF 0002", "82 02", ADDRESS),
    ("02 function code alone", "02", "82 03", LENGTH),
    # Read holding registers
    ("03 example", "03 006B 0003", "03 06 022B 0000 0064", "AP 6.3"),
    (
        "03 most",
        "03 0000 007D",
        "03 FA" + "0000" * 3 + "00FE 0ACD 0001 0003 000D 00FF" + "0000" * 98 + "022B 0000 0064" + "0000" * 15,
        "AP 6.3: 125 registers",
    ),
    ("03 one too many", "03 0000 007E", "83 03", "AP 6.3: quantity 1..125"),
    ("03 none", "03 0000 0000", "83 03", "AP 6.3: quantity 1..125"),
    ("03 quantity 256", "03 0000 0100", "83 03", "AP 6.3: quantity 1..125"),
    ("03 up to the end", "03 00C4 0004", "03 08 0000 0000 0000 0000", "AP 7, code 02, example"),
    ("03 one past the end", "03 00C4 0005", "83 02", "AP 7, code 02, example"),
    ("03 in a gap", "03 00C8 0001", "83 02", ADDRESS),
    ("03 second range", "03 03E8 000A", "03 14" + "0000" * 10, "AP 4.3: any addresses"),
    ("03 from a gap into a range", "03 03E7 0002", "83 02", ADDRESS),
    ("03 from a range into a gap", "03 03F1 0002", "83 02", ADDRESS),
    ("03 highest address", "03 FFFF 0001", "03 02 0000", "AP 4.4: addresses 0..65535"),
    ("03 up to the highest address", "03 FFFE 0002", "03 04 0000 0000", "AP 4.4: addresses 0..65535"),
    ("03 past 65535", "03 FFFF 0002", "83 02", WRAP),
    ("03 quantity before address", "03 00C8 0000", "83 03", "AP 6.3, figure: 03 is checked before 02"),
    ("03 function code alone", "03", "83 03", LENGTH),
    ("03 one byte short", "03 0000 00", "83 03", LENGTH),
    ("03 one byte long", "03 0000 0001 00", "83 03", LENGTH),
    # Read input registers
    ("04 example", "04 0008 0001", "04 02 000A", "AP 6.4"),
    ("04 most", "04 0000 007D", "04 FA" + "0000" * 8 + "000A" + "0000" * 116, "AP 6.4: 125 registers"),
    ("04 one too many", "04 0000 007E", "84 03", "AP 6.4: quantity 1..125"),
    ("04 none", "04 0000 0000", "84 03", "AP 6.4: quantity 1..125"),
    ("04 partly outside", "04 007C 0002", "84 02", ADDRESS),
    ("04 function code alone", "04", "84 03", LENGTH),
    # Write single coil
    ("05 example", "05 00AC FF00 | 01 00AC 0001", "05 00AC FF00 | 01 01 01", "AP 6.5"),
    ("05 off", "05 0013 0000 | 01 0013 0013", "05 0013 0000 | 01 03 CC6B05", "AP 6.5"),
    ("05 leaves its neighbours", "05 0014 FF00 | 01 0013 0013", "05 0014 FF00 | 01 03 CF6B05", "AP 6.5"),
    ("05 value 0001", "05 0000 0001 | 01 0000 0001", "85 03 | 01 01 00", VALUE),
    ("05 value FF01", "05 0000 FF01 | 01 0000 0001", "85 03 | 01 01 00", VALUE),
    ("05 value FFFF", "05 0000 FFFF | 01 0000 0001", "85 03 | 01 01 00", VALUE),
    ("05 value 00FF, coil is on", "05 0013 00FF | 01 0013 0001", "85 03 | 01 01 01", VALUE),
    ("05 outside", "05 07D0 FF00", "85 02", ADDRESS),
    ("05 value before address", "05 FFFF 0100", "85 03", "AP 6.5, figure: 03 is checked before 02"),
    ("05 function code alone", "05", "85 03", LENGTH),
    ("05 one byte short", "05 0000 FF", "85 03", LENGTH),
    ("05 one byte long", "05 0000 FF00 00 | 01 0000 0001", "85 03 | 01 01 00", LENGTH),
    # Write single register
    ("06 example", "06 0001 0003 | 03 0001 0001", "06 0001 0003 | 03 02 0003", "AP 6.6"),
    ("06 any value", "06 0000 FFFF | 03 0000 0002", "06 0000 FFFF | 03 04 FFFF 0000", "AP 6.6: 0000..FFFF"),
    ("06 highest address", "06 FFFF 1234 | 03 FFFF 0001", "06 FFFF 1234 | 03 02 1234", "AP 4.4"),
    ("06 outside", "06 00C8 0000", "86 02", ADDRESS),
    ("06 function code alone", "06", "86 03", LENGTH),
    ("06 one byte long", "06 0000 1234 00 | 03 0000 0001", "86 03 | 03 02 0000", LENGTH),
    # Write multiple coils
    ("0F example", "0F 0013 000A 02 CD01 | 01 0013 0013", "0F 0013 000A | 01 03 CD6905", "AP 6.11"),
    ("0F one, others ignored", "0F 0000 0001 01 FF | 01 0000 0010", "0F 0000 0001 | 01 02 0100", "AP 6.11"),
    ("0F across a byte", "0F 0007 0002 01 03 | 01 0000 0010", "0F 0007 0002 | 01 02 8001", "AP 6.11"),
    (
        "0F most",
        "0F 0000 07B0 F6" + "FF" * 246 + "| 01 07A8 0010",
        "0F 0000 07B0 | 01 02 FF00",
        "AP 6.11: 1968 coils",
    ),
    (
        "0F most, from an odd address up to the last coil",
        "0F 0020 07B0 F6" + "A5" * 246 + "| 01 07C0 0010 | 01 0018 0010",
        "0F 0020 07B0 | 01 02 A5A5 | 01 02 5EA5",
        "AP 6.11",
    ),
    (
        "0F most, not aligned",
        "0F 001F 07B0 F6" + "81" * 246 + "| 01 07BF 0011 | 01 0018 0010",
        "0F 001F 07B0 | 01 03 818100 | 01 02 DEC0",
        "AP 6.11",
    ),
    ("0F one too many", "0F 0000 07B1 F7" + "FF" * 247 + "| 01 0000 0001", "8F 03 | 01 01 00", "AP 6.11"),
    ("0F none", "0F 0000 0000 00", "8F 03", "AP 6.11"),
    ("0F byte count too small", "0F 0000 0009 01 FF | 01 0000 0008", "8F 03 | 01 01 00", "AP 6.11"),
    ("0F byte count too large", "0F 0000 0008 02 FFFF | 01 0000 0008", "8F 03 | 01 01 00", "AP 6.11"),
    ("0F byte count off, data right", "0F 0000 0008 02 FF | 01 0000 0008", "8F 03 | 01 01 00", "AP 6.11"),
    ("0F byte missing", "0F 0000 0008 01", "8F 03", LENGTH),
    ("0F byte too many", "0F 0000 0008 01 FFFF | 01 0000 0008", "8F 03 | 01 01 00", LENGTH),
    ("0F no byte count", "0F 0000 0008", "8F 03", LENGTH),
    ("0F function code alone", "0F", "8F 03", LENGTH),
    ("0F partly outside", "0F 07CF 0002 01 03 | 01 07CF 0001", "8F 02 | 01 01 00", ADDRESS),
    ("0F past 65535", "0F FFFF 0002 01 03", "8F 02", WRAP),
    ("0F quantity before address", "0F FFFF 0000 00", "8F 03", "AP 6.11, figure: 03 is checked before 02"),
    # Write multiple registers
    ("10 example", "10 0001 0002 04 000A 0102 | 03 0001 0002", "10 0001 0002 | 03 04 000A 0102", "AP 6.12"),
    (
        "10 most",
        "10 0000 007B F6" + "1234" * 123 + "| 03 007A 0002",
        "10 0000 007B | 03 04 1234 0000",
        "AP 6.12: 123 registers",
    ),
    ("10 one too many", "10 0000 007C F6" + "1234" * 123, "90 03", "AP 6.12: 1..123"),
    ("10 none", "10 0000 0000 00", "90 03", "AP 6.12: 1..123"),
    ("10 byte count odd", "10 0000 0002 03 1111 22 | 03 0000 0001", "90 03 | 03 02 0000", "AP 6.12"),
    ("10 byte count too large", "10 0000 0001 04 1111 2222 | 03 0000 0001", "90 03 | 03 02 0000", "AP 6.12"),
    ("10 byte count off, data right", "10 0000 0002 03 1111 2222", "90 03", "AP 6.12"),
    ("10 byte count wraps", "10 0000 0080 00", "90 03", "AP 6.12: 1..123"),
    ("10 bytes missing", "10 0000 0002 04 1111 | 03 0000 0001", "90 03 | 03 02 0000", LENGTH),
    ("10 bytes too many", "10 0000 0001 02 1111 22 | 03 0000 0001", "90 03 | 03 02 0000", LENGTH),
    ("10 no byte count", "10 0000 0001", "90 03", LENGTH),
    ("10 function code alone", "10", "90 03", LENGTH),
    ("10 partly outside", "10 00C7 0002 04 1111 2222 | 03 00C7 0001", "90 02 | 03 02 0000", ADDRESS),
    ("10 past 65535", "10 FFFF 0002 04 1111 2222 | 03 FFFF 0001", "90 02 | 03 02 0000", ADDRESS),
    ("10 quantity before address", "10 00C8 0000 00", "90 03", "AP 6.12, figure: 03 is checked before 02"),
    # Mask write register
    (
        "16 example",
        "06 0004 0012 | 16 0004 00F2 0025 | 03 0004 0001",
        "06 0004 0012 | 16 0004 00F2 0025 | 03 02 0017",
        "AP 6.16",
    ),
    ("16 and-mask 0 writes", "16 0000 0000 1234 | 03 0000 0001", "16 0000 0000 1234 | 03 02 1234", "AP 6.16"),
    ("16 or-mask 0 ands", "16 0004 0F0F 0000 | 03 0004 0001", "16 0004 0F0F 0000 | 03 02 0A0D", "AP 6.16"),
    ("16 high byte", "16 0004 0FFF A000 | 03 0004 0001", "16 0004 0FFF A000 | 03 02 AACD", "AP 6.16"),
    ("16 outside", "16 00C8 FFFF 0000", "96 02", ADDRESS),
    ("16 function code alone", "16", "96 03", LENGTH),
    ("16 one byte short", "16 0004 0000 00 | 03 0004 0001", "96 03 | 03 02 0ACD", LENGTH),
    ("16 one byte long", "16 0004 0000 0000 00 | 03 0004 0001", "96 03 | 03 02 0ACD", LENGTH),
    # Read/write multiple registers
    (
        "17 example",
        "17 0003 0006 000E 0003 06 00FF 00FF 00FF | 03 000E 0003",
        "17 0C 00FE 0ACD 0001 0003 000D 00FF | 03 06 00FF 00FF 00FF",
        "AP 6.17",
    ),
    ("17 writes before it reads", "17 0000 0002 0001 0001 02 BEEF", "17 04 0000 BEEF", "AP 6.17"),
    (
        "17 most",
        "17 0000 007D 0000 0079 F2" + "A5A5" * 121,
        "17 FA" + "A5A5" * 121 + "0000" * 4,
        "AP 6.17: reads 125, writes 121",
    ),
    ("17 reads too many", "17 0000 007E 0000 0001 02 1111 | 03 0000 0001", "97 03 | 03 02 0000", "AP 6.17"),
    ("17 reads none", "17 0000 0000 0000 0001 02 1111 | 03 0000 0001", "97 03 | 03 02 0000", "AP 6.17"),
    ("17 writes one too many", "17 0000 0001 0000 007A F3" + "11" * 243, "97 03", "AP 6.17: 1..121"),
    ("17 writes none", "17 0000 0001 0000 0000 00", "97 03", "AP 6.17: 1..121"),
    ("17 byte count", "17 0000 0001 0000 0001 04 1111 2222 | 03 0000 0001", "97 03 | 03 02 0000", "AP 6.17"),
    ("17 byte count off, data right", "17 0000 0001 0000 0001 04 1111", "97 03", "AP 6.17"),
    ("17 bytes missing", "17 0000 0001 0000 0001 02 11", "97 03", LENGTH),
    ("17 function code alone", "17", "97 03", LENGTH),
    (
        "17 cannot read, so does not write",
        "17 00C8 0001 0000 0001 02 1111 | 03 0000 0001",
        "97 02 | 03 02 0000",
        "AP 6.17, figure: both ranges are checked first",
    ),
    (
        "17 cannot write",
        "17 0000 0001 00C7 0002 04 1111 2222 | 03 00C7 0001",
        "97 02 | 03 02 0000",
        "AP 6.17",
    ),
    ("17 quantity before address", "17 00C8 0000 00C8 0001 02 1111", "97 03", "AP 6.17, figure"),
    # What is not a request that we know
    ("07 unknown", "07", "87 01", "IG 4.4.2.2; AP 7, code 01"),
    ("08 unknown", "08 0000 1234", "88 01", "AP 6.8: serial line only"),
    ("2B unknown", "2B 0E 01 00", "AB 01", "AP 7, code 01"),
    ("63 unknown, longest", "63" + "00" * 252, "E3 01", "AP 7, code 01"),
    ("64 user defined, unknown", "64 00", "E4 01", "AP 5.1: user-defined codes"),
    ("7F unknown", "7F", "FF 01", "AP 4.1: codes 1..127"),
    ("00 is no function", "00 0000 0001", "80 01", "AP 4.1: code 0 is not valid; policy"),
    ("80 is no request", "80", "80 01", "AP 4.1: 128..255 are for exceptions; policy"),
    ("81 is no request", "81 0000 0001", "81 01", "AP 4.1; must not look like a good answer to 01; policy"),
    ("83 is no request", "83 02", "83 01", "AP 4.1; policy"),
    ("FF is no request", "FF", "FF 01", "AP 4.1; policy"),
)

# Whole ADUs: (name, stream, responses, reason)
FRAMES = (
    ("header is echoed", "1501 0000 0006 FF 03 0004 0001", "1501 0000 0005 FF 03 02 0ACD", "IG 4.4.2.5"),
    ("transaction FFFF", "FFFF 0000 0006 FF 03 0004 0001", "FFFF 0000 0005 FF 03 02 0ACD", "IG 4.4.2.5"),
    ("no broadcast", "0001 0000 0006 00 03 0004 0001", "0001 0000 0005 00 03 02 0ACD", "IG 4.4.1.2"),
    ("any unit", "0001 0000 0006 11 03 0004 0001", "0001 0000 0005 11 03 02 0ACD", "IG 4.4.1.2"),
    ("exception", "1234 0000 0006 07 03 00C8 0001", "1234 0000 0003 07 83 02", "AP 7"),
    ("shortest", "0001 0000 0002 FF 07", "0001 0000 0003 FF 87 01", "AP 4.1"),
    ("longest", "0001 0000 00FE FF 63" + "00" * 252, "0001 0000 0003 FF E3 01", "AP 4.1: ADU of 260 bytes"),
    (
        "several at once",
        "0001 0000 0006 FF 03 0004 0001 0002 0000 0002 FF 07 0003 0000 0006 01 06 0004 1234",
        "0001 0000 0005 FF 03 02 0ACD 0002 0000 0003 FF 87 01 0003 0000 0006 01 06 0004 1234",
        "IG 4.2.1.1: in order, each with its transaction",
    ),
    (
        "longer than the function needs",
        "0001 0000 0008 FF 03 0004 0001 0000 0002 0000 0006 FF 03 0004 0001",
        "0001 0000 0003 FF 83 03 0002 0000 0005 FF 03 02 0ACD",
        LENGTH,
    ),
    (
        "shorter than the function needs",
        "0001 0000 0004 FF 03 0004 0002 0000 0006 FF 03 0004 0001",
        "0001 0000 0003 FF 83 03 0002 0000 0005 FF 03 02 0ACD",
        LENGTH,
    ),
    (
        "protocol 1 is skipped",
        "0001 0001 0006 FF 03 0004 0001 0002 0000 0006 FF 03 0004 0001",
        "0002 0000 0005 FF 03 02 0ACD",
        DISCARD,
    ),
    (
        "protocol 0100 writes nothing",
        "0001 0100 0006 FF 06 0004 FFFF 0002 0000 0006 FF 03 0004 0001",
        "0002 0000 0005 FF 03 02 0ACD",
        DISCARD,
    ),
    (
        "protocol 1, longest",
        "0001 0001 00FE" + "55" * 254 + "0002 0000 0006 FF 03 0004 0001",
        "0002 0000 0005 FF 03 02 0ACD",
        DISCARD,
    ),
    ("protocol 1 alone", "0001 0001 0002 FF 07", "", DISCARD),
)

# Streams after which the connection must be closed: (name, stream, responses before that, reason)
BROKEN = (
    ("length 0", "0001 0000 0000", "", "AP 4.1: unit and function code are always there"),
    ("length 1", "0001 0000 0001 FF", "", "AP 4.1: unit and function code are always there"),
    ("length 255", "0001 0000 00FF", "", "AP 4.1: PDU of 253 bytes at most"),
    ("length FFFF", "0001 0000 FFFF FF 03 0000 0001", "", "policy: never wait for it"),
    ("length 0 of another protocol", "0001 0001 0000 FF 03 0000 0001", "", "policy: cannot be skipped"),
    ("10 of 124 registers", "0001 0000 00FF FF 10 0000 007C F8" + "0000" * 124, "", "AP 6.12"),
    ("17 writes 122 registers", "0001 0000 00FF FF 17 0000 0001 0000 007A F4" + "0000" * 122, "", "AP 6.17"),
    ("another language", "4745 5420 2F20 4854 5450 2F31 2E31 0D0A", "", "policy: GET / HTTP/1.1"),
    (
        "after a good request",
        "0001 0000 0006 FF 03 0004 0001 0002 0000 0000 FF 03 0000 0001 0003 0000 0006 FF 03 0004 0001",
        "0001 0000 0005 FF 03 02 0ACD",
        "policy: what came before is answered, what comes after is not",
    ),
)
