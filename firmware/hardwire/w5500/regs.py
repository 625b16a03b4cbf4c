"""W5500 register map: addresses, commands, states, bits. Numbers without logic, shared by driver and chip model.

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
MEMORY_KB = const(16)  # to share among the sockets, per direction

# Common registers (4.1)
MR = const(0x00)
GAR = const(0x01)
SUBR = const(0x05)
SHAR = const(0x09)
SIPR = const(0x0F)
INTLEVEL = const(0x13)
IR = const(0x15)
IMR = const(0x16)
SIR = const(0x17)
SIMR = const(0x18)
RTR = const(0x19)
RCR = const(0x1B)
PTIMER = const(0x1C)
PMAGIC = const(0x1D)
PHAR = const(0x1E)
PSID = const(0x24)
PMRU = const(0x26)
UIPR = const(0x28)
UPORTR = const(0x2C)
PHYCFGR = const(0x2E)
VERSIONR = const(0x39)
COMMON_END = const(0x3A)

VERSION = const(0x04)  # the one value VERSIONR has

MR_RST = const(0x80)
MR_WOL = const(0x20)
MR_PB = const(0x10)
MR_PPPOE = const(0x08)
MR_FARP = const(0x02)

IR_CONFLICT = const(0x80)
IR_UNREACH = const(0x40)
IR_PPPOE = const(0x20)
IR_MP = const(0x10)

PHY_RST = const(0x80)
PHY_OPMD = const(0x40)
PHY_OPMDC = const(0x38)  # field; 111 = all capable, auto-negotiation; 110 = power down
PHY_DPX = const(0x04)
PHY_SPD = const(0x02)
PHY_LNK = const(0x01)

# Socket registers (4.2)
SN_MR = const(0x00)
SN_CR = const(0x01)
SN_IR = const(0x02)
SN_SR = const(0x03)
SN_PORT = const(0x04)
SN_DHAR = const(0x06)
SN_DIPR = const(0x0C)
SN_DPORT = const(0x10)
SN_MSSR = const(0x12)
SN_TOS = const(0x15)
SN_TTL = const(0x16)
SN_RXBUF_SIZE = const(0x1E)
SN_TXBUF_SIZE = const(0x1F)
SN_TX_FSR = const(0x20)
SN_TX_RD = const(0x22)
SN_TX_WR = const(0x24)
SN_RX_RSR = const(0x26)
SN_RX_RD = const(0x28)
SN_RX_WR = const(0x2A)
SN_IMR = const(0x2C)
SN_FRAG = const(0x2D)
SN_KPALVTR = const(0x2F)
SOCKET_END = const(0x30)

# Sn_MR: protocol and its options
P_CLOSED = const(0x0)
P_TCP = const(0x1)
P_UDP = const(0x2)
P_IPRAW = const(0x3)
P_MACRAW = const(0x4)
MR_MULTI = const(0x80)  # UDP; MAC filter in MACRAW
MR_BCASTB = const(0x40)
MR_ND = const(0x20)  # TCP: no delayed ACK; UDP: IGMP version 1; MACRAW: block multicast
MR_UCASTB = const(0x10)

# Sn_CR commands
OPEN = const(0x01)
LISTEN = const(0x02)
CONNECT = const(0x04)
DISCON = const(0x08)
CLOSE = const(0x10)
SEND = const(0x20)
SEND_MAC = const(0x21)
SEND_KEEP = const(0x22)
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
FIN_WAIT = const(0x18)
CLOSING = const(0x1A)
TIME_WAIT = const(0x1B)
CLOSE_WAIT = const(0x1C)
LAST_ACK = const(0x1D)
UDP = const(0x22)
IPRAW = const(0x32)
MACRAW = const(0x42)
