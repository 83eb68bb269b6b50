"""Services of the local profile: Dagster's code server, webserver and daemon, and MLflow's server."""
