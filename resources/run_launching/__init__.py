"""How Dagster's runs get a process or a pod."""
