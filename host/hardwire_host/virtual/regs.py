"""W5500 register map: what the driver uses, and the rest, which the chip model and tests know too.

Source: W5500 datasheet v1.0.9, sections 3 (memory map) and 4 (registers).
"""

from hardwire.w5500.regs import *  # noqa: F403

# SPI frame (2.2.2): address high, address low, control, data...; control = BLOCK | WRITE (variable length mode).
MEMORY_KB = 16  # to share among the sockets, per direction

# Common registers (4.1)
SUBR = 0x05
SHAR = 0x09
SIPR = 0x0F
PMAGIC = 0x1D
PHAR = 0x1E
PSID = 0x24
PMRU = 0x26
UIPR = 0x28
UPORTR = 0x2C
MR_WOL = 0x20
MR_PB = 0x10
MR_PPPOE = 0x08
MR_FARP = 0x02
IR_UNREACH = 0x40
IR_PPPOE = 0x20
IR_MP = 0x10
PHY_RST = 0x80
PHY_OPMD = 0x40
PHY_OPMDC = 0x38  # field; 111 = all capable, auto-negotiation; 110 = power down
PHY_DPX = 0x04
PHY_SPD = 0x02

# Socket registers (4.2)
SN_DHAR = 0x06
SN_DPORT = 0x10
SN_MSSR = 0x12
SN_TOS = 0x15
SN_TTL = 0x16
SN_TXBUF_SIZE = 0x1F
SN_TX_RD = 0x22
SN_RX_RSR = 0x26
SN_RX_WR = 0x2A
SN_FRAG = 0x2D

# Sn_MR: protocol and its options
P_CLOSED = 0x0
P_IPRAW = 0x3
P_MACRAW = 0x4
MR_MULTI = 0x80  # UDP; MAC filter in MACRAW
MR_BCASTB = 0x40
MR_UCASTB = 0x10

# Sn_CR commands
SEND_MAC = 0x21
SEND_KEEP = 0x22

# Sn_SR states
FIN_WAIT = 0x18
CLOSING = 0x1A
LAST_ACK = 0x1D
IPRAW = 0x32
MACRAW = 0x42
