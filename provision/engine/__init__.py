"""Everything that touches a host. Nothing outside this package imports ansible_runner, paramiko or pytest."""
