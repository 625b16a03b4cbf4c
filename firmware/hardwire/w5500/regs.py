"""W5500 register map: addresses, commands, states, bits that the driver uses. Numbers without logic.

Each costs 30 bytes of heap on the board: those that only the chip model knows are in hardwire_host/virtual/regs.py.

Source: W5500 datasheet v1.0.9, sections 2 (SPI frame), 3 (memory map) and 4 (registers).
Sixteen-bit registers are big-endian pairs; the name is the address of the high byte.
"""

from ..compat import const

# SPI frame (2.2.2): address high, address low, control, data...; control = BLOCK | WRITE (variable length mode).
WRITE = const(0x04)
COMMON = const(0x00)  # block select bits in place; for socket n add n * SOCKET_STEP to the next three
SOCKET = const(0x08)
TX = const(0x10)
RX = const(0x18)
SOCKET_STEP = const(0x20)
SOCKETS = const(8)

# Common registers (4.1)
MR = const(0x00)
GAR = const(0x01)
INTLEVEL = const(0x13)
IR = const(0x15)
IMR = const(0x16)
SIR = const(0x17)
SIMR = const(0x18)
RTR = const(0x19)
RCR = const(0x1B)
PTIMER = const(0x1C)
PHYCFGR = const(0x2E)
VERSIONR = const(0x39)
COMMON_END = const(0x3A)

VERSION = const(0x04)  # the one value VERSIONR has

MR_RST = const(0x80)

IR_CONFLICT = const(0x80)

PHY_LNK = const(0x01)

# Socket registers (4.2)
SN_MR = const(0x00)
SN_CR = const(0x01)
SN_IR = const(0x02)
SN_SR = const(0x03)
SN_PORT = const(0x04)
SN_DIPR = const(0x0C)
SN_RXBUF_SIZE = const(0x1E)
SN_TX_FSR = const(0x20)
SN_TX_WR = const(0x24)
SN_RX_RD = const(0x28)
SN_IMR = const(0x2C)
SN_KPALVTR = const(0x2F)
SOCKET_END = const(0x30)

# Sn_MR: protocol and its options
P_TCP = const(0x1)
P_UDP = const(0x2)
MR_ND = const(0x20)  # TCP: no delayed ACK; UDP: IGMP version 1; MACRAW: block multicast

# Sn_CR commands
OPEN = const(0x01)
LISTEN = const(0x02)
CONNECT = const(0x04)
DISCON = const(0x08)
CLOSE = const(0x10)
SEND = const(0x20)
RECV = const(0x40)

# Sn_IR bits
I_SENDOK = const(0x10)
I_TIMEOUT = const(0x08)
I_RECV = const(0x04)
I_DISCON = const(0x02)
I_CON = const(0x01)

# Sn_SR states
CLOSED = const(0x00)
INIT = const(0x13)
LISTENING = const(0x14)
SYNSENT = const(0x15)
SYNRECV = const(0x16)
ESTABLISHED = const(0x17)
TIME_WAIT = const(0x1B)
CLOSE_WAIT = const(0x1C)
UDP = const(0x22)
