"""Pure decisions and the records they speak of. No Dagster, no I/O, no clock."""
