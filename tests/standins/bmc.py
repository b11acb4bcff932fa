"""A BMC with fans on UDP port of 127.0.0.1: IPMI 1.5 without authentication, as far as ipmitool's `lan` interface asks.

It knows the commands with which a Supermicro board and an old iDRAC hand their fans over, and refuses a duty as they do
while they drive the fans themselves.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

NOT_KNOWN, NOT_NOW = 0xC1, 0xD5  # completion codes: invalid command, not in the present state
APP, OEM = 0x06, 0x30
AUTOMATIC = -1
WRAPPER = '#!/bin/sh\nexec {ipmitool} -I lan -A NONE -H 127.0.0.1 -p {port} "$@"\n'


class Bmc:
    """The controller. `duties` are percent by zone, `AUTOMATIC` where it drives the fans itself."""

    def __init__(self, maker: str) -> None:
        self.mode = 2  # of a Supermicro board: optimal
        self.duties = {0: AUTOMATIC, 1: AUTOMATIC}
        self.said: list[str] = []  # the OEM commands, in hexadecimal
        self.deaf = False
        self._oem: Callable[[bytes], bytes] = {"supermicro": self._supermicro, "dell": self._dell}[maker]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def wrapper(self, folder: Path, ipmitool: str) -> None:
        """An ipmitool that talks to this BMC."""
        path = folder / "ipmitool"
        path.write_text(WRAPPER.format(ipmitool=ipmitool, port=self.port), encoding="utf-8")
        path.chmod(0o755)

    def _serve(self) -> None:
        while True:
            packet, sender = self._socket.recvfrom(1024)
            if packet[3] == 0x06:  # a presence ping
                self._socket.sendto(
                    b"\x06\x00\xff\x06\x00\x00\x11\xbe\x40"
                    + packet[9:10]
                    + b"\0\x10"
                    + b"\0" * 8
                    + b"\x81"
                    + b"\0" * 7,
                    sender,
                )
            elif not self.deaf:
                self._socket.sendto(self._answer(packet), sender)

    def _answer(self, packet: bytes) -> bytes:
        session, message = packet[4:13], packet[14:]
        target, function, _, source, sequence, command = message[:6]
        data = self._do(function >> 2, command, message[6:-1])
        head = bytes([source, (function >> 2 | 1) << 2])
        body = bytes([target, sequence, command]) + data
        told = head + _checksum(head) + body + _checksum(body)
        return b"\x06\x00\xff\x07" + session + bytes([len(told)]) + told

    def _do(self, function: int, command: int, data: bytes) -> bytes:
        if function == OEM:
            self.said.append(bytes([command, *data]).hex())
            return self._oem(bytes([command, *data]))
        answers = {
            0x38: b"\0\x01\x01\x08\0\0\0\0\0",  # channel 1 takes sessions without authentication
            0x39: b"\0" + b"\x01\0\0\0" + b"\0" * 16,
            0x3A: b"\0\0" + b"\x01\0\0\0" + b"\x01\0\0\0" + b"\x04",
            0x3B: b"\0\x04",
            0x3C: b"\0",
            0x01: b"\0\x20\x01\x02\x10\x51\x02\x7c\x2a\0\x16\x08",
        }
        return answers.get(command, bytes([NOT_KNOWN])) if function == APP else bytes([NOT_KNOWN])

    def _supermicro(self, words: bytes) -> bytes:
        if words == b"\x45\x00":
            return bytes([0, self.mode])
        if words[:2] == b"\x45\x01":
            self.mode = words[2]
            self.duties = dict.fromkeys(self.duties, 100 if self.mode == 1 else AUTOMATIC)
            return b"\0"
        if words[:3] == b"\x70\x66\x01" and words[3] in self.duties:
            if self.mode != 1:
                return bytes([NOT_NOW])
            self.duties[words[3]] = words[4]
            return b"\0"
        return bytes([NOT_KNOWN])

    def _dell(self, words: bytes) -> bytes:
        if words[:2] == b"\x30\x01":
            self.mode = words[2]
            self.duties = {0: AUTOMATIC} if self.mode else {0: self.duties[0]}
            return b"\0"
        if words[:3] == b"\x30\x02\xff":
            if self.mode:
                return bytes([NOT_NOW])
            self.duties = {0: words[3]}
            return b"\0"
        return bytes([NOT_KNOWN])


def _checksum(data: bytes) -> bytes:
    return bytes([-sum(data) & 0xFF])
