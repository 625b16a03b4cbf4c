"""The file server of the emulated board and the PC's client: whole files, cuts, damage; on MicroPython and littlefs."""

import asyncio
import hashlib
import json
import random
from dataclasses import replace

import pytest

from hardwire.wire import files as F
from hardwire_host.bundle import CONFIG_FILE, build_filesystem, pack, unpack
from hardwire_host.clients import files as client
from hardwire_host.clients.files_link import Link
from hardwire_host.image import find_or_build
from hardwire_host.keys import Key

BOARD = "w5500_evb_pico"
FILES = 7770
KEY = Key(F.WRITE, "a key for the tests")
WINDOW = 32768
CHUNK = 1010  # bytes of a file in the largest frame that the board takes
BOOT_S = 20
PATIENCE_S = 120.0  # of wall time: a PC under load is slow
RESETS = 2
SMALL = 30


@pytest.fixture(scope="module")
def live(boot):
    settings = {"services": {"files": {"write_key": KEY.text}}}
    live = boot(filesystem=build_filesystem(BOARD, json.dumps(settings)))
    live.wait_listening(FILES)
    return live


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Where the PC is slow, two seconds of it are little time for the board."""
    monkeypatch.setattr(client, "REFUSED_S", PATIENCE_S)


@pytest.fixture(scope="module")
def port(live):
    return live.forward(FILES)


def with_files(port, work, key=KEY):
    """`await work(files)` with a connection."""

    async def main():
        files = await client.connect("127.0.0.1", port, key, timeout=PATIENCE_S)
        try:
            return await work(files)
        finally:
            await files.close()

    return asyncio.run(main())


def content(tmp_path, name, size, seed=1):
    path = tmp_path / name
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def there(port):
    """What is on the board beside its firmware: path -> size."""

    async def work(files):
        return {entry.path: entry.size for entry in await files.list(recursive=True) if not entry.folder}

    found = with_files(port, work)
    return {path: size for path, size in found.items() if not path.startswith(("a/", "b/"))}


def litter(live):
    """What the server left in its own folder, as the filesystem has it."""
    return [path for path in unpack(BOARD, live.do(live.board.filesystem)) if path.startswith(".put/")]


def test_a_megabyte_up_and_down(boot, tmp_path):
    """There is room for it where the firmware is in the image."""
    settings = {"services": {"files": {"write_key": KEY.text}}}
    live = boot(
        image=find_or_build(frozen=True),
        filesystem=pack(BOARD, {CONFIG_FILE: json.dumps(settings).encode()}),
    )
    live.wait_listening(FILES)
    port = live.forward(FILES)
    source = content(tmp_path, "large.bin", 1 << 20)

    async def work(files):
        free = (await files.space())[1]
        sent = await files.put(source, "large.bin")
        assert await files.hash("large.bin") == sent == hashlib.sha256(source.read_bytes()).digest()
        await files.get("large.bin", tmp_path / "back.bin")
        with pytest.raises(client.FilesError) as refused:
            await files.put(content(tmp_path, "more.bin", free), "more.bin")
        assert refused.value.number == F.NO_SPACE
        await files.delete("large.bin")

    with_files(port, work)
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert not {"large.bin", "more.bin"} & there(port).keys()


def test_three_clients_at_once(port, tmp_path):
    sources = [content(tmp_path, f"{number}.bin", 50_000 + number, number) for number in range(3)]

    async def one(source):
        files = await client.connect("127.0.0.1", port, KEY, timeout=PATIENCE_S)
        try:
            await files.put(source, source.name)
            await files.get(source.name, tmp_path / f"back-{source.name}")
            await files.delete(source.name)
        finally:
            await files.close()

    async def main():
        await asyncio.gather(*map(one, sources))

    asyncio.run(main())
    for source in sources:
        assert (tmp_path / f"back-{source.name}").read_bytes() == source.read_bytes()


def test_small_files(port, tmp_path):
    sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, *(17 * number for number in range(SMALL))]

    async def work(files):
        await files.mkdir("small/inner", parents=True)
        for number, size in enumerate(sizes):
            await files.put(content(tmp_path, "x", size, number), f"small/inner/{number}")
        listed = await files.list("small", recursive=True, hashes=True)
        for entry in listed:
            if not entry.folder:
                await files.delete(f"small/{entry.path}")
        await files.rmdir("small/inner")
        await files.rmdir("small")
        return listed

    digests = {entry.path: entry.digest for entry in with_files(port, work)}
    assert digests.pop("inner") is None
    assert digests == {
        f"inner/{number}": hashlib.sha256(random.Random(number).randbytes(size)).digest()
        for number, size in enumerate(sizes)
    }


def test_reset_at_any_moment_of_an_upload(live, port, tmp_path, monkeypatch):
    """The old file stays until the new one is whole; what is sent again fits in a window."""
    rng = random.Random(4)
    old, new = content(tmp_path, "old", 3000, 8), content(tmp_path, "new", 100_000, 9)
    sent = [0]
    send = Link.send

    async def counted(link, kind, number, payload):
        if kind == F.DATA:
            sent[0] += len(payload) - 4
        await send(link, kind, number, payload)

    monkeypatch.setattr(Link, "send", counted)
    cuts = sorted(rng.randrange(1000, 100_000) for _ in range(RESETS))

    async def main():
        files = await client.connect("127.0.0.1", port, KEY, timeout=PATIENCE_S)
        try:
            await files.put(old, "file")
            sent[0] = 0
            upload = asyncio.create_task(files.put(new, "file"))
            for number, cut in enumerate(cuts):
                while sent[0] < cut + number * WINDOW and not upload.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if upload.done():
                    break
                await asyncio.to_thread(live.call, live.board.power_cycle())
                await asyncio.to_thread(live.wait_listening, FILES)
                reader = await client.connect("127.0.0.1", port, KEY, timeout=PATIENCE_S)
                if not upload.done():
                    seen = await reader.read("file")
                    assert seen == old.read_bytes() or upload.done() or seen == new.read_bytes()
                await reader.close()
            await upload
            assert await files.read("file") == new.read_bytes()
            await files.delete("file")
        finally:
            await files.close()

    asyncio.run(main())
    assert sent[0] <= 100_000 + RESETS * (WINDOW + CHUNK)
    assert litter(live) == []


def test_bits_damaged_on_spi(live, port, tmp_path):
    """Behind TCP's checksum, nobody but the frames' CRC-32 sees it."""
    source = content(tmp_path, "damaged", 40_000, 5)
    chip = live.board.chip
    before = chip.options

    async def work(files):
        live.do(setattr, chip, "options", replace(before, spi_errors=0.00002))
        try:
            await files.put(source, "damaged")
            await files.get("damaged", tmp_path / "back")
        finally:
            live.do(setattr, chip, "options", before)
        await files.delete("damaged")

    with_files(port, work)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_keys_and_paths(live, port):
    with pytest.raises(client.FilesError) as wrong:
        with_files(port, lambda files: files.stat("main.py"), Key(F.WRITE, "another"))
    assert wrong.value.number == F.DENIED
    live.run_until(lambda: False, 1.5)

    async def work(files):
        for path, number in (
            ("config.json", F.NOT_FOUND),
            ("CONFIG.JSON", F.NOT_FOUND),
            ("a/../config.json", F.BAD_PATH),
            (".put", F.NOT_FOUND),
        ):
            with pytest.raises(client.FilesError) as refused:
                await files.read(path)
            assert refused.value.number == number
        with pytest.raises(client.FilesError) as refused:
            await files.delete("main.py")
        assert refused.value.number == F.DENIED

    with_files(port, work)
