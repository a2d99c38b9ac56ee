"""python refuse_syscalls.py memfd_create:EPERM COMMAND...: run COMMAND in a sandbox that answers a system call with an error.

A seccomp filter, as container runtimes set them; it stays with the process and its children. x86-64 alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"sendmsg": 46, "recvmsg": 47, "flock": 73, "setpriority": 141, "sched_getaffinity": 204, "memfd_create": 319}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of BPF: a word of the call's data; skip two ways; the answer
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def refuse(call: str, number: int) -> None:
    """Answer `call` with errno `number` from now on."""
    steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, NUMBERS[call]), (RETURN, 0, 0, ERRNO | number), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    name, _, error = sys.argv[1].partition(":")
    refuse(name, getattr(errno, error))
    os.execv(sys.argv[2], sys.argv[2:])
