"""Programs that write on a mount while something happens to its server or its network."""

import os
import threading
import time
from pathlib import Path


class Writer(threading.Thread):
    """A program that writes, syncs, renames and reads until it is told to end."""

    def __init__(self, folder, number):
        super().__init__()
        self.folder, self.number = folder, number
        self.over = threading.Event()
        self.rounds, self.error, self.slowest_s = 0, None, 0.0

    def run(self):
        """Called by the thread."""
        try:
            while not self.over.is_set():
                began = time.monotonic()
                self.write_one(self.folder / f"w{self.number}-{self.rounds % 20}")
                self.rounds += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        except OSError as error:
            self.error = error

    def data(self, number):
        """What it writes in one of its rounds."""
        return b"%d %d " % (self.number, number) * 3000

    def write_one(self, path):
        """Write a file, put it in the place of another, and read it."""
        data = self.data(self.rounds)
        new = path.with_name(f"new{self.number}")
        with new.open("wb") as file:
            file.write(data)
            if self.rounds % 3 == 0:
                file.flush()
                os.fsync(file.fileno())
        if self.rounds % 5 == 4:
            path.unlink(missing_ok=True)
        new.rename(path)
        assert path.read_bytes() == data


def writing(folder: Path, count: int = 4) -> list[Writer]:
    """Programs that write in a folder from now on."""
    writers = [Writer(folder, number) for number in range(count)]
    for writer in writers:
        writer.start()
    return writers


def end(writers: list[Writer]) -> None:
    """Have them end; none has seen an error."""
    for writer in writers:
        writer.over.set()
    for writer in writers:
        writer.join(60)
    assert [writer.error for writer in writers] == [None] * len(writers)


def check(writers: list[Writer], stored: Path) -> None:
    """What they wrote last is in the folder at the server, and nothing is there twice."""
    handle = os.open(writers[0].folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    assert [name for name in os.listdir(stored) if "(conflict " in name] == []
    for writer in writers:
        for last in range(max(0, writer.rounds - 20), writer.rounds):
            assert (stored / f"w{writer.number}-{last % 20}").read_bytes() == writer.data(last)
