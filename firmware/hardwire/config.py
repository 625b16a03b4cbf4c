"""Settings: one JSON file with a default for every key. The same checks run on the PC and on the board.

In: JSON text or a file's path. Out: a complete dict, or `ConfigError` that names the key. Never code, never a
half-written file: `save` writes a new file and renames it.
"""

import json
import os

from .addresses import ConfigError, ip_bytes, mac_bytes, networks

PATH = "config.json"  # in the folder a board starts in: / on RP2, /flash on STM32
MAX_BYTES = 4096  # a file larger than this is no configuration of ours; keeps a bad file from eating the heap

_PATHS_MAX = 16
NETWORKS_MAX = 16  # entries of an access list: each costs a comparison at connect

MODES = ("static", "dhcp")
WATCHDOG = ("auto", "on", "off")


def _text(value, longest):
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ConfigError("expected a text of 1 to %d characters" % longest)
    return value


def _name(value):
    # RFC 1123 2.1: the name goes out as DHCP host name
    _text(value, 63)
    for c in value:
        if not ("a" <= c <= "z" or "A" <= c <= "Z" or "0" <= c <= "9" or c == "-"):
            raise ConfigError("expected letters, digits and hyphens, not %r" % c)
    if value[0] == "-" or value[-1] == "-":
        raise ConfigError("a host name neither starts nor ends with a hyphen")
    return value


def _module(value):
    _text(value, 40)
    for c in value:
        if not ("a" <= c <= "z" or "0" <= c <= "9" or c == "_"):
            raise ConfigError("expected the name of a file in boards/, without .py")
    return value


def _number(value, low, high):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError("expected a whole number from %d to %d" % (low, high))
    return value


def _networks(value):
    if not isinstance(value, list) or len(value) > NETWORKS_MAX:
        raise ConfigError("expected a list of at most %d addresses or networks" % NETWORKS_MAX)
    networks(value)
    return value


def _ip(value):
    ip_bytes(value)
    return value


def _optional_ip(value):
    return value if value is None else _ip(value)


def _host(value):
    first = ip_bytes(value)[0]
    if not 1 <= first <= 223 or first == 127:
        raise ConfigError("expected the address of one host, such as 192.168.77.20")
    return value


def _netmask(value):
    mask = int.from_bytes(ip_bytes(value), "big")
    if mask == 0 or (mask | (mask - 1)) != 0xFFFFFFFF:
        raise ConfigError("expected a netmask such as 255.255.255.0")
    return value


def _mac(value):
    if value is not None and mac_bytes(value)[0] & 1:
        raise ConfigError("a device's MAC address is not a multicast address (first byte must be even)")
    return value


def _mode(value):
    if value not in MODES:
        raise ConfigError("expected one of: %s" % ", ".join(MODES))
    return value


def secret(value):
    return value if value is None else _text(value, 64)


def _watchdog(value):
    if value not in WATCHDOG:
        raise ConfigError("expected one of: %s" % ", ".join(WATCHDOG))
    return value


def _port(value):
    return _number(value, 1, 65535)


def _connections(value):
    return _number(value, 0, 7)


def _seconds(value):
    return _number(value, 0, 86400)


def _keep(value):
    return _number(value, 60, 30 * 86400)


def _paths(value):
    if not isinstance(value, list) or len(value) > _PATHS_MAX:
        raise ConfigError("expected a list of at most %d paths" % _PATHS_MAX)
    for path in value:
        _text(path, 64)
        if path.startswith("/") or path.endswith("/") or "//" in path:
            raise ConfigError("expected paths such as a/b.txt, not %r" % path)
    return value


def _switch(value):
    if not isinstance(value, bool):
        raise ConfigError("expected true or false")
    return value


def _service(port, connections, reserve, **more):
    # connections: most at once, 0 = off; reserve: of them not given to others; per_peer: from one address, 0 = any.
    # idle_s: a silent connection is closed after this, 0 = never. allow: who may connect, empty = all;
    # priority: whose connections are never closed to make room for others.
    section = {
        "port": (port, _port),
        "connections": (connections, _connections),
        "reserve": (reserve, _connections),
        "per_peer": (0, _connections),
        "idle_s": (0, _seconds),
        "allow": ([], _networks),
        "priority": ([], _networks),
    }
    section.update(more)
    return section


