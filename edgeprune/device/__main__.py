"""The agent, one process for one thing: `python agent.pyz WHAT`.

    job.json                              run this job (see `job.Job`; paths are relative to the working folder)
    conditions SENSOR...                  read sensors
    probe SENSOR,... RUNTIME,... [LIBRARY]   look at what is there
    count                                 run job.json between marks for an emulator (see `count`)

What conditions and probe see is one line of JSON on the standard output. A job leaves

    samples_path   JSON lines, appended as they come (see `samples.Line`)
    result_path    one JSON object, renamed into place at the very end: all the rest, or {"error": {message, hint}}

SIGINT, SIGTERM and SIGHUP leave no file.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import NoReturn, Optional

from . import Failure


def stop(number: int, _frame: Optional[object]) -> NoReturn:
    """Leave by way of every `finally`, with the exit status that a shell gives for this signal."""
    raise SystemExit(128 + number)


def run_job(path: Path) -> None:
    """Run a job, write its result; Failure, written as the result too, if it cannot be run."""
    from .job import read_job
    from .samples import Log, write_result
    from .session import measure

    job = read_job(path)
    log = Log(job.samples_path)
    try:
        try:
            result = measure(job, log)
        except Failure as failure:
            write_result(Path(job.result_path), {"error": {"message": str(failure), "hint": failure.hint}})
            raise
        write_result(Path(job.result_path), result)
    except SystemExit:
        log.path.unlink()
        raise
    finally:
        log.close()


def act(what: str, *details: str) -> None:
    """Do one thing, importing what it takes and no more: a device compiles it each time."""
    if what == "conditions":
        from .sensors import read_conditions

        print(json.dumps(read_conditions(list(details))))
    elif what == "probe":
        from .probe import look

        print(json.dumps(look(*details)))
    elif what == "count":
        from .count import count

        count()
    else:
        run_job(Path(what))


def main() -> NoReturn:
    """Exit status: 0 done; 1 failed, stderr's last line says why; 128 + n stopped by signal n."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        act(*(sys.argv[1:] or ["job.json"]))
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
