"""The stock library for comparison: small servers on the unmodified adafruit_wiznet5k socket.

In: a board's name. Out: a filesystem image, and what to ask; the names are those of bench_ours.py. The servers are
written as its own examples are, with what speeds it up: the firmware's clocks and SPI rate, modules compiled, buffers
reused, the largest writes it takes.
"""

from .bundle import board_constants, compile_source, libraries, library_file, pack

# The files of the library that the firmware does without.
OTHERS = (
    "adafruit_ticks",
    "adafruit_wiznet5k/adafruit_wiznet5k_dhcp",
    "adafruit_wiznet5k/adafruit_wiznet5k_dns",
    "adafruit_wiznet5k/adafruit_wiznet5k_socketpool",
)

PORT = 502
# User-defined function codes (Modbus application protocol 4.1) and what they start, up to the end of the connection.
_CHARGEN, _DISCARD, _FOUR, _HEAP = range(65, 69)
BULK_SKIPPED, BULK = 4096, 16_384  # bytes: it moves some 50 KB/s


def _switch(function: int, kilobytes: int = 0) -> bytes:
    """The request that makes the server do `function`."""
    return bytes((0, 1, 0, 0, 0, 6, 1, function)) + kilobytes.to_bytes(2, "big") + bytes(2)


CHARGEN = PORT, _switch(_CHARGEN, (BULK_SKIPPED + BULK) // 1024)
DISCARD = PORT, _switch(_DISCARD)
FOUR = _switch(_FOUR)
TEN_HOOKS = b""  # it has no such thing
HEAP_USED = _switch(_HEAP)
FREE_HEAP = bytes.fromhex("000100000006010300000001")

# Register 0 holds the free heap in KB. A socket's send() and accept() collect garbage, so what they allocate is counted
# around each collection, once HEAP has been asked for.
SERVER = """
import machine, busio, digitalio, builtins, gc
machine.freq({pins.CPU_HZ}, {pins.PERIPHERAL_HZ})
for name in ("ConnectionError", "TimeoutError"):
    setattr(builtins, name, type(name, (OSError,), {{}}))
import adafruit_wiznet5k.adafruit_wiznet5k as driver
import adafruit_wiznet5k.adafruit_wiznet5k_socketpool as socketpool
spi = machine.SPI({pins.SPI_ID}, {pins.SPI_HZ}, sck=machine.Pin({pins.SCK}), mosi=machine.Pin({pins.MOSI}),
                  miso=machine.Pin({pins.MISO}))
eth = driver.WIZNET5K(busio.SPI(bus=spi), digitalio.DigitalInOut({pins.CS}), digitalio.DigitalInOut({pins.RST}),
                      is_dhcp=False, mac="02:00:00:00:00:20", spi_baudrate={pins.SPI_HZ})
eth.ifconfig = (bytes((192, 168, 77, 20)), bytes((255, 255, 255, 0)), bytes((192, 168, 77, 1)), bytes(4))
registers = bytearray(250)

class Counting:
    freed = 0
    def collect(self):
        before = gc.mem_alloc()
        gc.collect()
        self.freed += before - gc.mem_alloc()
counting = Counting()

def answer(connection, request):
    function = request[7]
    if function == 3:
        n = 2 * (request[10] << 8 | request[11])
        connection.send(request[:4] + bytes((0, n + 3, request[6], 3, n)) + registers[:n])
    elif function == {heap}:
        driver.gc = socketpool.gc = counting
        allocated = gc.mem_alloc() + counting.freed
        connection.send(request[:4] + bytes((0, 6, request[6], function)) + allocated.to_bytes(4, "little"))
    elif function == {chargen}:
        block = bytes(2048)
        for _ in range((request[8] << 8 | request[9]) // 2):
            connection.send(block)
    elif function == {discard}:
        block = bytearray(2048)
        while connection.recv_into(block):
            pass
    elif function == {four}:
        serve_four(connection, request)

def serve_four(connection, request):
    connections = [connection]
    connection.send(request)
    while len(connections) < 4:
        connections.append(server.accept()[0])
    for connection in connections:
        connection.settimeout(0)
    block = memoryview(bytearray(260))
    while True:
        for connection in connections:
            try:
                n = connection.recv_into(block)
            except OSError:
                continue
            connection.settimeout(None)
            answer(connection, bytes(block[:n]))
            connection.settimeout(0)

server = socketpool.SocketPool(eth).socket()
server.bind((None, 502))
server.listen()
gc.collect()
registers[:2] = (gc.mem_free() >> 10).to_bytes(2, "big")
while True:
    connection, peer = server.accept()
    while request := connection.recv(260):
        answer(connection, request)
    connection.close()
"""


def filesystem(board: str, size: int) -> bytes:
    """The library, compiled as for the firmware, and the servers. Raises HardwireError."""
    pins = board_constants(board)
    files = {f"lib/{name}": data for name, data in libraries(pins.ARCH).items()}
    for name in OTHERS:
        source = f"{name}.py"
        files[f"lib/{name}.mpy"] = compile_source(source, library_file(source).read_bytes(), pins.ARCH)
    source = SERVER.format(pins=pins, chargen=_CHARGEN, discard=_DISCARD, four=_FOUR, heap=_HEAP)
    return pack(board, files | {"main.py": source.encode()}, size)
