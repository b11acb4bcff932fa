"""Debian's liquidctl, its own command line and its own driver, over a liquid cooler that is a file.

The file, named by LIQUID_COOLER, is JSON: what the cooler measures, and the reports that were written to it. It is a
NZXT Kraken X53: where its answers hold what is read off liquidctl's driver for it.
"""

import json
import os
import sys
from pathlib import Path

from liquidctl import cli
from liquidctl.driver.kraken3 import KrakenX3
from liquidctl.util import Hue2Accessory

STATE = Path(os.environ["LIQUID_COOLER"])
VENDOR, PRODUCT = 0x1E71, 0x2014
LENGTH = 64


class Hid:
    """The reports of a USB cooler."""

    vendor_id, product_id, release_number = VENDOR, PRODUCT, 0x0200
    serial_number = bus = address = ""
    path = b""
    port = None

    def __init__(self):
        self.queue = []

    def open(self, **_):
        pass

    def close(self, **_):
        pass

    def clear_enqueued_reports(self):
        self.queue.clear()

    def write(self, data):
        state = json.loads(STATE.read_text())
        state["written"].append(bytes(data).hex())
        STATE.write_text(json.dumps(state))
        if data[0] in (0x10, 0x20):  # asked for its firmware or its lights: the answer's number is one higher
            answer = [data[0] + 1, data[1], *[0] * (LENGTH - 2)]
            if data[0] == 0x20:
                answer[14] = 3  # channels of lights: outside, ring and logo
                answer[21], answer[27] = Hue2Accessory.KRAKENX_GEN4_RING.value, Hue2Accessory.KRAKENX_GEN4_LOGO.value
            self.queue.append(answer)
        return len(data)

    def read(self, _length, **__):
        if self.queue:
            return self.queue.pop(0)
        state = json.loads(STATE.read_text())
        report = [0x75, 0x02, *[0] * (LENGTH - 2)]
        report[15], report[16] = divmod(round(state["celsius"] * 10), 10)
        return report


def find(vendor=None, product=None, **_):
    if vendor in (None, VENDOR) and product in (None, PRODUCT):
        _, _, name, options = next(match for match in KrakenX3._MATCHES if match[1] == PRODUCT)
        yield KrakenX3(Hid(), name, **options)


cli.find_liquidctl_devices = find
sys.exit(cli.main())
