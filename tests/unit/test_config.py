"""config.py: defaults, what is refused and how it says so, and that a save leaves the old file or the new one."""

import json
import os

import pytest

from hardwire import config

GOOD = (
    ("{}", ("network", "address"), "192.168.77.20"),
    ('{"network": {"mode": "dhcp"}}', ("network", "mode"), "dhcp"),
    ('{"network": {"netmask": "255.255.255.248"}}', ("network", "netmask"), "255.255.255.248"),
    ('{"network": {"netmask": "255.255.255.254"}}', ("network", "netmask"), "255.255.255.254"),
    ('{"network": {"netmask": "255.255.255.255"}}', ("network", "netmask"), "255.255.255.255"),
    ('{"network": {"mac": "02:00:00:12:34:56"}}', ("network", "mac"), "02:00:00:12:34:56"),
    ('{"network": {"mac": null}}', ("network", "mac"), None),
    ('{"services": {"modbus": {"port": 1502}}}', ("services", "modbus", "port"), 1502),
    ('{"services": {"modbus": {"connections": 0}}}', ("services", "modbus", "connections"), 0),
    ('{"name": "press-4"}', ("name",), "press-4"),
)

BAD = (
    ("", "not valid JSON"),
    ("{", "not valid JSON"),
    ("[]", "expected an object"),
    ('{"title": "x"}', "title: unknown key"),
    ('{"network": 5}', "network: expected an object"),
    ('{"network": {"ip": "1.2.3.4"}}', "network.ip: unknown key"),
    ('{"network": {"mode": "auto"}}', "network.mode: expected one of: static, dhcp"),
    ('{"network": {"address": "192.168.77"}}', "network.address: expected an IPv4 address"),
    ('{"network": {"address": "192.168.77.256"}}', "network.address: expected an IPv4 address"),
    ('{"network": {"address": "192.168.77.\\u00b2"}}', "network.address: expected an IPv4 address"),
    ('{"network": {"address": "1.2.3.4 "}}', "network.address: expected an IPv4 address"),
    ('{"network": {"address": 3232255252}}', "network.address: expected an IPv4 address"),
    ('{"network": {"address": "0.0.0.0"}}', "network.address: expected the address of one host"),
    ('{"network": {"address": "224.0.0.1"}}', "network.address: expected the address of one host"),
    ('{"network": {"netmask": "255.0.255.0"}}', "network.netmask: expected a netmask"),
    (
        '{"network": {"address": "10.1.0.0", "netmask": "255.255.0.0"}}',
        "is the network address under 255.255.0.0",
    ),
    ('{"network": {"address": "192.168.77.255"}}', "is the broadcast address under 255.255.255.0"),
    ('{"network": {"netmask": "255.255.255.252"}}', "192.168.77.20 is the network address"),
    ('{"network": {"netmask": "0.0.0.0"}}', "network.netmask: expected a netmask"),
    ('{"network": {"mac": "01:00:00:12:34:56"}}', "network.mac: a device's MAC address is not a multicast"),
    ('{"network": {"mac": "02:00:00:12:34"}}', "network.mac: expected a MAC address"),
    ('{"network": {"mac": "02:00:00:12:34:zz"}}', "network.mac: expected a MAC address"),
    (
        '{"services": {"modbus": {"port": 0}}}',
        "services.modbus.port: expected a whole number from 1 to 65535",
    ),
    ('{"services": {"modbus": {"port": true}}}', "services.modbus.port: expected a whole number"),
    ('{"services": {"modbus": {"port": 502.0}}}', "services.modbus.port: expected a whole number"),
    ('{"services": {"modbus": {"connections": 8}}}', "services.modbus.connections: expected a whole number"),
    ('{"name": ""}', "name: expected a text of 1 to 63"),
    ('{"name": "a b"}', "name: expected letters, digits and hyphens"),
    ('{"name": "-a"}', "name: a host name neither starts"),
    ('{"board": "../x"}', "board: expected the name of a file"),
    ('{"name": "' + 5000 * "x" + '"}', "longer than 4096 bytes"),
)


def test_values_are_taken():
    for text, path, value in GOOD:
        found = config.parse(text)
        for key in path:
            found = found[key]
        assert found == value, text


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_refused_names_the_key(text, message):
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text)
    assert message in str(caught.value)


def test_defaults_are_valid_and_complete():
    assert config.parse(json.dumps(config.defaults())) == config.defaults()


def test_no_file_means_defaults(tmp_path):
    assert config.load(str(tmp_path / "none.json")) == config.defaults()


def test_a_file_that_is_no_text_is_a_config_error(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(config.ConfigError):
        config.load(str(path))


def test_save_and_load(tmp_path):
    path = str(tmp_path / "config.json")
    settings = config.parse('{"name": "press-4"}')
    config.save(settings, path)
    assert config.load(path) == settings
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_bad_value_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "config.json")
    config.save(config.defaults(), path)
    with pytest.raises(config.ConfigError):
        config.save({"name": 5}, path)
    assert config.load(path) == config.defaults()


def test_a_board_works_with_what_is_right(tmp_path):
    """One bad value does not cost the address: nobody would find the board again."""
    path = tmp_path / "config.json"
    path.write_text(
        '{"network": {"address": "10.0.0.7", "mac": "no"}, "services": {"modbus": {"port": 0}}, "x": 1}'
    )
    settings, problem = config.in_use(str(path))
    assert settings["network"]["address"] == "10.0.0.7"
    assert settings["network"]["mac"] is None and settings["services"]["modbus"]["port"] == 502
    assert problem == f"x: unknown key (known: {', '.join(sorted(config.SCHEMA))})"
    path.write_text(
        '{"network": {"address": "10.0.0.7"}, "services": {"modbus": {"port": 7}, "echo": {"connections": 1}}}'
    )
    settings, problem = config.in_use(str(path))
    assert settings["network"]["address"] == "10.0.0.7" and "is the port of" in problem
    assert settings["services"] == config.defaults()["services"]
    path.write_text("[" * 3000)
    assert config.in_use(str(path)) == (config.defaults(), "not valid JSON")
    assert config.in_use(str(tmp_path / "none")) == (config.defaults(), None)
