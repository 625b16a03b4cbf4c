"""Addresses as text in the settings, and as bytes where they are used.

In: text. Out: bytes, numbers, or `ConfigError`. Never: names (lan.py resolves them).
"""


class ConfigError(ValueError):
    """A value that cannot be used; the text names the key and says what is expected."""


def ip_bytes(text):
    """Dotted quad -> 4 bytes. Raises ConfigError."""
    parts = text.split(".") if isinstance(text, str) else ()
    try:
        if len(parts) == 4 and all(part.isdigit() and len(part) <= 3 for part in parts):
            return bytes([int(part) for part in parts])
    except ValueError:
        pass
    raise ConfigError("expected an IPv4 address such as 192.168.77.20")


def ip_text(address):
    """4 bytes -> dotted quad."""
    return "%d.%d.%d.%d" % tuple(address)


def mac_bytes(text):
    """Six hex pairs joined by colons -> 6 bytes. Raises ConfigError."""
    parts = text.split(":") if isinstance(text, str) else ()
    try:
        if len(parts) == 6 and all(len(part) == 2 for part in parts):
            return bytes([int(part, 16) for part in parts])
    except ValueError:
        pass
    raise ConfigError("expected a MAC address such as 02:00:00:12:34:56")


def own_mac(unique, whole):
    """A locally administered MAC address from an MCU's id; whole: its last bytes alone are unique.

    IEEE 802: the second bit of the first byte is set in those.
    """
    if not whole:  # place on the wafer, then the lot
        from hashlib import sha256

        unique = sha256(unique).digest()
    return b"\x02" + unique[-5:]


def network(text):
    """ "192.168.77.0/24", or one address -> (network, mask) as numbers. Raises ConfigError."""
    address, slash, bits = text.partition("/") if isinstance(text, str) else ("", "", "")
    number = int.from_bytes(ip_bytes(address), "big")
    if slash and not (bits.isdigit() and int(bits) <= 32):
        raise ConfigError("expected a network such as 192.168.77.0/24")
    mask = 0xFFFFFFFF << 32 - int(bits or 32) & 0xFFFFFFFF
    return number & mask, mask


def networks(texts):
    """What `among` takes, of a list in the settings. Raises ConfigError."""
    return [network(text) for text in texts]


def among(address, networks):
    """Whether `address`, 4 bytes, lies in one of the networks."""
    number = int.from_bytes(address, "big")
    return any(number & mask == prefix for prefix, mask in networks)
