"""Modbus requests and the responses the specification asks for: bytes written by hand, none produced by our code.

In: nothing. Out: tables for any test that has a server, in process or behind an address.
AP = MODBUS Application Protocol Specification V1.1b3, IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b;
"policy" = the specification is silent and this is our choice.

Every vector starts from this content; what is not named is 0:
"""

COILS = 2000  # addresses 0..1999
COILS_ON = (0x13, 0x15, 0x16, 0x19, 0x1A, 0x1B, 0x1C, 0x1E, 0x1F, 0x21, 0x22, 0x24, 0x26)  # the example of AP 6.1 ...
COILS_ON = (0x13, 0x15, 0x16, 0x19, 0x1A)