# key -> (default, check); a dict is a section. One place for names, defaults and limits.
SCHEMA = {
    "board": ("w5500_evb_pico", _module),
    "name": ("hardwire", _name),
    "key": (None, secret),  # for setting an address by discovery; None: nobody can
    # Resets a board whose core does not turn for 8 s. auto: where Ctrl-C can switch it off again (RP2).
    "watchdog": ("auto", _watchdog),
    "network": {
        "mode": ("static", _mode),
        "address": ("192.168.77.20", _host),  # also the fallback when no DHCP server answers
        "netmask": ("255.255.255.0", _netmask),
        "gateway": ("192.168.77.1", _ip),
        "dns": ("192.168.77.1", _ip),
        "ntp": (None, _optional_ip),  # None: what DHCP says, if it does
        "mac": (None, _mac),  # None: locally administered, derived from the board's unique id
    },
    "services": {
        # writes: without it clients only read; write_allow: who may write then, empty = all that may connect
        "modbus": _service(502, 5, 2, writes=(False, _switch), write_allow=([], _networks)),
        # read_key, write_key: who may; without write_key nobody writes, without both everybody reads. read_only,
        # hidden: paths, with all in them; what `hardwire deploy` puts there is not for others to write. keep_s: for so
        # long an interrupted upload can be resumed.
        "files": _service(
            7770,
            3,
            1,
            read_key=(None, secret),
            write_key=(None, secret),
            read_only=(["a", "b", "slot", "boot.py", "main.py"], _paths),
            hidden=([], _paths),
            keep_s=(86400, _keep),
            idle_s=(300, _seconds),
        ),
        "echo": _service(7, 0, 1),  # the next three are for tests, and off
        "discard": _service(9, 0, 1),
        "chargen": _service(19, 0, 1),
    },
}


def _fail(text):
    raise ConfigError(text)


def _merge(schema, given, path, refuse=_fail):
    """`refuse` is called with what is wrong; if it returns, the default counts."""
    if not isinstance(given, dict):
        refuse("%s: expected an object in braces" % (path.rstrip(".") or "configuration"))
        given = {}
    for key in given:
        if key not in schema:
            refuse("%s%s: unknown key (known: %s)" % (path, key, ", ".join(sorted(schema))))
    result = {}
    for key, rule in schema.items():
        if isinstance(rule, dict):
            result[key] = _merge(rule, given.get(key, {}), path + key + ".", refuse)
            continue
        result[key] = rule[0]
        if key in given:
            try:
                result[key] = rule[1](given[key])
            except ConfigError as error:
                refuse("%s%s: %s" % (path, key, error))
    return result


def parse(text):
    """JSON text -> settings with every key present. Raises ConfigError with the key's path."""
    settings = _merge(SCHEMA, _given(text), "")
    _check_ports(settings["services"])
    _check_address(settings["network"])
    return settings


def _given(text):
    if len(text) > MAX_BYTES:
        raise ConfigError("configuration is longer than %d bytes" % MAX_BYTES)
    try:
        return json.loads(text)
    except (ValueError, RuntimeError):  # RuntimeError: thousands of brackets
        raise ConfigError("not valid JSON")


def _check_ports(services):
    seen = {}
    for name, service in services.items():
        other = seen.get(service["port"])
        if other and service["connections"] and services[other]["connections"]:
            raise ConfigError("services.%s.port: %d is the port of %s" % (name, service["port"], other))
        seen[service["port"]] = name


def _check_address(network):
    address, mask = (int.from_bytes(ip_bytes(network[key]), "big") for key in ("address", "netmask"))
    host = address & ~mask & 0xFFFFFFFF
    if mask < 0xFFFFFFFE and host in (0, ~mask & 0xFFFFFFFF):  # RFC 3021: links of two have neither
        what = "broadcast" if host else "network"
        raise ConfigError(
            "network.address: %s is the %s address under %s" % (network["address"], what, network["netmask"])
        )


def defaults():
    """The settings of an empty file."""
    return _merge(SCHEMA, {}, "")


def _read(path):
    try:
        with open(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        return "{}"
    except UnicodeError:
        raise ConfigError("not valid UTF-8")


def load(path=PATH):
    """Settings in the file at `path`; defaults if there is none. Raises ConfigError."""
    return parse(_read(path))


def usable(text):
    """JSON text -> (settings, problem): what a board can work with. A value that is wrong costs its key alone.

    `problem`: the first thing that is wrong, None if nothing is.
    """
    problems = []
    try:
        settings = _merge(SCHEMA, _given(text), "", problems.append)
    except ConfigError as error:
        return defaults(), str(error)
    try:
        _check_ports(settings["services"])
    except ConfigError as error:
        problems.append(str(error))
        settings["services"] = defaults()["services"]
    try:
        _check_address(settings["network"])
    except ConfigError as error:
        problems.append(str(error))
        for key in ("address", "netmask", "gateway"):
            settings["network"][key] = SCHEMA["network"][key][0]
    return settings, problems[0] if problems else None


def in_use(path=PATH):
    """`usable` of the file at `path`."""
    try:
        return usable(_read(path))
    except ConfigError as error:
        return defaults(), str(error)


def save(settings, path=PATH):
    """Check and write `settings`; a power cut leaves the old file or the new one. Raises ConfigError, OSError."""
    text = json.dumps(settings)
    parse(text)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
