"""The registry of the kernel's backends: one entry each, with all that other packages need to know of it.

An entry names its functions as "module:function" and loads them when they are called, so that neither a command's --help nor a
server on the CPU imports what belongs to a GPU. To add a backend, add an entry and the folder that it names.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

EXIT_DEVICE_LOST = 75  # sysexits.h EX_TEMPFAIL: a process that lost its device ends with it, and is to be started again


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """One backend.

    Attributes:
        name: as in kernel.backend and --backend.
        opener: makes the backend from BackendSettings of augserver.kernel; raises BackendError if it cannot.
        probe: says whether opening could get as far as a device, without asking one; "": always.
        findings: the lines of `augserver doctor` that are this backend's alone, each a Finding; "": none.
        device_option: the option of `augserver serve` that picks one device; "": it has no devices, and NAME:N means N processes.
    """

    name: str
    opener: str
    probe: str = ""
    findings: str = ""
    device_option: str = ""

    @property
    def has_devices(self) -> bool:
        """Whether it computes on devices, which have memory of their own and can be lost to a process."""
        return bool(self.device_option)

    def open(self, settings: Any) -> Any:
        """The backend, opened: a Backend of augserver.kernel, from its BackendSettings."""
        return _load(self.opener)(settings)

    def may_open(self) -> bool:
        """Whether opening it could get as far as a device."""
        return not self.probe or bool(_load(self.probe)())

    def find(self) -> list[Any]:
        """Its own lines of `augserver doctor`."""
        return list(_load(self.findings)()) if self.findings else []


BACKENDS = {
    entry.name: entry
    for entry in (
        BackendEntry(
            name="cuda",
            opener="augserver.kernel.cuda.backend:open_cuda",
            probe="augserver.kernel.cuda.driver:may_open",
            findings="augserver.cli.doctor.cuda_findings:cuda_findings",
            device_option="--cuda-devices",
        ),
        BackendEntry(name="cpu", opener="augserver.kernel.cpu:open_cpu"),
    )
}
"""By name, in the order in which "auto" tries them; the last one opens everywhere."""

BACKEND_CHOICES = ("auto", *reversed(BACKENDS))
"""What a user may name."""

DEVICE_BACKEND = next(entry.name for entry in BACKENDS.values() if entry.has_devices)
"""What a scheduler's "one GPU" means."""


def _load(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
