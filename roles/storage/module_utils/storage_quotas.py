"""Project quotas of xfs: a limit for a directory and what is below it. Python 3.8."""

from __future__ import annotations

import re
import zlib

GB = 10**9


def project(path):
    """A number that belongs to the path alone; 0 is everything that has no project."""
    return (zlib.crc32(path.encode()) & 0x7FFFFFFF) or 1


def limit_of(host, mountpoint, path):
    """The hard limit in GB that the files of a directory count against; 0 where there is none."""
    number = project(path)
    mark, flags, _ = host.must("lsattr", "-pd", path).split(None, 2)
    reported = host.must("xfs_quota", "-x", "-c", "report -p -b -n -N", mountpoint)
    hard = re.search(r"^#%d\s+\d+\s+\d+\s+(\d+)" % number, reported, re.MULTILINE)
    if "P" not in flags or int(mark) != number or not hard:
        return 0
    return (int(hard.group(1)) * 1024 + GB // 2) // GB


def limit(host, mountpoint, path, gigabytes):
    number = project(path)
    host.must("xfs_quota", "-x", "-c", "project -s -p %s %d" % (path, number), mountpoint)
    host.must("xfs_quota", "-x", "-c", "limit -p bhard=%dk %d" % (gigabytes * GB // 1024, number), mountpoint)
