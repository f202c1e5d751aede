"""From a ticket back to the PyTorch module: the task is imported again and the weights of one seed are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune import tasks
from edgeprune.errors import TaskError, TicketError
from edgeprune.mask import Array
from edgeprune.task import Data, Task
from edgeprune.tasks.plain import plain_name, without_parametrizations
from edgeprune.tasks.seeds import kept
from edgeprune.ticket import Ticket


def reload_task(ticket: Ticket) -> Task:
    """Import the ticket's task again. TicketError that says so if it moved or changed since the ticket was found."""
    reference = ticket.spec.task
    if ticket.task_file:
        function = reference.rpartition(":")[2]
        reference = f"{ticket.task_file}:{function}"
        if not Path(ticket.task_file).is_file():
            raise TicketError(
                f"the task of ticket {ticket.path.name} has moved: {ticket.task_file} does not exist",
                "put the file back, or find the ticket again",
            )
    try:
        loaded = tasks.load(reference)
    except TaskError as problem:
        raise TicketError(
            f"the task {reference} of ticket {ticket.path.name} cannot be imported any more: {problem.message}",
            problem.hint or "put it back, or find the ticket again",
        ) from None
    if loaded.source_sha256 != ticket.spec.task_sha256:
        raise TicketError(
            f"the task {reference} has changed since ticket {ticket.path.name} was found (its source differs)",
            "undo the change, or find the ticket again",
        )
    with loaded.reads.recording("model"):
        loaded.task.model()
    known = ticket.spec.files
    for name, sha256 in loaded.files().items():
        if known.get(name, sha256) != sha256:
            raise TicketError(
                f"{name}, which the task {reference} reads, has changed since ticket {ticket.path.name} was found",
                "put the old file back, or find the ticket again",
            )
    return loaded.task


def reload_data(ticket: Ticket, task: Task, data_dir: Optional[Path]) -> Data:
    """Load the task's data again, from the folder given or else the ticket's.

    TicketError if they are not those that the ticket was found on."""
    recorded = Path(ticket.data_dir) if ticket.data_dir else None
    folder = data_dir or recorded
    try:
        with kept():
            data = tasks.load_data(task, folder)
    except TaskError as problem:
        if data_dir is not None or recorded is None or recorded.is_dir():
            raise
        raise TicketError(
            f"the data of ticket {ticket.path.name} were read from {recorded}, which is no folder now: "
            f"{problem.message}",
            "put it back, or name another folder with these data: --data-dir",
        ) from None
    if tasks.data_sha256(data) != ticket.spec.data_sha256:
        place = f" in {folder}" if folder else ""
        raise TicketError(
            f"the data of task {ticket.task_name}{place} differ from those that ticket {ticket.path.name} was found on",
            f"{_same_data(ticket, data_dir)}, or find the ticket again",
        )
    return data


def _same_data(ticket: Ticket, data_dir: Optional[Path]) -> str:
    """What to do to have the data that a ticket was found on. data_dir: what the user gave."""
    if data_dir is not None:
        where = f"they were read from {ticket.data_dir}" if ticket.data_dir else "find was given none"
        return f"leave --data-dir out ({where}), or point it at the same data"
    if ticket.data_dir:
        return "put the same files back there, or name a folder that has them: --data-dir"
    if ":" in ticket.spec.task:
        return "let the task read the same files as then and draw random data from a fixed seed"
    return "point $EDGEPRUNE_DATA or --data-dir at the same files"


def load_network(task: Task, weights: dict[str, Array]) -> nn.Module:
    """A module of the task with these weights, in evaluation mode, parametrized no more: see `tasks.plain`."""
    model = task.model()
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    except RuntimeError as problem:
        first = str(problem).splitlines()[-1].strip()
        raise TicketError(
            f"the weights do not fit the model of task {task.name}: {first}",
            "bring back the packages that its model was made with, or find the ticket again",
        ) from None
    return without_parametrizations(model.eval())  # type: ignore[no-any-return]


def masks_of(network: nn.Module, mask: Mapping[str, Array], variant: str) -> dict[str, NDArray[np.bool_]]:
    """The masks to certify, a shared weight once, by PyTorch's name: the ticket's; for the dense twin whatever zeros
    its weights happen to have."""
    parameters = dict(network.named_parameters())
    plain = {plain_name(name): array for name, array in mask.items()}
    if variant == "ticket":
        return {name: np.array(array) for name, array in plain.items() if name in parameters}
    return {name: parameters[name].detach().numpy() != 0 for name in plain if name in parameters}
