"""What to say of an error of the operating system: the file that it is about and the step that helps."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

ELSEWHERE = "choose another folder with --out"
ELSEWHERE_FOR_TEMPORARY = "set TMPDIR to another folder"
DEBUG = "edgeprune --debug COMMAND shows where"
# What this user may do about it; {elsewhere} is one of the two above.
STEPS = {
    errno.ENOSPC: "free some space there, or {elsewhere} on another disk",
    errno.EDQUOT: "free some of this user's quota there, or {elsewhere} on another disk",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or {elsewhere} on another disk",
    errno.EROFS: "it is on a read-only file system: {elsewhere}",
    errno.EACCES: "give this user the right to it (ls -ld shows who has it), or {elsewhere}",
    errno.EPERM: "give this user the right to it (ls -ld and lsattr show who has it), or {elsewhere}",
    errno.ENOTDIR: "a part of this path is a file where a folder is needed: {elsewhere}",
    errno.EISDIR: "it is a folder where a file is needed: move it away, or {elsewhere}",
    errno.ENOTEMPTY: "something else writes there: end it and run it again, or {elsewhere}",
    errno.EEXIST: "a file is where a folder is needed: move it away, or {elsewhere}",
    errno.ENOENT: "something else removed it meanwhile, or its disk is gone: run it again",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead in a circle: {elsewhere}",
    errno.EIO: "the disk fails (see dmesg): {elsewhere} on another disk",
    errno.ESTALE: "the network's disk was lost: mount it again, or {elsewhere}",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "close other programs: the system has too many files open",
    errno.ENOMEM: "close other programs: the system has no memory left",
    errno.EAGAIN: "close other programs: the system starts no more of them",
}


def line(problem: OSError) -> str:
    """One line on an error, "" for one without a file and without a known cause: that is a fault of edgeprune."""
    name = problem.filename if isinstance(problem.filename, (str, os.PathLike)) else None
    step = STEPS.get(problem.errno or 0, "")
    what = problem.strerror or str(problem)
    if name is None:
        if step and "{elsewhere}" not in step:  # of the whole system, no file's
            return f"the system refused: {what}; {step}"
        if what.startswith("No usable temporary directory"):
            return f"{what}; free some space in one of them, or {ELSEWHERE_FOR_TEMPORARY}"
        # What edgeprune writes names its file: this is the standard output, most likely.
        return f"cannot write the output: {what}; {step.format(elsewhere='send it elsewhere')}" if step else ""
    elsewhere = ELSEWHERE_FOR_TEMPORARY if _is_temporary(Path(name)) else ELSEWHERE
    return f"cannot use {os.fspath(name)}: {what}; {step.format(elsewhere=elsewhere) or DEBUG}"


def _is_temporary(path: Path) -> bool:
    """True for a file of a folder that edgeprune made in the system's temporary one."""
    try:
        return path.absolute().relative_to(tempfile.gettempdir()).parts[0].startswith("edgeprune-")
    except (ValueError, IndexError, OSError):
        return False
