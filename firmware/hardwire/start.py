"""Boot: settings -> board -> app. A bad settings file never keeps the board off the network."""

import asyncio
import json
import sys

from . import __version__, log
from .board import Board
from .modules import unload


def _settings():
    from . import config

    settings, problem = config.in_use()
    if problem:
        log.error("%s: %s; using the default there", config.PATH, problem)
    return settings


def own_board():
    """The board that `hardwire deploy` compiled the running tree for: the one whose file is there for certain."""
    try:
        with open(sys.path[0] + "/manifest.json") as file:
            return json.load(file)["board"]
    except (OSError, ValueError, KeyError):  # copied by hand, or frozen with all board files
        from . import config

        return config.defaults()["board"]


def _board(settings):
    try:
        return Board(settings)
    except (ImportError, ValueError) as error:  # there is no such file, or it is for another MCU
        board = own_board()
        log.error("board %s: %s; using %s", settings["board"], error, board)
        settings["board"] = board
        return Board(settings)


def main():
    """Run the app until Ctrl-C; then every socket is closed and the REPL is free."""
    log.info("hardwire %s", __version__)
    board = _board(_settings())
    unload(lambda name: name == "hardwire.config")  # 8 KB that nobody needs any more
    import app

    try:
        asyncio.run(app.main(board))
    finally:
        board.stop()
        asyncio.new_event_loop()
