"""A DNS server on a host of the segment: it knows the names of what stands there, and no others.

In: queries to UDP port 53 of a stack. Out: answers after RFC 1035, with EDNS after RFC 6891; dnspython reads and writes
them. Never: an exception on what a client sends, recursion, TCP, an answer longer than 512 bytes, an SOA record: no
"no" may be cached where boards come and go.
"""

from collections import Counter
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rcode import BADVERS, FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED

from .packets import IP_ANY
from .tcpip import Stack

PORT = 53
TTL_S = 0  # boards change their addresses
EDNS_SIZE = 1472  # bytes of a query that fits into one frame: the stack takes no fragments
_HEADER = 12  # bytes (RFC 1035, 4.1.1)

Names = dict[str, bytes]


class DnsServer:
    """Answers for `names`: host name to IPv4 address, 4 bytes; 0.0.0.0 is "none yet". A function is called per query.

    Attributes, changeable at any time:
        silent: answer nothing. refuse: answer every query with REFUSED.
        received, sent: queries by type, answers by code.
    """

    def __init__(self, stack: Stack, names: Callable[[], Names] | Names) -> None:
        self._stack = stack
        self._names = names if callable(names) else lambda: names
        self.silent = False
        self.refuse = False
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._handle = stack.udp_bind(PORT, self._datagram)

    def close(self) -> None:
        """Give the port back."""
        self._handle.close()

    def _datagram(self, source_ip: bytes, source_port: int, target_ip: bytes, data: bytes) -> None:
        if target_ip != self._stack.ip or source_ip == IP_ANY or not source_port or len(data) < _HEADER:
            return
        if int.from_bytes(data[2:4], "big") & dns.flags.QR:
            return  # an answer: nobody is to start a ping-pong of errors
        answer = self._answer(data)
        if self.silent:
            return
        self.sent[dns.rcode.to_text(answer.rcode())] += 1
        self._stack.udp_send(PORT, source_ip, source_port, answer.to_wire())

    def _answer(self, data: bytes) -> dns.message.Message:
        flags = int.from_bytes(data[2:4], "big")
        opcode = dns.opcode.from_flags(flags)
        if opcode != dns.opcode.QUERY:
            return _bare(data, NOTIMP)
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:  # TSIG too: who has no keys cannot read it (RFC 8945, 5.2)
            return _bare(data, FORMERR)
        if len(query.question) != 1:  # RFC 9619, 4
            return _bare(data, FORMERR)
        question = query.question[0]
        self.received[dns.rdatatype.to_text(question.rdtype)] += 1
        answer = dns.message.make_response(query, our_payload=EDNS_SIZE)
        if query.edns > 0:
            answer.set_rcode(BADVERS)
        elif self.refuse or question.rdclass != dns.rdataclass.IN:
            answer.set_rcode(REFUSED)
        elif dns.rdatatype.is_metatype(question.rdtype) and question.rdtype != dns.rdatatype.ANY:
            answer.set_rcode(NOTIMP)  # zone transfers and the like
        else:
            self._look_up(question, answer)
        return answer

    def _look_up(self, question: dns.rrset.RRset, answer: dns.message.Message) -> None:
        answer.flags |= dns.flags.AA
        table = {dns.name.from_text(name): ip for name, ip in self._names().items()}
        ip = table.get(question.name, IP_ANY)
        # A name that others end in exists, too, without a record (RFC 8020, 2).
        exists = any(name.is_subdomain(question.name) for name in table)
        answer.set_rcode(NOERROR if exists else NXDOMAIN)
        if ip != IP_ANY and question.rdtype in (dns.rdatatype.A, dns.rdatatype.ANY):
            text = ".".join(map(str, ip))
            answer.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", "A", text))


def _bare(data: bytes, code: dns.rcode.Rcode) -> dns.message.Message:
    """An answer that repeats nothing but the header of a query that could not be read."""
    flags = int.from_bytes(data[2:4], "big")
    answer = dns.message.Message(int.from_bytes(data[:2], "big"))
    answer.flags = dns.flags.QR | flags & dns.flags.RD
    answer.set_opcode(dns.opcode.from_flags(flags))
    answer.set_rcode(code)
    return answer
