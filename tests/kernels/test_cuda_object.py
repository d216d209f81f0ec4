"""The CUDA shared object holds code for every architecture it promises, of every source."""

import struct
import subprocess

import pytest

CONTAINER = 0xBA55ED50
PTX, CUBIN = 1, 2
# The newest devices compile the PTX of sm_80 when they start; sm_80 and sm_90a run their own code.
PROMISED = {(PTX, 80), (CUBIN, 80), (CUBIN, 90)}


def section(library, name: str) -> bytes:
    """The bytes of one section of an ELF file."""
    command = ["readelf", "--section-headers", "--wide", library]
    headers = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    row = next(line for line in headers.splitlines() if f" {name} " in line)
    offset, size = (int(word, 16) for word in row.split("]")[1].split()[3:5])
    return library.read_bytes()[offset : offset + size]


def containers(data: bytes):
    """One set of (kind, architecture) for each source, in the order of linking.

    A container is magic u32, version u16, header bytes u16, payload bytes u64, and entries of
    kind u16, version u16, header bytes u32, payload bytes u64, ..., architecture u32 at byte 28.
    """
    at = 0
    while at + 16 <= len(data):
        magic, _, header, payload = struct.unpack_from("<IHHQ", data, at)
        if magic != CONTAINER:
            at += 8  # alignment
            continue
        entry, end = at + header, at + header + payload
        found = set()
        while entry < end:
            kind, _, entry_header, entry_payload = struct.unpack_from("<HHIQ", data, entry)
            found.add((kind, *struct.unpack_from("<I", data, entry + 28)))
            entry += entry_header + entry_payload
        yield found
        at = end


def test_each_source_is_there_for_each_architecture(kvlab_command):
    library = kvlab_command.with_name("libkvlab_cuda.so")
    if not library.exists():
        pytest.skip("this build has no CUDA object (KVLAB_CUDA=OFF)")
    found = list(containers(section(library, ".nv_fatbin")))
    assert found
    assert all(container == PROMISED for container in found), found
