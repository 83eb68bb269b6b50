"""The local profile's own services: Dagster's code server, webserver and daemon, and MLflow's server."""
