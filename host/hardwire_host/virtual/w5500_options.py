"""What the chip model lets its owner choose: the datasheet's open points, and faults to inject.

In: nothing. Out: `Options`, immutable; the chip takes a changed copy (`dataclasses.replace`) at any time.
"""

from dataclasses import dataclass

from . import regs as R
from .tcpip import TIME_WAIT_NS

CS_HIGH_NS = 30  # shortest pause between two SPI frames (5.5.3)


@dataclass(frozen=True, slots=True)
class Options:
    """Each default is the choice the model made; chances are 0.0 to 1.0 and drawn from the chip's seed."""

    # Points that no source settles
    imr_gates_ir: bool = False  # a bit masked in Sn_IMR stays out of Sn_IR (datasheet; drivers see it set)
    recv_again: bool = False  # RECV is raised again when data remains after the RECV command
    ir_on_reset: int = R.I_DISCON  # Sn_IR bits when the peer resets an established connection
    ir_on_idle_discon: int = 0  # Sn_IR bits after DISCON without a connection
    ir_on_last_ack: int = R.I_DISCON  # Sn_IR bits when a peer that has closed first acknowledges our FIN
    time_wait_ns: int = TIME_WAIT_NS  # from the peer's FIN to CLOSED where the chip closed first
    mssr_in_syn: bool = True  # Sn_MSSR is announced to the peer, and does not only limit what is sent
    mssr_shows_mss: bool = False  # once connected, Sn_MSSR becomes the segment size in use
    arp_each_send: bool = (
        False  # UDP asks for a MAC at each SEND, not only after Sn_DIPR has changed (W5200, FARP)
    )
    mode_in_burst: bool = True  # OPEN in the same SPI frame as Sn_MR sees the new mode
    close_clears_port: bool = False  # Sn_PORT does not survive CLOSE
    highest_listener: bool = False  # of several listeners on a port the highest takes a SYN, not the lowest
    intn_high_on_clear: bool = True  # clearing one of several interrupts lifts INTn for the INTLEVEL time
    macraw_shares: bool = False  # MACRAW also gets the frames of other open sockets
    cr_busy_ns: int = 0  # time until a command is taken; a chip needs less than one SPI byte

    # Faults
    start_pointer: int | None = 0  # the four pointers after connect, accept or OPEN; None: random
    version_delay_ns: int = 0  # VERSIONR reads 0 for so long after a reset
    torn_reads: float = 0.0  # chance that a size that has grown is read with its old high byte, once
    stuck_cr: float = 0.0  # chance that a command stays in Sn_CR and does nothing
    sendok_lost: float = 0.0  # chance that a SEND is done without SENDOK
    stall_without_link: bool = False  # UDP and MACRAW: a SEND while the link is down never ends
    spi_errors: float = 0.0  # chance of a flipped bit, per byte and direction
    cs_high_ns: int = CS_HIGH_NS  # a shorter pause is counted; 0 where CS edges have no true time
