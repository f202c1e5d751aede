"""Runs inside the emulated machine: calls machine code with a number.

code.txt: lines of CODE, words in hexadecimal joined by commas, and NUMBER. Prints what the code returns.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

for line in Path("code.txt").read_text().splitlines():
    code, number = line.split()
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"".join(int(word, 16).to_bytes(4, "little") for word in code.split(",")))
    call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    print(call(int(number)))
