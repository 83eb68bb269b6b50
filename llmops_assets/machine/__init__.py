"""This machine: processes, locks, files, ports, sockets, disk space. It knows nothing of models or of Dagster."""
