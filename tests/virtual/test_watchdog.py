"""The hardware watchdog: a board whose core does not turn is reset, one at the REPL is not."""

import socket

import pytest

from hardwire_host.bundle import build_filesystem, firmware_folder

BOARD = "w5500_evb_pico"
MODBUS = 502
HANG = bytes.fromhex("0001 0000 0006 01 05 0000 FF00")  # coil 0 on
READ_CAUSE = bytes.fromhex("0002 0000 0006 01 04 000F 0001")
WATCHDOG = 3  # reset cause, as the README lists them
RESET_S = 20  # device time: 8 s of watchdog, and the boot
ATTEMPTS = 50
HOOK = 'io.after_write("led", board.led)'
HANGING = 'io.after_write("led", lambda on: time.sleep(60))'


@pytest.fixture(scope="module")
def hanging(boot, tmp_path_factory):
    """An app that hangs when coil 0 is written."""
    source = (firmware_folder() / "app.py").read_text()
    assert source.count(HOOK) == 1
    app = tmp_path_factory.mktemp("app") / "app.py"
    app.write_text(source.replace(HOOK, HANGING))
    live = boot(filesystem=build_filesystem(BOARD, app=app), pace=False)
    live.wait_listening(MODBUS)
    return live


def ask(live, request):
    """The answer; again while nobody gives one: the chip has not been reset, and still listens for a while."""
    for _ in range(ATTEMPTS):
        with socket.create_connection(("127.0.0.1", live.forward(MODBUS))) as connection:
            connection.settimeout(5)
            try:
                connection.sendall(request)
                return connection.recv(300)
            except OSError:
                live.run_until(lambda: False, 0.2)
    raise AssertionError("no answer")


def test_a_board_that_hangs_is_reset_and_serves_again(hanging):
    resets = hanging.status()["resets"]
    with socket.create_connection(("127.0.0.1", hanging.forward(MODBUS))) as connection:
        connection.sendall(HANG)
        assert hanging.run_until(lambda: hanging.board.status()["resets"] > resets, RESET_S)
    assert ask(hanging, READ_CAUSE)[-1] == WATCHDOG


def test_a_board_at_the_repl_is_left_alone(hanging):
    hanging.exec("print(1)")
    resets = hanging.status()["resets"]
    hanging.run_until(lambda: False, RESET_S)
    assert hanging.status()["resets"] == resets
    assert hanging.exec("print(2)").strip() == "2"
