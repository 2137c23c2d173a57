"""One run in a folder: a lock of plain files, whose names say who holds it; on network disks too.

Every process first makes a file of its own, then looks for those of others. Nobody replaces the
file of another, so two that begin at once see each other, and both step back. The files are empty:
a name is there whole or not at all.
"""

import _thread
import hashlib
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

BEAT = 10.0  # seconds between two signs of life of a holder
PATIENCE = 120.0  # seconds without one: it is dead. A network disk may show them a minute late
LOOK = 1.0  # seconds between two looks for one
TRIES = 3  # of two that step back at once, one soon finds the folder free


class Holder(NamedTuple):
    """A process, as the name of its lock has it."""

    pid: int
    start: str  # when it began, in the words of its system
    place: str  # where its number means it
    host: str

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The holder of a lock, or None where its name says nothing."""
        *_, tail = path.name.split(".", 3)
        parts = tail.split(".", 3)
        return cls(int(parts[0]), *parts[1:]) if len(parts) == 4 and parts[0].isdigit() else None

    def lock(self, folder: Path) -> Path:
        """A lock of this process."""
        return folder / ".".join((".lock", uuid.uuid4().hex[:8], *map(str, self)))


def take(folder: Path) -> Path:
    """The file by which this process holds a folder. Leaves, naming the holder, if another does.

    The lock of a process that is gone is taken over: one of this machine by its number and the
    time when it began, one of another machine by its silence.
    """
    for wait in (0.0, *(random.uniform(0.1, 0.5) for _ in range(TRIES - 1))):
        time.sleep(wait)
        mine = this_process().lock(folder)
        mine.open("x").close()
        try:
            holder = _other(folder, mine)
        except BaseException:
            mine.unlink(missing_ok=True)
            raise
        if holder is None:
            return mine
        name = _name(holder)
        mine.unlink(missing_ok=True)
    raise SystemExit(
        f"error: {name} is at work in {folder}. Wait for it or stop it, or name another folder "
        f"with --results. If you know that it is gone, remove {holder}"
    )


@contextmanager
def held(mine: Path) -> Iterator[None]:
    """Show signs of life while the block runs, then give the lock back.

    A holder that was silent for too long, and was taken over, is interrupted when it wakes; one
    that ignores interrupts, as a shell's job in the background does, ends at once.
    """
    over, lost = threading.Event(), threading.Event()
    told = (
        f"error: this run was silent for over {PATIENCE:.0f} s, and another process took "
        f"{mine.parent} over; look there before you go on with --resume"
    )

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                os.utime(mine)
            except FileNotFoundError:
                lost.set()
                over.set()
                if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
                    print(told, file=sys.stderr, flush=True)
                    os._exit(1)
                _thread.interrupt_main()
            except OSError:  # the disk is away for a moment
                pass

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt as stop:
        if lost.is_set():
            raise SystemExit(told) from stop
        raise
    finally:
        over.set()
        thread.join()
        mine.unlink(missing_ok=True)


def _other(folder: Path, mine: Path) -> Path | None:
    """The lock of another process that lives; those of the dead are removed."""
    for path in sorted(folder.glob(".lock.*")):
        if path == mine:
            continue
        if _lives(path, mine):
            return path
        print(f"{_name(path)} is gone: its lock of {folder} is removed", flush=True)
        path.unlink(missing_ok=True)
    return None


def _lives(path: Path, mine: Path) -> bool:
    """Whether the holder of a lock lives; waits for a sign of life where only that can tell."""
    holder = Holder.of(path)
    if holder and holder.place and holder.place == _place():
        return holder.start == _start(holder.pid)
    try:
        last = path.stat().st_mtime
        silence = mine.stat().st_mtime - last
        if silence < PATIENCE:
            most = f"{PATIENCE - silence:.0f} s at most"
            print(f"waiting for a sign of life of {_name(path)}, {most}", flush=True)
        while mine.stat().st_mtime - last < PATIENCE:
            if path.stat().st_mtime != last:
                return True
            time.sleep(LOOK)
            os.utime(mine)  # by the clock of the disk, as the other's
    except FileNotFoundError:  # it has just ended
        return False
    return False


def this_process() -> Holder:
    """The process that asks."""
    pid = os.getpid()
    return Holder(pid, _start(pid) or "", _place(), socket.gethostname())


def _name(path: Path) -> str:
    holder = Holder.of(path)
    return f"process {holder.pid} on {holder.host}" if holder else f"the holder of {path}"


def _place() -> str:
    """Where process numbers mean the same: a host since it was booted, or a container in it."""
    if os.name != "posix":  # to ask for a process by its number would end it there
        return ""
    place = socket.gethostname()
    with suppress(OSError):
        place += Path("/proc/sys/kernel/random/boot_id").read_text()
        place += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """When a process began, in the system's own words, "" where it has none; None if it is gone."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # that of another user
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in ("Z", "X") else fields[19]
