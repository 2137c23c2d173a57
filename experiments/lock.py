"""One run in a folder: a lock of plain files, which says who holds it, on network disks too.

Every process first announces itself in a file of its own, then looks for those of others. Nobody
replaces the file of another, so two that begin at once see each other, and both step back.
"""

import _thread
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BEAT = 10.0  # seconds between two signs of life of a holder
PATIENCE = 120.0  # seconds without one: it is dead. A network disk may show them a minute late
LOOK = 1.0  # seconds between two looks for one
TRIES = 3  # of two that step back at once, one soon finds the folder free


def take(folder: Path) -> Path:
    """The file by which this process holds a folder. Leaves, naming the holder, if another does.

    The lock of a process that is gone is taken over: one of this machine by its number and the
    time when it began, one of another machine by its silence.
    """
    for wait in (0.0, *(random.uniform(0.1, 0.5) for _ in range(TRIES - 1))):
        time.sleep(wait)
        mine = folder / f".lock.{uuid.uuid4().hex[:8]}"
        with mine.open("x") as file:
            json.dump(_me(), file)
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

    A holder that was silent for too long, and was taken over, is interrupted when it wakes.
    """
    over, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                os.utime(mine)
            except FileNotFoundError:
                lost.set()
                _thread.interrupt_main()
                over.set()
            except OSError:  # the disk is away for a moment
                pass

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt as stop:
        if lost.is_set():
            raise SystemExit(
                f"error: this run was silent for over {PATIENCE:.0f} s, and another process took "
                f"{mine.parent} over; look there before you go on with --resume"
            ) from stop
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
    holder = _read(path)
    if holder and holder["place"] is not None and holder["place"] == _place():
        return holder["start"] == _start(holder["pid"])
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


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "place": _place(), "start": _start(pid)}


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says, or None where that is cut or damaged."""
    try:
        said = json.loads(path.read_bytes())
        return said if said.keys() == _me().keys() and isinstance(said["pid"], int) else None
    except (OSError, ValueError, AttributeError):
        return None


def _name(path: Path) -> str:
    holder = _read(path)
    return f"process {holder['pid']} on {holder['host']}" if holder else f"the holder of {path}"


def _place() -> str | None:
    """Where process numbers mean the same: a host since it was booted, or a container in it."""
    if os.name != "posix":  # os.kill would end a process there
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


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
