"""A lock that admits one run to a folder. It consists of plain files, and works on network disks.

Each process first creates a lock file of its own, then looks for the files of others. No process
replaces the file of another. So if two processes start at once, each sees the other, both back off,
and both try again. The files are empty. A file's name says who holds the lock, and a name cannot be
half written.
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

BEAT = 10.0  # seconds between two heartbeats of a holder
PATIENCE = 120.0  # a holder without heartbeat for so many seconds is dead; disks may lag a minute
LOOK = 1.0  # seconds between two checks for a heartbeat
TRIES = 3  # if two processes back off at once, one of them soon finds the folder free


class Holder(NamedTuple):
    """A process, as described by the name of its lock file."""

    pid: int
    start: str  # when it started, in its system's own format
    place: str  # the system within which its number identifies it
    host: str

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The holder of a lock, or None if the file's name does not say."""
        *_, tail = path.name.split(".", 3)
        parts = tail.split(".", 3)
        return cls(int(parts[0]), *parts[1:]) if len(parts) == 4 and parts[0].isdigit() else None

    def lock(self, folder: Path) -> Path:
        """The path of a lock file for this process."""
        return folder / ".".join((".lock", uuid.uuid4().hex[:8], *map(str, self)))


def take(folder: Path) -> Path:
    """Lock a folder for this process, and return the lock file. Exits if another process holds it.

    A lock whose holder is dead is taken over. On this machine, the holder's number and start time
    tell whether it is alive. On other machines, its heartbeat does.
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
        f"with --results. If you are sure that it has ended, delete {holder}"
    )


@contextmanager
def held(mine: Path) -> Iterator[None]:
    """Update the lock's heartbeat while the block runs, then release the lock.

    If the heartbeat stops for too long, another process may take the lock over. This process is
    then interrupted as soon as it notices. If it ignores interrupts, as a background job of a shell
    does, it exits at once.
    """
    over, lost = threading.Event(), threading.Event()
    told = (
        f"error: this run was silent for over {PATIENCE:.0f} s, and another process took "
        f"over {mine.parent}; look there before you continue with --resume"
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
            except OSError:  # the disk is unreachable for a moment
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
    """The lock of another live process, if there is one. Locks of dead processes are removed."""
    for path in sorted(folder.glob(".lock.*")):
        if path == mine:
            continue
        if _lives(path, mine):
            return path
        print(f"{_name(path)} has ended; its lock on {folder} is removed", flush=True)
        path.unlink(missing_ok=True)
    return None


def _lives(path: Path, mine: Path) -> bool:
    """Whether the holder of a lock is alive. If only its heartbeat can tell, wait for one."""
    holder = Holder.of(path)
    if holder and holder.place and holder.place == _place():
        return holder.start == _start(holder.pid)
    try:
        last = path.stat().st_mtime
        silence = mine.stat().st_mtime - last
        if silence < PATIENCE:
            most = f"{PATIENCE - silence:.0f} s at most"
            print(f"waiting for a heartbeat of {_name(path)}, {most}", flush=True)
        while mine.stat().st_mtime - last < PATIENCE:
            if path.stat().st_mtime != last:
                return True
            time.sleep(LOOK)
            os.utime(mine)  # so that both times come from the clock of the disk
    except FileNotFoundError:  # it has just ended
        return False
    return False


def this_process() -> Holder:
    """The current process."""
    pid = os.getpid()
    return Holder(pid, _start(pid) or "", _place(), socket.gethostname())


def _name(path: Path) -> str:
    holder = Holder.of(path)
    return f"process {holder.pid} on {holder.host}" if holder else f"the holder of {path}"


def _place() -> str:
    """Identifies the system within which process numbers are unique: a booted host or container."""
    if os.name != "posix":  # on other systems, `os.kill(pid, 0)` would end the process
        return ""
    place = socket.gethostname()
    with suppress(OSError):
        place += Path("/proc/sys/kernel/random/boot_id").read_text()
        place += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """When a process started, in the system's format; "" if unknown, None if it has ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # it belongs to another user
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in ("Z", "X") else fields[19]
