"""A Dagster on another machine, through its webserver's GraphQL API."""
