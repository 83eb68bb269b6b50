"""This machine's processes, locks, files, ports, sockets and disk space. Knows nothing about models or Dagster."""
