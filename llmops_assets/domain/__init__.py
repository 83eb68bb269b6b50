"""Pure decisions and the records that they use. No Dagster, no I/O, no clock."""
