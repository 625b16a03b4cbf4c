"""Interrupted and unfinished PUTs: files in /.put that become visible by a rename.

In: tokens and paths. Out: files to write to, and whole ones published. Never: half a file under a user's name; a file
in /.put that outlives its time.

Names in /.put: TOKEN.part holds what came. TOKEN.name, where a rename cannot replace a file at once (FAT deletes the
old one first), holds the path that a complete TOKEN.part is about to get, after its CRC-32: a power cut between the two
is made good at the next start.
"""

from binascii import crc32, hexlify

from .. import log
from ..compat import const, ticks_diff, ticks_ms

FOLDER = ".put"
_PART = ".part"
_NAME = ".name"
_EMPTY_MS = const(
    10_000
)  # the folder goes when it was empty for so long: making and removing it costs two erases
_SLICE_MS = const(1_000_000)  # ticks wrap after twelve days: ages are added up in pieces


class Staging:
    """What is in FOLDER of `folder`; an interrupted PUT is kept for `keep_s` seconds, from when it was seen last.

    Attributes: used: tokens being written to.
    """

    def __init__(self, folder, keep_s):
        self._folder = folder
        self._keep_s = keep_s
        self._ages = {}  # token -> [seconds, ticks when they were counted]
        self.used = {}  # token -> who writes
        self._made = False
        self._empty_at = ticks_ms()
        self._recover()

    def _recover(self):
        try:
            names = [name for name, _, _, _ in self._folder.scan(FOLDER)]
        except OSError:
            return
        self._made = True
        for name in names:
            path = FOLDER + "/" + name
            if name.endswith(_NAME):
                self._finish(path, name[: -len(_NAME)])
        for name in names:
            if name.endswith(_PART):
                self._ages[name[: -len(_PART)]] = [0, ticks_ms()]
            elif not name.endswith(_NAME):
                self._remove(FOLDER + "/" + name)

    def _finish(self, journal, token):
        with self._folder.open(journal, "rb") as file:
            data = file.read()
        try:
            if len(data) > 4 and crc32(data[4:]) == int.from_bytes(data[:4], "big"):
                self._folder.rename(self.path(token), str(data[4:], "utf-8"))
        except OSError:
            pass  # it had its name already
        self._remove(journal)

    def _remove(self, path):
        try:
            self._folder.remove(path)
        except OSError as error:
            log.warning("files: %s: %s", path, error)

    @staticmethod
    def path(token):
        """Of the file for `token` (text)."""
        return FOLDER + "/" + token + _PART

    def token(self, token):
        """The text for a token of 8 bytes."""
        return str(hexlify(token), "ascii")

    def length(self, token):
        """Bytes there are of it."""
        try:
            return self._folder.stat(self.path(token))[1]
        except OSError:
            return 0

    def begin(self, token, user, append):
        """The file to write to: what is there goes on if `append`, else is dropped. Raises OSError."""
        if not self._made:
            try:
                self._folder.mkdir(FOLDER)
            except OSError:
                self._folder.stat(FOLDER)  # it is there; or this says what is wrong
            self._made = True
        file = self._folder.open(self.path(token), "ab" if append else "wb")
        self.used[token] = user
        self._ages[token] = [0, ticks_ms()]
        return file

    def leave(self, token, user):
        """`user` writes no more: what is there can be resumed."""
        if self.used.get(token) is user:
            del self.used[token]
            if token in self._ages:
                self._ages[token] = [0, ticks_ms()]

    def drop(self, token):
        """Forget what there is of it."""
        self.used.pop(token, None)
        if self._ages.pop(token, None) is not None:
            self._remove(self.path(token))
        self._empty_at = ticks_ms()

    def publish(self, token, path):
        """Give it its name. Raises OSError."""
        folder = self._folder
        journal = None
        if not folder.replaces:
            journal = FOLDER + "/" + token + _NAME
            name = path.encode()
            with folder.open(journal, "wb") as file:
                file.write(crc32(name).to_bytes(4, "big") + name)
        folder.rename(self.path(token), path)
        if journal:
            self._remove(journal)
        self.used.pop(token, None)
        self._ages.pop(token, None)
        self._empty_at = ticks_ms()

    def sweep(self):
        """Drop what is too old, one in a call. Call it once a second."""
        now = ticks_ms()
        for token, age in self._ages.items():
            passed = ticks_diff(now, age[1])
            if passed >= _SLICE_MS or age[0] + passed // 1000 >= self._keep_s:
                age[0] += passed // 1000
                age[1] = now
                if age[0] >= self._keep_s and token not in self.used:
                    log.info("files: an interrupted upload was not resumed: removed")
                    self.drop(token)
                    return
        if self._made and not self._ages and ticks_diff(now, self._empty_at) >= _EMPTY_MS:
            self._made = False
            try:
                self._folder.rmdir(FOLDER)
            except OSError as error:
                log.warning("files: %s: %s", FOLDER, error)
